import json
from pathlib import Path

import pytest

from model import Recognizer
from model.cli import main, recognize_file

TEXT = "Kawhi Leonard wins the NBA award"


@pytest.fixture
def image_file(tmp_path: Path, jpeg: bytes) -> Path:
    path = tmp_path / "photo.jpg"
    path.write_bytes(jpeg)
    return path


def write(path: Path, *records: object) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records), "utf-8")
    return path


def read(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def test_one_post_is_answered_as_json(
    tiny_checkpoint: Path, image_file: Path, recognizer: Recognizer, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([TEXT, "--image", str(image_file), "--checkpoint", str(tiny_checkpoint), "--device", "cpu"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["text"], answer["image_used"]) == (TEXT, True)
    expected = recognizer.recognize(TEXT, image_file)
    assert [found["word"] for found in answer["entities"]] == [entity.word for entity in expected]
    assert set(answer["entities"][0]) == {"entity_group", "word", "start", "end", "score"}


def test_a_file_is_answered_line_by_line_with_what_is_wrong_where_it_is(
    recognizer: Recognizer, tmp_path: Path, image_file: Path
) -> None:
    source = write(
        tmp_path / "posts.jsonl",
        {"id": 7, "text": TEXT, "image": image_file.name},
        {"tokens": ["a", "b"]},
        {"text": "x", "image": "missing.jpg"},
        {"text": "x", "image": 5},
        {"text": "x", "image": "nul\0byte"},
        {"text": 5},
        [],
    )
    recognize_file(recognizer, source, tmp_path / "answers.jsonl")
    answers = read(tmp_path / "answers.jsonl")
    assert (answers[0]["id"], answers[0]["image_used"], answers[1]["text"]) == (7, True, "a b")
    assert ["error" in answer for answer in answers] == [False, False, True, True, True, True, True]


def test_a_lone_surrogate_does_not_stop_a_file(recognizer: Recognizer, tmp_path: Path) -> None:
    """The answer could not be written, and every resumed run met the same line again."""
    source = write(tmp_path / "posts.jsonl", {"text": "half an emoji \ud83d"}, {"text": TEXT})
    recognize_file(recognizer, source, tmp_path / "answers.jsonl")
    assert [answer["text"] for answer in read(tmp_path / "answers.jsonl")] == ["half an emoji \ud83d", TEXT]


def test_an_interrupted_file_is_gone_on_with_and_a_cut_off_line_is_written_again(
    recognizer: Recognizer, tmp_path: Path
) -> None:
    source = write(tmp_path / "posts.jsonl", *({"id": i, "text": f"{TEXT} {i}"} for i in range(40)))
    recognize_file(recognizer, source, tmp_path / "whole.jsonl")
    whole = (tmp_path / "whole.jsonl").read_bytes()
    (tmp_path / "cut.jsonl").write_bytes(whole[: len(whole) // 2])
    recognize_file(recognizer, source, tmp_path / "cut.jsonl")
    assert [answer["id"] for answer in read(tmp_path / "cut.jsonl")] == list(range(40))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([TEXT, "--image", "missing.jpg"], "missing.jpg"),
        ([TEXT, "--device", "toaster"], "device 'toaster' is none of"),
        (["x " * 200], "at most 128"),
    ],
)
def test_a_mistake_is_one_line_and_exit_status_2(
    tiny_checkpoint: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert main([*arguments, "--checkpoint", str(tiny_checkpoint)]) == 2
    assert message in capsys.readouterr().err


def test_a_byte_order_mark_is_no_mistake_and_a_line_that_is_not_utf_8_is_its_own(
    recognizer: Recognizer, tmp_path: Path
) -> None:
    source = tmp_path / "posts.jsonl"
    source.write_bytes(b'\xef\xbb\xbf{"text": "a"}\n{"text": "caf\xe9"}\n{"text": "b"}')
    recognize_file(recognizer, source, tmp_path / "answers.jsonl")
    first, broken, last = read(tmp_path / "answers.jsonl")
    assert (first["text"], last["text"]) == ("a", "b")
    assert str(broken["error"]).startswith("not JSON: 'utf-8' codec")


@pytest.mark.parametrize(
    "content",
    [
        b'{"id": 1, "text": "a"}\n{"id": 2, "text": "b"}',  # the posts themselves
        b'{"id": 1, "text": "a", "entities": []}\n',
        b"notes without a line feed",
        b"\n",
    ],
)
def test_a_file_that_holds_no_answers_is_not_written_to(recognizer: Recognizer, tmp_path: Path, content: bytes) -> None:
    source = tmp_path / "posts.jsonl"
    source.write_bytes(content)
    with pytest.raises(FileExistsError, match="does not hold answers to go on from"):
        recognize_file(recognizer, source, source)
    assert source.read_bytes() == content
