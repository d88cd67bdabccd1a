"""Posts of a Parquet file: columns ``text`` or ``tokens``, optional ``id`` and ``image``."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import IO, Any, cast

import pyarrow
from pyarrow import parquet, types

from model.errors import InvalidPostFile

_COLUMNS = ("id", "text", "tokens", "image")
_BUFFER_BYTES = 2**22  # read at once of each column, so that memory does not grow with the row group
_BATCH_ROWS = 16  # with photos of 10 MiB each, these are 160 MiB


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a table, not yet turned into Python's values.

    Attributes:
        number: counts from 0 in the file.
    """

    batch: pyarrow.RecordBatch
    index: int
    number: int

    @property
    def id(self) -> pyarrow.Scalar | None:
        """The post's own id, with its type; None if there is no such column."""
        return self.batch.column("id")[self.index] if "id" in self.batch.schema.names else None

    def fields(self) -> Mapping[str, Any]:
        """The rest of the post.

        Raises:
            ValueError: a text is not UTF-8, of which the format does not make sure.
        """
        names = [name for name in self.batch.schema.names if name != "id"]
        values = {name: self.batch.column(name)[self.index].as_py() for name in names}
        if isinstance(values.get("image"), dict):  # as Hugging Face's datasets store photos
            values["image"] = values["image"].get("bytes") or values["image"].get("path")
        return values


def read_rows(file: IO[bytes], name: str, *, row_groups: Sequence[int] | None, first_row: int) -> Iterator[Row]:
    """The rows of some row groups, or of all.

    Raises:
        InvalidPostFile: the columns are not those of posts.
        OSError, ValueError: the file is damaged.
    """
    table = parquet.ParquetFile(file, buffer_size=_BUFFER_BYTES, pre_buffer=False)
    _check_columns(table.schema_arrow, name)
    groups = range(table.num_row_groups) if row_groups is None else row_groups
    columns = [column for column in _COLUMNS if column in table.schema_arrow.names]
    for batch in table.iter_batches(_BATCH_ROWS, row_groups=list(groups), columns=columns, use_threads=False):
        plain = pyarrow.RecordBatch.from_arrays([_plain(column) for column in batch.columns], batch.schema.names)
        for index in range(batch.num_rows):
            yield Row(plain, index, first_row + index)
        first_row += batch.num_rows


def _plain(column: pyarrow.Array) -> pyarrow.Array:
    return column.dictionary_decode() if types.is_dictionary(column.type) else column


def _check_columns(schema: pyarrow.Schema, name: str) -> None:
    """Refuse a table of something else, which would otherwise be answered by an error in every row."""
    if not {"text", "tokens"} & set(schema.names):
        raise InvalidPostFile(f"{name} has neither a column text nor tokens, but {', '.join(schema.names)}")
    has_text = "text" in schema.names  # beside which "tokens" may be something else
    for column, fits, wanted in (
        ("id", _is_id, "strings, numbers or bytes"),
        ("text", _is_text, "strings") if has_text else ("tokens", _are_tokens, "lists of strings"),
        ("image", _is_image, "bytes, paths or a struct of both"),
    ):
        if column in schema.names and not fits(_value_type(schema.field(column).type)):
            raise InvalidPostFile(f"{name}: the column {column} is {schema.field(column).type}, not {wanted}")


def _value_type(kind: pyarrow.DataType) -> pyarrow.DataType:
    return kind.value_type if types.is_dictionary(kind) else kind


def _is_text(kind: pyarrow.DataType) -> bool:
    return cast(bool, types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind))


def _are_tokens(kind: pyarrow.DataType) -> bool:
    return bool(types.is_list(kind) or types.is_large_list(kind)) and _is_text(_value_type(kind.value_type))


def _is_bytes(kind: pyarrow.DataType) -> bool:
    return cast(bool, types.is_binary(kind) or types.is_large_binary(kind) or types.is_binary_view(kind))


def _is_id(kind: pyarrow.DataType) -> bool:
    number = types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind) or types.is_null(kind)
    return number or kind == pyarrow.uuid() or types.is_fixed_size_binary(kind) or _is_text(kind) or _is_bytes(kind)


def _is_image(kind: pyarrow.DataType) -> bool:
    if types.is_struct(kind):
        return {field.name for field in kind} <= {"bytes", "path"}
    return _is_text(kind) or _is_bytes(kind) or types.is_null(kind)
