import fcntl
import gzip
import os
from collections.abc import Iterable
from pathlib import Path

import pytest

from model.post_files import answer_file
from model.post_files.answer_file import is_same_file, open_answers
from model.post_files.answers import answer_line
from model.post_files.post_line import PreparedLine

NAMES = ["answers.jsonl", "answers.jsonl.gz"]


def answers(numbers: Iterable[int]) -> bytes:
    return b"".join(answer_line(PreparedLine(i, f"{i:016x}", i, f"error {i}"), []) for i in numbers)


def resume(path: Path) -> list[int]:
    """The lines of the answers in the file; one for the next line is appended."""
    with open_answers(str(path)) as file:
        earlier = [answer.line for answer in file.earlier()]
        file.append(answers([len(earlier)]))
    return earlier


def content(path: Path) -> bytes:
    return gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()


@pytest.fixture(params=NAMES)
def path(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    return tmp_path / str(request.param)


def test_answers_are_appended_to_earlier_ones(path: Path) -> None:
    assert [resume(path) for _ in range(4)] == [[], [0], [0, 1], [0, 1, 2]]
    assert content(path) == answers(range(4))


def test_what_is_appended_can_be_read(path: Path) -> None:
    """Before the file is closed."""
    with open_answers(str(path)) as file:
        assert list(file.earlier()) == []
        for i in range(3):
            file.append(answers([i]))
            assert content(path) == answers(range(i + 1))


def test_an_answer_cut_anywhere_is_removed(path: Path) -> None:
    """Killed while it writes its third answer, or a gzip member that holds it."""
    for _ in range(3):
        resume(path)
    whole = path.read_bytes()
    two = len(gzip.compress(answers([0]))) + len(gzip.compress(answers([1])))
    first = two if path.suffix == ".gz" else len(answers(range(2)))
    for size in range(first, len(whole)):
        path.write_bytes(whole[:size])
        assert resume(path) == [0, 1]
        assert content(path) == answers(range(3))


def test_only_a_first_answer_may_be_cut(path: Path) -> None:
    resume(path)
    path.write_bytes(path.read_bytes()[:-9])
    assert resume(path) == []
    assert content(path) == answers([0])


def test_a_repacked_file_is_resumed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By ``gzip``, into a single member; read in pieces that end anywhere."""
    monkeypatch.setattr(answer_file, "_CHUNK_BYTES", 7)
    path = tmp_path / "answers.jsonl.gz"
    path.write_bytes(gzip.compress(answers(range(50))))
    assert resume(path) == list(range(50))
    assert content(path) == answers(range(51))


FOREIGN = [
    b'{"id": 1, "text": "a"}\n{"id": 2, "text": "b"}',  # the posts themselves
    b'{"id": 1, "text": "a"}',
    b'{"id": 1, "text": "a", "entities": []}\n',
    b'{"id": 1}',  # lines that are whole, although without a line feed, once passed for answers that were cut off
    b'{"id": 1, "line": 7, "text": "precious"}',
    b'{"id": 1, "line": 7, "text": "' + b"a" * 100_000 + b'"}',
    answers([0]) + b'{"id": 1, "line": 7, "text": "precious"}',
    b"notes without a line feed",
    b"\n",
    answers([0]) + b"notes\n",
    answers([0]) + b"notes",
    answers([0]) + b"notes\n" + answers([1])[:30],
]


@pytest.mark.parametrize("foreign", FOREIGN)
def test_a_file_without_answers_stays_untouched(path: Path, foreign: bytes) -> None:
    path.write_bytes(gzip.compress(foreign) if path.suffix == ".gz" else foreign)
    before = path.read_bytes()
    with pytest.raises(FileExistsError, match="does not hold answers to resume from"):
        resume(path)
    assert path.read_bytes() == before


def test_compression_and_name_must_agree(tmp_path: Path) -> None:
    for name, held in [("plain.jsonl.gz", answers([0])), ("packed.jsonl", gzip.compress(answers([0])))]:
        (tmp_path / name).write_bytes(held)
        with pytest.raises(FileExistsError, match=f"{name} exists but does not hold answers"):
            resume(tmp_path / name)
        assert (tmp_path / name).read_bytes() == held


def test_a_truncated_foreign_archive_stays_untouched(tmp_path: Path) -> None:
    path = tmp_path / "posts.jsonl.gz"
    path.write_bytes(gzip.compress(FOREIGN[0] * 99)[:-20])
    before = path.read_bytes()
    with pytest.raises(FileExistsError, match="does not hold answers"):
        resume(path)
    assert path.read_bytes() == before


def test_a_whole_answer_needs_no_line_feed(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    path.write_bytes(answers(range(2))[:-1])
    assert resume(path) == [0]
    assert content(path) == answers(range(2))


def test_one_file_is_recognized_under_two_names(tmp_path: Path) -> None:
    posts, other = tmp_path / "posts.jsonl", tmp_path / "other.jsonl"
    posts.write_bytes(b"{}")
    other.write_bytes(b"{}")
    (tmp_path / "link").symlink_to(posts)
    (tmp_path / "hard").hardlink_to(posts)
    same = [name for name in ("link", "hard", "other.jsonl", "new") if is_same_file(str(posts), str(tmp_path / name))]
    assert same == ["link", "hard"]
    assert not is_same_file("/dev/null", "/dev/null")


@pytest.mark.parametrize(("descriptor", "files"), [(0, ("-", "{}")), (0, ("/dev/stdin", "{}")), (1, ("{}", "-"))])
def test_a_redirection_does_not_hide_the_file(tmp_path: Path, descriptor: int, files: tuple[str, str]) -> None:
    """``smner-recognize --input - --output posts.jsonl < posts.jsonl`` emptied it."""
    (tmp_path / "posts.jsonl").write_bytes(b"{}")
    source, output = (file.format(tmp_path / "posts.jsonl") for file in files)
    assert not is_same_file(source, output)
    saved = os.dup(descriptor)
    try:
        with (tmp_path / "posts.jsonl").open("r+b") as file:
            os.dup2(file.fileno(), descriptor)
        assert is_same_file(source, output)
    finally:
        os.dup2(saved, descriptor)
        os.close(saved)


def test_two_runs_on_one_output_refuse_each_other(path: Path) -> None:
    with open_answers(str(path)), pytest.raises(BlockingIOError, match="is being written by another run"):
        resume(path)
    assert resume(path) == []


def test_a_file_system_without_locks_is_used(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", refuse)
    assert resume(path) == []


def test_a_pipe_gets_the_answers(path: Path) -> None:
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    assert resume(path) == []
    read = os.read(reader, 2**16)
    os.close(reader)
    assert (gzip.decompress(read) if path.suffix == ".gz" else read) == answers([0])


@pytest.mark.parametrize("name", ["-", "/dev/stdout"])
def test_standard_output_gets_the_answers(capfdbinary: pytest.CaptureFixture[bytes], name: str) -> None:
    assert resume(Path(name)) == []
    assert capfdbinary.readouterr().out == answers([0])


def test_a_closed_standard_output_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout", None)
    with pytest.raises(OSError, match="standard output is closed"):
        resume(Path("-"))
