"""What an address of posts or answers says by itself, before anything is read."""

import re
from pathlib import Path

_PACKED = ("", ".gz", ".zst")
SUFFIXES = (".parquet", *(f".{name}{packed}" for name in ("jsonl", "ndjson") for packed in _PACKED))
_MAGIC = re.compile(r"[*?\[]")


def is_pattern(address: str) -> bool:
    """Whether it can name several files."""
    return _MAGIC.search(address) is not None


def fixed_folder(pattern: str) -> str:
    """The last folder before anything that can have several names."""
    match = _MAGIC.search(pattern)
    return pattern[: len(pattern) if match is None else match.start()].rpartition("/")[0]


def is_parquet(name: str) -> bool:
    """Whether the name is that of a table."""
    return name.endswith(".parquet")


def names_a_folder(source: str, output: str) -> bool:
    """Whether answers go into a folder, with a file for each file of posts, rather than from file to file."""
    if "://" in f"{source} {output}" or source.endswith((".parquet", ".zst")) or Path(source).is_dir():
        return True
    return (is_pattern(source) and not Path(source).exists()) or output.endswith("/") or Path(output).is_dir()
