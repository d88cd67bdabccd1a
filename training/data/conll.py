"""Reading posts from CoNLL files: a token and its tag on each line, with or without IMGID lines."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from training.data.errors import InvalidLine
from training.data.images import find_image
from training.data.posts import LabeledPost, UnusableImage
from training.data.tags import TAG_FORM, entities_of_tags, explain_number, is_tag

_HEADER = "IMGID:"
_DOCUMENT = "-DOCSTART-"  # of CoNLL-2003, between documents


class _Row(NamedTuple):
    line: int
    token: str
    tag: str
    columns: int


def read_conll(path: Path, lines: Iterable[tuple[int, str]], images: Path | None) -> Iterator[LabeledPost]:
    """Read posts from numbered lines; an IMGID line, or one that is empty or blank, starts another post.

    The first column is the token and the last the tag, as for conlleval. Tabs separate the columns if the file's first
    row has one, else blanks. A post without an IMGID is called after its first line.
    """
    name = ""
    rows: list[_Row] = []
    form: _Row | None = None
    separator = "\t"
    for number, line in lines:
        is_head = line.startswith(_HEADER) and "\t" not in line.rstrip()  # else it is a token that looks like one
        if is_head or not line.strip("\t ") or line.split(maxsplit=1)[:1] == [_DOCUMENT]:
            if rows:
                yield _post(path, images, name, rows)
                name, rows = "", []
            name = line.removeprefix(_HEADER).strip() if is_head else name
            continue
        separator = separator if form or "\t" in line else " "
        row = _row(path, number, line, separator)
        form = form or row
        if row.columns != form.columns:
            message = f"expected {form.columns} columns as in line {form.line}, found {row.columns} in {line[:80]!r}"
            raise InvalidLine(path, number, message, line)
        rows.append(row)
    if rows:
        yield _post(path, images, name, rows)


def _row(path: Path, number: int, line: str, separator: str) -> _Row:
    columns = line.rstrip("\t ").split(separator) if separator == "\t" else line.split()
    token, tag = columns[0], columns[-1].strip()
    is_comment = columns[0] == "#" and "=" in columns  # as in CoNLL-U
    if len(columns) > 1 and tag.isdecimal() and not is_comment:
        raise InvalidLine(path, number, explain_number(tag), line)
    if len(columns) < 2 or not token or not is_tag(tag):
        raise InvalidLine(path, number, f"expected token<TAB>{TAG_FORM}, found {line[:80]!r}", line)
    if any(map(str.isspace, token)) and not token.isspace():  # Twitter-2015 has a no-break space for a token
        raise InvalidLine(path, number, f"expected a token without white space, found {token[:80]!r}", token)
    return _Row(number, token, tag, len(columns))


def _post(path: Path, images: Path | None, name: str, rows: list[_Row]) -> LabeledPost:
    first = rows[0]
    if first.columns > 2 and [row.token for row in rows] == [str(position + 1) for position in range(len(rows))]:
        message = "expected tokens in the first column, found the numbers of the tokens"
        raise InvalidLine(path, first.line, message, first.token)
    image = find_image(images, name) if name else None
    return LabeledPost(
        id=name or f"line {first.line}",
        words=tuple(row.token for row in rows),
        entities=entities_of_tags(row.tag for row in rows),
        image=image,
        unusable_image=UnusableImage(name, "missing") if name and images is not None and image is None else None,
        image_id=name or None,
        place=(path, first.line),
    )
