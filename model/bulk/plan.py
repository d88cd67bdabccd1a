"""What there is to do: the files that an address names, cut into parts that are answered in one step each."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Any, cast

from pyarrow import parquet

from model.bulk.addresses import SUFFIXES, fixed_folder, is_parquet, is_pattern
from model.bulk.stores import Folder, reaching, resolve, version_of

PART_ROWS = 20_000  # some minutes of work on a few cores: what is lost with a machine
_SMALL_BYTES = 2**22  # has not that many rows, or they take seconds each; so its footer need not be read
_READERS = 16  # of footers, since each is a round trip


@dataclass(frozen=True, slots=True)
class InputFile:
    """A file of posts: its name in the folder that the pattern starts from, its size, and what tells a change."""

    name: str
    size: int
    version: str


@dataclass(frozen=True, slots=True)
class Part:
    """What is either answered or not: a file, or consecutive row groups of a large one.

    Attributes:
        source, output: names in the folders of posts and of answers.
        size: in bytes, about.
        row_groups: None for a whole file.
        first_row: the number of the first row in the file.
    """

    source: str
    output: str
    size: int
    row_groups: tuple[int, ...] | None = None
    first_row: int = 0


def find_inputs(address: str) -> tuple[Folder, list[InputFile]]:
    """The files that a pattern matches, that a folder has beneath it, or the one file of that name.

    Names start from the last folder of the address without ``*``, ``?`` or ``[``. Files are ignored if their name, or
    that of a folder on the way to them, begins with a dot or an underscore.

    Raises:
        FileNotFoundError: there is none.
        ValueError: one has a format that is not read, or a name that cannot be written down.
    """
    fs, path = resolve(address)
    with reaching(address):
        try:
            root, listed = _list(fs, path)
            found = {name: _followed(fs, info) for name, info in sorted(listed.items())}
        except FileNotFoundError as error:
            raise FileNotFoundError(f"{address}: there is no such file or folder") from error
    folder = Folder(fs.unstrip_protocol(root))
    files = [
        InputFile(name.removeprefix(f"{folder.root}/"), int(info.get("size") or 0), version_of(info))
        for name, info in found.items()
        if info["type"] == "file" and not _is_hidden(name.removeprefix(f"{folder.root}/"))
    ]
    if not files:
        raise FileNotFoundError(f"{address}: there are no files of posts, whose names end in {', '.join(SUFFIXES)}")
    for file in files:
        if not file.name.endswith(SUFFIXES):
            raise ValueError(f"{folder.name(file.name)}: the name ends in none of {', '.join(SUFFIXES)}")
        if not _is_text(file.name):
            raise ValueError(f"{folder.name(file.name)!a}: the name is not UTF-8; rename the file")
    return folder, files


def _list(fs: Any, path: str) -> tuple[str, dict[str, Any]]:
    fs.invalidate_cache()
    if is_pattern(path) and not fs.exists(path):
        return fixed_folder(path), fs.glob(path, detail=True)
    if fs.isdir(path):
        found = fs.find(path, detail=True)
        return path.rstrip("/"), {name: info for name, info in found.items() if name.endswith(SUFFIXES)}
    return path.rpartition("/")[0], {path: fs.info(path)}


def _followed(fs: Any, info: dict[str, Any]) -> dict[str, Any]:
    """What a link leads to; one that leads nowhere is reported as a file that cannot be read."""
    if not info.get("islink"):
        return info
    try:
        return cast(dict[str, Any], fs.info(info["name"]))
    except FileNotFoundError:
        return info | {"type": "file"}


def _is_hidden(name: str) -> bool:
    """As the ``_delta_log`` of a table, or a ``.git``."""
    return any(part.startswith((".", "_")) for part in name.split("/"))


def _is_text(name: str) -> bool:
    """Unlike a name in another encoding, in which Python has lone surrogates."""
    return not any("\ud800" <= character <= "\udfff" for character in name)


def plan_parts(folder: Folder, files: Sequence[InputFile]) -> list[Part]:
    """All parts, the largest first, so that none of them is left for the end.

    Raises:
        ValueError: two files would be answered in one.
    """
    with ThreadPoolExecutor(_READERS, "footers") as pool:
        parts = list(chain.from_iterable(pool.map(partial(_parts_of, folder), files)))
    names: set[str] = set()
    for part in parts:
        if part.output in names:
            raise ValueError(f"two files would be answered in {part.output}; rename one of them")
        names.add(part.output)
    return sorted(parts, key=lambda part: (-part.size, part.output))


def _parts_of(folder: Folder, file: InputFile) -> list[Part]:
    whole = Part(file.name, file.name, file.size)
    if not is_parquet(file.name) or file.size < _SMALL_BYTES:
        return [whole]
    try:
        with folder.open(file.name) as opened:
            groups = list(_group(parquet.read_metadata(opened)))
    except Exception:  # noqa: BLE001 found again, and reported, when its posts are read
        return [whole]
    if len(groups) < 2:
        return [whole]
    stem = file.name.removesuffix(".parquet")
    return [
        Part(file.name, f"{stem}-{i:05}-of-{len(groups):05}.parquet", file.size // len(groups), numbers, first_row)
        for i, (numbers, first_row) in enumerate(groups)
    ]


def _group(metadata: parquet.FileMetaData) -> Iterator[tuple[tuple[int, ...], int]]:
    """Consecutive row groups with ``PART_ROWS`` rows or more together, and the number of their first row."""
    chosen: list[int] = []
    rows = first_row = 0
    for i in range(metadata.num_row_groups):
        chosen.append(i)
        rows += metadata.row_group(i).num_rows
        if rows >= PART_ROWS or i + 1 == metadata.num_row_groups:
            yield tuple(chosen), first_row
            chosen, first_row, rows = [], first_row + rows, 0
