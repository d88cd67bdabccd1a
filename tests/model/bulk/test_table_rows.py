import os
from decimal import Decimal
from pathlib import Path

import pyarrow
import pytest
from pyarrow import parquet

from model.bulk.table_rows import Row, read_rows
from model.errors import InvalidPostFile


def rows(path: Path, columns: dict[str, object]) -> list[Row]:
    parquet.write_table(pyarrow.table(columns), path / "posts.parquet")
    with (path / "posts.parquet").open("rb") as file:
        return list(read_rows(file, "posts.parquet", row_groups=None, first_row=0))


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (pyarrow.array([b"photo"]), b"photo"),
        (pyarrow.array(["a.jpg"]), "a.jpg"),
        (pyarrow.array([{"bytes": b"photo", "path": "a.jpg"}]), b"photo"),
        (
            pyarrow.array([{"bytes": None, "path": "a.jpg"}], pyarrow.struct({"bytes": "binary", "path": "string"})),
            "a.jpg",
        ),
        (pyarrow.nulls(1), None),
        (pyarrow.array(["a.jpg"]).dictionary_encode(), "a.jpg"),
    ],
)
def test_a_photo_is_bytes_or_a_path(tmp_path: Path, image: pyarrow.Array, expected: object) -> None:
    (row,) = rows(tmp_path, {"text": ["a"], "image": image, "likes": [7]})
    assert row.fields() == {"text": "a", "image": expected}


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"txt": ["a"]}, "posts.parquet has neither a column text nor tokens, but txt"),
        ({"tokens": [[1]]}, "the column tokens is list<element: int64>, not lists of strings"),
        ({"text": [1]}, "the column text is int64, not strings"),
        ({"text": ["a"], "id": [{"a": 1}]}, r"the column id is struct<a: int64>, not strings, numbers or bytes"),
        ({"text": ["a"], "image": [1.5]}, "the column image is double, not bytes, paths or a struct of both"),
    ],
)
def test_a_table_of_something_else_is_refused(tmp_path: Path, columns: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidPostFile, match=message):
        rows(tmp_path, columns)


def test_ids_keep_their_type(tmp_path: Path) -> None:
    (row,) = rows(tmp_path, {"id": pyarrow.array([7], pyarrow.uint8()), "tokens": [["a", "b"]]})
    assert row.id is not None
    assert (row.id.as_py(), row.id.type, row.fields()) == (7, pyarrow.uint8(), {"tokens": ["a", "b"]})


@pytest.mark.parametrize(
    "ids", [pyarrow.array([Decimal(7)], pyarrow.decimal128(38)), pyarrow.array([bytes(16)], pyarrow.uuid())]
)
def test_databases_have_ids_of_their_own(tmp_path: Path, ids: pyarrow.Array) -> None:
    (row,) = rows(tmp_path, {"id": ids, "text": ["a"], "tokens": [1]})
    assert pyarrow.array([row.id], ids.type) == ids
    assert "id" not in row.fields()


def test_memory_is_bounded_within_a_row_group(tmp_path: Path) -> None:
    """Row groups of tables with photos have gigabytes; here 64 MiB, in pages of 1 MiB."""
    photos = [os.urandom(2**18) for _ in range(256)]
    path = tmp_path / "posts.parquet"
    parquet.write_table(pyarrow.table({"text": ["a"] * 256, "image": photos}), path, write_batch_size=4)
    del photos
    before = pyarrow.total_allocated_bytes()
    with path.open("rb") as file:
        most = max(
            pyarrow.total_allocated_bytes() - before
            for _ in read_rows(file, "posts.parquet", row_groups=None, first_row=0)
        )
    assert most < 2**25
