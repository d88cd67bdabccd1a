"""Cuts the objects of posts out of a JSON body while it arrives.

A JSON body of 64 MiB as one string takes up to 256 MiB (Python stores four bytes a character if one of them is an
emoji), and three bytes such as ``[],`` can become an object of 64. So each post is cut out as soon as it is complete,
and what has more tokens than a post needs is refused unparsed.
"""

import re
from collections.abc import Iterator

from service.errors import MalformedRequest

MAX_TOKENS = 500  # of a post: brackets, commas and strings

_TOKEN = re.compile(rb'["{}\[\],]')
_STRING_REST = re.compile(rb'(?:[^"\\]++|\\.)*+', re.DOTALL)


class Cutter:
    """Yields the text of every object that is opened at one depth; what is left of the body is the skeleton.

    ``{"posts": [{"text": "a"}, {"text": "b"}]}``, cut at depth 2, has the skeleton ``{"posts": [{}, {}]}``. The body is
    valid JSON exactly if the skeleton and all that was cut are.

    Args:
        depth: how many arrays and objects enclose those to be cut.
    """

    def __init__(self, depth: int) -> None:
        self.skeleton = bytearray()
        self._cut_depth = depth
        self._depth = 0
        self._tokens = 0
        self._in_string = False
        self._escaped = False  # the last byte was the backslash of an escape
        self._object: bytearray | None = None  # the one being cut

    @property
    def complete(self) -> bool:
        """Whether everything opened was closed."""
        return self._depth == 0 and not self._in_string

    def feed(self, chunk: bytes) -> Iterator[bytearray]:
        """The objects that end in the next ``chunk``."""
        kept = position = 0  # what of the chunk was kept, and what was looked at
        while position < len(chunk):
            if self._in_string:
                position = self._end_of_string(chunk, position)
                continue
            token = _TOKEN.search(chunk, position)
            if token is None:
                break
            position = token.end()
            change = self._take(token[0])
            if change > 0 and self._object is None and self._depth == self._cut_depth + 1 and token[0] == b"{":
                self._keep(chunk[kept : position - 1])
                kept, self._object = position - 1, bytearray()
            elif change < 0 and self._object is not None and self._depth == self._cut_depth:
                self._keep(chunk[kept:position])
                kept, cut, self._object = position, self._object, None
                self._tokens = 0
                self.skeleton += b"{}"
                yield cut
        self._keep(chunk[kept:])

    def _keep(self, content: bytes) -> None:
        target = self.skeleton if self._object is None else self._object
        target += content

    def _take(self, token: bytes) -> int:
        """Count a token; returns by how much it changes the depth."""
        self._tokens += 1
        if self._tokens > MAX_TOKENS:
            raise MalformedRequest(f"a post has more than {MAX_TOKENS} JSON strings, brackets and commas")
        self._in_string = token == b'"'
        change = (token in b"{[") - (token in b"}]")
        self._depth += change
        if self._depth < 0:
            raise MalformedRequest("the body is not JSON: it closes more brackets than it opens")
        return change

    def _end_of_string(self, chunk: bytes, position: int) -> int:
        """Where the string that goes on at ``position`` ends, or the chunk."""
        if self._escaped:
            self._escaped = False
            position += 1
        rest = _STRING_REST.match(chunk, position)
        assert rest
        end = rest.end()
        if end < len(chunk):
            self._escaped = chunk[end : end + 1] == b"\\"  # then it is the last byte
            self._in_string = self._escaped
            end += 1
        return end
