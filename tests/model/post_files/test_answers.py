import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model import Entity, Recognizer
from model.post_files.answers import answer_line, begins_an_answer, read_answer
from model.post_files.post_line import PreparedLine

FOUND = [Entity("LOC", "Oslo", 0, 4, 0.9877)]


@pytest.fixture
def answered(recognizer: Recognizer) -> bytes:
    return answer_line(PreparedLine(3, "0a", "a1", recognizer.prepare("Oslo")), FOUND)


def test_an_answer_repeats_what_identifies_its_post(answered: bytes) -> None:
    assert answered == (
        b'{"id": "a1", "line": 3, "text": "Oslo", "entities": '
        b'[{"entity_group": "LOC", "word": "Oslo", "start": 0, "end": 4, "score": 0.9877}], '
        b'"image_used": false, "digest": "0a"}\n'
    )
    read = read_answer(answered)
    assert read is not None
    assert (read.line, read.digest, read.failed) == (3, "0a", False)


def test_an_error_takes_the_answers_place() -> None:
    line = answer_line(PreparedLine(3, "0a", None, "not JSON"), [])
    assert line == b'{"id": null, "line": 3, "error": "not JSON", "digest": "0a"}\n'
    read = read_answer(line)
    assert read is not None
    assert read.failed


IDS = st.none() | st.integers() | st.booleans() | st.floats(allow_nan=False, allow_infinity=False) | st.text()


@given(id_=IDS, error=st.text(alphabet=st.characters()), share=st.floats(0, 1))
def test_every_beginning_of_an_answer_is_recognized(id_: object, error: str, share: float) -> None:
    line = answer_line(PreparedLine(3, "0a", id_, error), [])
    assert json.loads(line)["error"] == error
    assert begins_an_answer(line)
    assert begins_an_answer(line[: int(share * len(line))])


def test_a_lone_surrogate_is_written_escaped() -> None:
    """It could once not be written, and every resumed run failed on the same line again."""
    line = answer_line(PreparedLine(1, "0a", "\ud83d", "\ude00"), [])
    assert b'"\\ud83d", "line": 1, "error": "\\ude00"' in line
    assert json.loads(line)["id"] == "\ud83d"


@pytest.mark.parametrize(
    "line",
    [
        b'{"id": 1}',
        b'{"id": "a", "line": 7, "text": "precious"}',
        b'{"id": 1, "line": 7, "error": "precious", "more": [1]}',
        b'{"id": 1, "line": 7, "text": "' + b"a" * 100_000 + b'"}',
        b'{"id": 1, "text": "a"}',
        b'{"id": 1, "text": "a", "entities": [], "image_used": false}',
        b'{"id": 1, "line"',
        b"notes",
        b"[" * 100_000,
        b"[]",
        b"\n",
        b"",
    ],
)
def test_anything_else_is_no_answer(line: bytes) -> None:
    assert read_answer(line) is None
    assert begins_an_answer(line) == (line in (b"", b'{"id": 1, "line"'))
    assert not begins_an_answer(line + b"\n")
