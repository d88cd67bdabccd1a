import json
from pathlib import Path

import pytest

from model import Recognizer
from model.post_files import recognize_file

TEXT = "Kawhi Leonard wins the NBA award"


def write(path: Path, *records: object) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records), "utf-8")
    return path


def recognized(recognizer: Recognizer, source: Path) -> list[dict[str, object]]:
    """The answers to ``source``."""
    output = source.with_name("answers.jsonl")
    recognize_file(recognizer, source, output)
    return [json.loads(line) for line in output.read_text("utf-8").splitlines()]


def test_each_line_gets_an_answer_or_an_error(recognizer: Recognizer, tmp_path: Path, jpeg: bytes) -> None:
    (tmp_path / "photo.jpg").write_bytes(jpeg)
    source = write(
        tmp_path / "posts.jsonl",
        {"id": 7, "text": TEXT, "image": "photo.jpg"},
        {"tokens": ["a", "b"]},
        {"text": "x", "image": "missing.jpg"},
        {"text": "x", "image": 5},
        {"text": "x", "image": "nul\0byte"},
        {"text": 5},
        [],
    )
    answers = recognized(recognizer, source)
    assert (answers[0]["id"], answers[0]["image_used"], answers[1]["text"]) == (7, True, "a b")
    assert ["error" in answer for answer in answers] == [False, False, True, True, True, True, True]


def test_a_lone_surrogate_is_written_escaped(recognizer: Recognizer, tmp_path: Path) -> None:
    """The answer could once not be written, and every resumed run failed on the same line again."""
    source = write(tmp_path / "posts.jsonl", {"text": "half an emoji \ud83d"}, {"text": TEXT})
    assert [answer["text"] for answer in recognized(recognizer, source)] == ["half an emoji \ud83d", TEXT]


def test_only_lines_that_are_not_utf8_fail(recognizer: Recognizer, tmp_path: Path) -> None:
    """A byte order mark is accepted."""
    source = tmp_path / "posts.jsonl"
    source.write_bytes(b'\xef\xbb\xbf{"text": "a"}\n{"text": "caf\xe9"}\n{"text": "b"}')
    first, broken, last = recognized(recognizer, source)
    assert (first["text"], last["text"]) == ("a", "b")
    assert str(broken["error"]).startswith("not JSON: 'utf-8' codec")


def test_an_interrupted_file_is_resumed(recognizer: Recognizer, tmp_path: Path) -> None:
    """A line that the interruption cut off is written again."""
    source = write(tmp_path / "posts.jsonl", *({"id": i, "text": f"{TEXT} {i}"} for i in range(40)))
    recognize_file(recognizer, source, tmp_path / "whole.jsonl")
    whole = (tmp_path / "whole.jsonl").read_bytes()
    (tmp_path / "answers.jsonl").write_bytes(whole[: len(whole) // 2])
    assert [answer["id"] for answer in recognized(recognizer, source)] == list(range(40))


@pytest.mark.parametrize(
    "content",
    [
        b'{"id": 1, "text": "a"}\n{"id": 2, "text": "b"}',  # the posts themselves
        b'{"id": 1, "text": "a", "entities": []}\n',
        b"notes without a line feed",
        b"\n",
    ],
)
def test_a_file_without_answers_is_not_overwritten(recognizer: Recognizer, tmp_path: Path, content: bytes) -> None:
    source = tmp_path / "posts.jsonl"
    source.write_bytes(content)
    with pytest.raises(FileExistsError, match="does not hold answers to resume from"):
        recognize_file(recognizer, source, source)
    assert source.read_bytes() == content
