"""Cuts the objects of posts out of a JSON body while it arrives.

A JSON body of 64 MiB as one string takes up to 576 MiB (Python stores four bytes a character if one of them is an
emoji, twice while it parses), and three bytes such as ``[],`` can become an object of 64. So each post is cut out as
soon as it is complete, and what is larger or has more tokens than a post needs is refused unparsed.
"""

import re
from collections.abc import Iterator

from service.errors import BodyTooLarge, MalformedRequest, ServiceError

MAX_TOKENS = 500  # of a post, or of all that is not part of one: brackets, commas and strings
MAX_BODY_TOKENS = 250_000  # those of refused posts included, since each takes a microsecond to skip

_TOKEN = re.compile(rb'["{}\[\],]')
_STRING_REST = re.compile(rb'(?:[^"\\]++|\\.)*+', re.DOTALL)
_TOKENS = "JSON strings, brackets and commas"


class Cutter:
    """Yields the text of every object that is opened at one depth; what is left of the body is the skeleton.

    ``{"posts": [{"text": "a"}, {"text": "b"}]}``, cut at depth 2, has the skeleton ``{"posts": [{}, {}]}``. The body is
    valid JSON exactly if the skeleton and all that was cut are. Instead of an object that is too large or has too many
    tokens comes an error that says so; at depth 0 it is raised, as that object is all of the body.

    Args:
        depth: how many arrays and objects enclose those to be cut.
        max_bytes: size of the largest object that is kept, and of the largest skeleton.
    """

    def __init__(self, depth: int, *, max_bytes: int) -> None:
        self.skeleton = bytearray()
        self._cut_depth = depth
        self._max_bytes = max_bytes
        self._depth = 0
        self._tokens = 0  # of the object being cut, or of the skeleton since the last one
        self._body_tokens = 0
        self._in_string = False
        self._escaped = False  # the last byte was the backslash of an escape
        self._object: bytearray | ServiceError | None = None  # the one being cut, or why it is skipped

    @property
    def complete(self) -> bool:
        """Whether everything opened was closed."""
        return self._depth == 0 and not self._in_string

    def feed(self, chunk: bytes) -> Iterator[bytearray | ServiceError]:
        """The objects that end in the next ``chunk``, or what is wrong with them.

        Raises:
            ServiceError: the body as a whole is too large, or no JSON.
        """
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
            if self._object is None and change > 0 and self._depth == self._cut_depth + 1 and token[0] == b"{":
                self._keep(chunk[kept : position - 1])
                kept, self._object, self._tokens = position - 1, bytearray(), 1
            elif self._object is not None and change < 0 and self._depth == self._cut_depth:
                self._keep(chunk[kept:position])
                kept, cut, self._object, self._tokens = position, self._object, None, 0
                self.skeleton += b"{}"
                yield cut
        self._keep(chunk[kept:])

    def _keep(self, content: bytes) -> None:
        """Add to the object or to the skeleton."""
        if isinstance(self._object, ServiceError):
            return
        target = self.skeleton if self._object is None else self._object
        size = len(target) + len(content)
        if size <= self._max_bytes:
            target += content
        elif self._object is None:
            raise MalformedRequest(
                f"the body has at least {size} bytes that are not part of a post; the limit is {self._max_bytes}"
            )
        else:
            self._refuse(BodyTooLarge(size=size, limit=self._max_bytes, announced=False, of="post"))

    def _take(self, token: bytes) -> int:
        """Count a token; returns by how much it changes the depth."""
        self._count_token()
        self._in_string = token == b'"'
        change = (token in b"{[") - (token in b"}]")
        self._depth += change
        if self._depth < 0:
            raise MalformedRequest("the body is not JSON: it closes more brackets than it opens")
        return change

    def _count_token(self) -> None:
        self._tokens += 1
        self._body_tokens += 1
        if self._body_tokens > MAX_BODY_TOKENS:
            raise MalformedRequest(f"the body has more than {MAX_BODY_TOKENS} {_TOKENS}")
        if self._tokens <= MAX_TOKENS or isinstance(self._object, ServiceError):
            return
        if self._object is None:
            raise MalformedRequest(f"the body has more than {MAX_TOKENS} {_TOKENS} that are not part of a post")
        self._refuse(MalformedRequest(f"the post has more than {MAX_TOKENS} {_TOKENS}"))

    def _refuse(self, error: ServiceError) -> None:
        if self._cut_depth == 0:
            raise error
        self._object = error

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
