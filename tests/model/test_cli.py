import json
from pathlib import Path

import pytest

from model import Recognizer
from model.checkpoint import CONFIG_FILE, write_checksums
from model.cli import main

TEXT = "Kawhi Leonard wins the NBA award"


def test_one_post_is_answered_as_json(
    tiny_checkpoint: Path, tmp_path: Path, jpeg: bytes, recognizer: Recognizer, capsys: pytest.CaptureFixture[str]
) -> None:
    image = tmp_path / "photo.jpg"
    image.write_bytes(jpeg)
    assert main([TEXT, "--image", str(image), "--checkpoint", str(tiny_checkpoint), "--device", "cpu"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["text"], answer["image_used"]) == (TEXT, True)
    assert [found["word"] for found in answer["entities"]] == [e.word for e in recognizer.recognize(TEXT, image)]
    assert set(answer["entities"][0]) == {"entity_group", "word", "start", "end", "score"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([TEXT, "--image", "missing.jpg"], "missing.jpg"),
        ([TEXT, "--device", "toaster"], "device 'toaster' is none of"),
        (["x " * 200], "at most 128"),
    ],
)
def test_a_mistake_is_one_line_and_status_2(
    tiny_checkpoint: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert main([*arguments, "--checkpoint", str(tiny_checkpoint)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line


def test_weights_that_do_not_fit_print_one_line(tiny_checkpoint: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """transformers would add a line for every tensor."""
    config = tiny_checkpoint / CONFIG_FILE
    config.write_text(config.read_text("utf-8").replace('"max_span_width": 4', '"max_span_width": 8'), "utf-8")
    write_checksums(tiny_checkpoint)
    assert main([TEXT, "--checkpoint", str(tiny_checkpoint)]) == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert "model.safetensors: does not fit config.json, mismatched keys" in line
