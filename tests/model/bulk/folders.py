"""Folders of posts to be answered, in every format."""

import gzip
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow
from pyarrow import parquet

TEXT = "Kawhi Leonard wins the NBA award"


def some_posts(count: int, start: int = 0) -> list[dict[str, Any]]:
    return [{"id": f"p{i}", "text": f"{TEXT} {'a ' * (i % 7)}{i}"} for i in range(start, start + count)]


def write_lines(path: Path, posts: Sequence[object]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    content = "".join(json.dumps(post) + "\n" for post in posts).encode()
    if path.suffix == ".zst":
        with pyarrow.CompressedOutputStream(str(path), "zstd") as file:
            file.write(content)
    else:
        path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def write_table(path: Path, posts: Sequence[dict[str, Any]], **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(pyarrow.Table.from_pylist(list(posts)), path, **options)
    return path


def read_table(path: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = parquet.read_table(path).to_pylist()
    return rows


def contents(folder: Path) -> dict[str, bytes]:
    """All answers and the summary, which must not depend on how the work was shared."""
    files = [path for path in folder.rglob("[!.]*") if path.is_file() and path.name != "_RUN.json"]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}
