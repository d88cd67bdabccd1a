import gzip
import os
import threading
import tracemalloc
from pathlib import Path

import pytest

from model.errors import InvalidPostFile
from model.post_files import input_lines
from model.post_files.input_lines import Line, check_source, count_posts, image_folder, read_lines

CONTENT = b'\xef\xbb\xbf{"id": 1}\r\n\n \t\n\xef\xbb\xbf\n{"id": 2}\n{"id": 3}'


def write(path: Path, content: bytes) -> str:
    path.write_bytes(content)
    return str(path)


def read(source: str) -> list[tuple[int, bytes | None]]:
    return [(line.number, line.content) for line in read_lines(source)]


@pytest.fixture
def pipe(tmp_path: Path) -> str:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    return str(path)


def feed(pipe: str, *pieces: bytes) -> None:
    def write() -> None:
        with open(pipe, "wb", buffering=0) as file:
            file.writelines(pieces)

    threading.Thread(target=write, daemon=True).start()


@pytest.mark.parametrize("packed", [False, True])
def test_blank_lines_are_skipped_but_counted(tmp_path: Path, packed: bool) -> None:
    """A byte order mark, at the start or where files were joined, is no part of a line."""
    source = write(tmp_path / "posts", gzip.compress(CONTENT) if packed else CONTENT)
    assert read(source) == [(1, b'{"id": 1}'), (5, b'{"id": 2}'), (6, b'{"id": 3}')]
    assert count_posts(source) == 3


def test_an_empty_file_has_no_lines(tmp_path: Path) -> None:
    assert read(write(tmp_path / "empty", b"")) == []
    assert read(write(tmp_path / "empty.gz", gzip.compress(b""))) == []


@pytest.mark.parametrize("packed", [False, True])
def test_a_pipe_is_read_like_a_file(pipe: str, packed: bool) -> None:
    """Counting the posts first once used up the pipe, and none was answered."""
    assert count_posts(pipe) is None
    content = gzip.compress(CONTENT) if packed else CONTENT
    feed(pipe, content[:1], content[1:7], content[7:])
    assert [number for number, _ in read(pipe)] == [1, 5, 6]


def test_standard_input_is_read(pipe: str, monkeypatch: pytest.MonkeyPatch) -> None:
    feed(pipe, gzip.compress(CONTENT))
    with open(pipe) as stdin:
        monkeypatch.setattr("sys.stdin", stdin)
        assert [number for number, _ in read("-")] == [1, 5, 6]
    monkeypatch.setattr("sys.stdin", None)
    with pytest.raises(OSError, match="standard input is closed"):
        read("-")


def test_gzip_members_are_read_as_one(tmp_path: Path) -> None:
    assert read(write(tmp_path / "posts", gzip.compress(b"1\n2\n") + gzip.compress(b"3\n"))) == [
        (1, b"1"),
        (2, b"2"),
        (3, b"3"),
    ]


def broken(packed: bytes, how: str) -> bytes:
    match how:
        case "truncated":
            return packed[:-20]
        case "checksum":
            return packed[:-8] + bytes(4) + packed[-4:]
        case "followed":
            return packed + b"rubbish"
        case _:
            return packed[: len(packed) // 2] + b"\xff" * (len(packed) // 2)


@pytest.mark.parametrize("how", ["truncated", "checksum", "followed", "overwritten"])
def test_whole_lines_before_gzip_damage_are_read(tmp_path: Path, how: str) -> None:
    content = b"".join(b'{"text": "%d"}\n' % i**7 for i in range(9999))
    source = write(tmp_path / "posts.gz", broken(gzip.compress(content), how))
    lines: list[Line] = []
    with pytest.raises(InvalidPostFile, match=r"posts.gz: the gzip data are damaged after line \d+: ") as raised:
        lines.extend(line for line in read_lines(source))
    assert f"after line {len(lines)}: " in str(raised.value)
    assert count_posts(source) is None
    assert len(lines) > (0 if how == "overwritten" else 9000)
    assert [line.content for line in lines] == content.split(b"\n")[: len(lines)]


def test_a_line_too_long_is_not_kept(tmp_path: Path) -> None:
    limit = input_lines.MAX_LINE_BYTES
    longest, too_long = b"a" * limit, b"b" * (limit + 1)
    source = write(tmp_path / "posts", b"\n".join([longest, too_long, 5 * too_long, b"c"]))
    assert read(source) == [(1, longest), (2, None), (3, None), (4, b"c")]
    digests = [line.digest for line in read_lines(source)]
    assert len(set(digests)) == 4


def test_memory_is_bounded_by_the_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a small gzip file unpacks to."""
    monkeypatch.setattr(input_lines, "MAX_LINE_BYTES", 2**16)
    source = write(tmp_path / "posts.gz", gzip.compress(b"a" * 2**26 + b"\nb"))
    tracemalloc.start()
    assert read(source) == [(1, None), (2, b"b")]
    assert tracemalloc.get_traced_memory()[1] < 2**21
    tracemalloc.stop()


@pytest.mark.parametrize(
    ("content", "name"),
    [("{}".encode("utf-16"), "UTF-16"), (b"BZh91AY", "a bzip2 file"), (b"PK\x03\x04rest", "a ZIP file")],
)
def test_a_format_not_read_is_named(tmp_path: Path, content: bytes, name: str) -> None:
    with pytest.raises(InvalidPostFile, match=f"posts is {name}; posts are read as UTF-8, plain or gzipped"):
        read(write(tmp_path / "posts", content))


def test_the_digest_ignores_white_space_around(tmp_path: Path) -> None:
    """Line ends and a missing last one; nothing else."""
    unix, windows, other = (
        [line.digest for line in read_lines(write(tmp_path / "posts", content))]
        for content in (b"1\n2", b"1\r\n2\r\n", b"1\n3")
    )
    assert unix == windows
    assert unix[0] == other[0]
    assert unix[1] != other[1]


@pytest.mark.parametrize("length", range(17, 34))
def test_a_long_lines_digest_ignores_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, length: int) -> None:
    """With the last line's end, which is written before posts are added, it was another post, and nothing resumed."""
    monkeypatch.setattr(input_lines, "MAX_LINE_BYTES", 16)
    line, other = b"a" * length, b"a" * (length - 1) + b"\r" + b"a"
    digests = []
    for content in [
        line,
        line + b"\n",
        line + b"\r\n",
        b"\xef\xbb\xbf" + line + b"\r\nb",
        other,
        other + b"\n",
        line + b"a",
    ]:
        first, *_ = read_lines(write(tmp_path / "posts", content))
        assert (first.number, first.content) == (1, None)
        digests.append(first.digest)
    assert len(set(digests[:4])) == 1
    assert len(set(digests)) == 3


def test_a_source_is_checked_before_loading(tmp_path: Path) -> None:
    check_source("-")
    check_source(write(tmp_path / "posts", b""))
    with pytest.raises(IsADirectoryError, match="is a folder, not a file of posts"):
        check_source(str(tmp_path))
    with pytest.raises(FileNotFoundError, match="missing"):
        check_source(str(tmp_path / "missing"))


def test_photos_lie_beside_files_only(tmp_path: Path, pipe: str) -> None:
    assert image_folder(write(tmp_path / "posts", b"")) == tmp_path
    assert image_folder(pipe) == image_folder("-") == image_folder("/dev/stdin") == Path()
