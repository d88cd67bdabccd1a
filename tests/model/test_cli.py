import gc
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from model import Recognizer
from model.checkpoint import CONFIG_FILE, write_checksums
from model.cli import main
from tests.model.display.terminals import terminal

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
        ([TEXT, "--explain", "a.png"], "--explain draws on the post's photo: name it with --image"),
        ([TEXT, "--image", "a.jpg", "--explain", "a.svg"], "a.svg: a picture is written as .png or .pdf, not as .svg"),
        ([TEXT, "--image", "a.jpg", "--explain", "absent/a.png"], "absent/a.png: there is no such folder"),
        ([TEXT, "--device", "toaster"], "device 'toaster' is none of"),
        ([TEXT, "--device", "meta"], "device meta: its tensors have shapes but no values"),
        (["--input", "missing.jsonl", "--output", "-"], "missing.jsonl"),
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


@pytest.fixture
def posts(tmp_path: Path) -> Path:
    path = tmp_path / "posts.jsonl"
    path.write_text("".join(f'{{"id": {i}, "text": "{TEXT} {i}"}}\n' for i in range(5)))
    return path


@pytest.fixture
def command(tiny_checkpoint: Path) -> list[str]:
    return ["--checkpoint", str(tiny_checkpoint), "--device", "cpu"]


def test_the_last_line_and_status_count_errors(
    command: list[str], posts: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    files = ["--input", str(posts), "--output", str(posts.with_name("answers.jsonl"))]
    assert main([*command, *files]) == 0
    assert capfd.readouterr().err == "smner-recognize: 5 posts answered, 0 failed\n"
    with posts.open("a") as file:
        file.write("broken\n")
    assert main([*command, *files]) == 1
    assert capfd.readouterr().err == "smner-recognize: 5 posts answered, 1 failed; 5 of them by an earlier run\n"


def test_answers_of_other_posts_are_status_2(
    command: list[str], posts: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    files = ["--input", str(posts), "--output", str(posts.with_name("answers.jsonl"))]
    assert main([*command, *files]) == 0
    posts.write_text(posts.read_text().replace("wins", "won"))
    capfd.readouterr()
    assert main([*command, *files]) == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert "line 1 of" in line


def test_help_documents_files_and_statuses(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    shown = capsys.readouterr().out
    assert all(word in shown for word in ["--precision", "digest", "exit status", "130", "141", "gzip"])


def test_a_precision_not_supported_is_one_line(
    command: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("model.device.has_bfloat16", lambda _: False)
    assert main([TEXT, *command, "--precision", "bfloat16"]) == 2
    assert capsys.readouterr().err == "smner-recognize: device cpu has no bfloat16; it has float32\n"


def test_the_precision_reaches_the_recognizer(command: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = []
    monkeypatch.setattr(Recognizer, "from_pretrained", lambda *_, **options: chosen.append(options))
    with pytest.raises(AttributeError):
        main([TEXT, *command, "--precision", "bfloat16"])
    assert chosen[0]["precision"] == "bfloat16"


def test_an_interruption_meets_no_finalizer_of_imports() -> None:
    """Compiled patterns leave thousands, and where the first of them ran, Python ignored Ctrl-C."""
    gc.unfreeze()
    assert main(["--input", "absent.jsonl", "--output", "answers.jsonl"]) == 2
    assert gc.get_freeze_count() > 0
    gc.unfreeze()


@pytest.mark.parametrize("error", [RuntimeError("the operator is not\nimplemented for MPS"), OSError("no space")])
def test_a_failing_device_or_disk_is_one_line(
    command: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(Recognizer, "run", fail)
    assert main([TEXT, *command]) == 2
    assert capsys.readouterr().err == f"smner-recognize: {' '.join(str(error).split())}\n"


@pytest.mark.parametrize("arguments", [[TEXT], ["--input", os.devnull, "--output", "-"]])
def test_a_closed_standard_output_is_status_2(
    command: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    monkeypatch.setattr("sys.stdout", None)
    assert main([*command, *arguments]) == 2
    assert capsys.readouterr().err == "smner-recognize: standard output is closed\n"


def test_a_terminal_shows_the_marked_text(
    command: list[str], recognizer: Recognizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with terminal(monkeypatch) as screen:
        assert main([TEXT, *command]) == 0
        printed = screen.plain()
    found = recognizer.recognize(TEXT)
    assert found
    assert all(f" {e.word} {e.entity_group} {e.score:.2f} " in printed for e in found)
    assert printed.endswith(" without a photo\n")


def test_json_is_printed_on_demand(command: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    with terminal(monkeypatch) as screen:
        assert main([TEXT, "--json", *command]) == 0
        assert json.loads(screen.styled())["text"] == TEXT


def test_nothing_in_a_post_commands_the_terminal(command: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """U+009B is CSI in one character, which JSON does not escape."""
    text = "\x1b[31mred \x9b2J \u202e"
    for options in ([], ["--json"]):
        with terminal(monkeypatch, NO_COLOR="1") as screen:
            assert main([text, *options, *command]) == 0
            printed = screen.styled()
        assert not set(printed) & {"\x1b", "\x9b", "\u202e"}
    assert json.loads(printed)["text"] == text


def test_names_in_errors_command_no_terminal(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([TEXT, "--image", "\x1b[31m.jpg", *command]) == 2
    assert "\x1b" not in capsys.readouterr().err


def test_letters_a_terminal_lacks_are_escaped(
    command: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with terminal(monkeypatch, encoding="ascii") as screen:
        assert main(["\x1b東京\udcff", *command]) == 0
        printed = screen.plain()
    assert all(name in printed for name in ("\\u241b", "\\u6771", "\\u4eac", "\\udcff"))
    assert capsys.readouterr().err == ""


@pytest.fixture
def photo(tmp_path: Path, jpeg: bytes) -> Path:
    path = tmp_path / "photo.jpg"
    path.write_bytes(jpeg)
    return path


@pytest.mark.parametrize("name", ["where.png", "where.pdf"])
def test_explain_draws_and_answers_as_ever(
    command: list[str], photo: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    assert main([TEXT, "--image", str(photo), *command]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert main([TEXT, "--image", str(photo), "--explain", str(photo.with_name(name)), *command]) == 0
    shown = capsys.readouterr()
    assert (json.loads(shown.out), shown.err) == (answer, "")
    assert photo.with_name(name).stat().st_size > 10_000


def test_explain_has_a_panel_for_each_entity(command: list[str], photo: Path, recognizer: Recognizer) -> None:
    """The photo comes first; a picture is at least two panels wide."""
    picture = photo.with_name("where.png")
    assert main([TEXT, "--image", str(photo), "--explain", str(picture), *command]) == 0
    panels = 1 + len(recognizer.recognize(TEXT, photo))
    rows = -(-panels // 4)
    columns = max(2, -(-panels // rows))
    with Image.open(picture) as drawn:
        assert drawn.width == 600 * columns + 50 * (columns - 1) + 2 * 75
        assert drawn.height > 600 * rows


def test_explain_says_that_nothing_was_found(command: list[str], photo: Path) -> None:
    picture = photo.with_name("where.png")
    assert main(["", "--image", str(photo), "--explain", str(picture), *command]) == 0
    with Image.open(picture) as drawn:
        assert drawn.width == 2 * 600 + 50 + 2 * 75


def test_the_photo_itself_is_not_overwritten(
    command: list[str], tmp_path: Path, image: Image.Image, capsys: pytest.CaptureFixture[str]
) -> None:
    photo = tmp_path / "photo.png"
    image.save(photo)
    before = photo.read_bytes()
    assert main([TEXT, "--image", str(photo), "--explain", str(photo), *command]) == 2
    assert "is the photo itself" in capsys.readouterr().err
    assert photo.read_bytes() == before


def test_a_model_without_attention_explains_nothing(
    command: list[str], photo: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    load = Recognizer.from_pretrained

    def without_attention(*arguments: Any, **options: Any) -> Recognizer:
        recognizer = load(*arguments, **options)
        recognizer.model.config.use_cma = False
        return recognizer

    monkeypatch.setattr(Recognizer, "from_pretrained", without_attention)
    assert main([TEXT, "--image", str(photo), "--explain", str(photo.with_name("a.png")), *command]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("--explain: tiny was trained without cross-modal attention and looks nowhere")


@pytest.mark.parametrize("option", [["--json"], ["--explain", "a.png"], ["--image", "a.jpg"]])
def test_files_take_no_options_of_texts(capsys: pytest.CaptureFixture[str], option: list[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--input", "a.jsonl", "--output", "-", *option])
    assert f"{option[0]} goes with a text" in capsys.readouterr().err


Process = subprocess.Popen[bytes]


@pytest.fixture
def start(command: list[str]) -> Iterator[list[Process]]:
    """Processes to end after the test."""
    started: list[Process] = []
    yield started
    for process in started:
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream is not None:
                stream.close()


def recognize(start: list[Process], command: list[str], *files: str) -> Process:
    process = subprocess.Popen(
        [sys.executable, "-m", "model.cli", *command, *files],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    start.append(process)
    return process


@pytest.mark.slow
def test_a_pipe_is_answered_as_it_comes(start: list[Process], command: list[str], posts: Path) -> None:
    """Neither the end of the input nor a full batch is waited for; Ctrl-C ends the wait for more."""
    process = recognize(start, command, "--input", "-", "--output", "-")
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(posts.read_bytes())
    process.stdin.flush()
    assert [json.loads(process.stdout.readline())["id"] for _ in range(5)] == list(range(5))
    process.send_signal(signal.SIGINT)
    process.wait(10)
    assert process.returncode == 130
    assert process.stderr is not None
    assert process.stderr.read() == b"smner-recognize: interrupted; the same command goes on\n"


@pytest.mark.slow
def test_a_reader_that_leaves_is_no_error(start: list[Process], command: list[str], posts: Path) -> None:
    """As with ``| head -1``."""
    process = recognize(start, command, "--input", "/dev/stdin", "--output", "/dev/stdout")
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(posts.read_bytes())
    process.stdin.flush()
    process.stdout.readline()
    process.stdout.close()
    process.stdin.write(posts.read_bytes())
    process.stdin.close()
    process.wait(10)
    assert process.stderr is not None
    assert (process.returncode, process.stderr.read()) == (141, b"")


@pytest.mark.slow
def test_an_interrupted_file_keeps_whole_lines(start: list[Process], command: list[str], posts: Path) -> None:
    """Although the output is resumed by the same command, which finds the file unlocked."""
    posts.write_bytes(b"".join(b'{"id": %d, "text": "%s"}\n' % (i, TEXT.encode()) for i in range(100_000)))
    output = posts.with_name("answers.jsonl")
    files = ["--input", str(posts), "--output", str(output)]
    for _ in range(2):
        before = output.stat().st_size if output.exists() else 0
        process = recognize(start, command, *files)
        deadline = time.monotonic() + 60
        while not (output.exists() and output.stat().st_size > before) and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        process.wait(20)
        assert process.returncode == 130
        lines = output.read_bytes().splitlines(keepends=True)
        assert all(line.endswith(b"\n") for line in lines)
        assert [json.loads(line)["id"] for line in lines] == list(range(len(lines)))


@pytest.mark.slow
def test_a_text_into_a_closed_pipe_is_quiet(start: list[Process], command: list[str]) -> None:
    process = recognize(start, command, TEXT)
    assert process.stdout is not None
    process.stdout.close()
    process.wait(60)
    assert process.stderr is not None
    assert (process.returncode, process.stderr.read()) == (141, b"")
