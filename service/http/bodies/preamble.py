"""What a multipart body may have before its first part, which python-multipart does not accept."""

import re

_OPENING = b"\r\n"  # as if a line ended where the body begins; whatever is kept later begins with LF


class Preamble:
    """Drops everything before the first boundary, and the white space behind that boundary (RFC 2046, 5.1.1).

    Lines of the preamble may end with LF alone. A closing boundary can be the first one only where the body begins;
    behind a preamble it means that the first one was not recognized.

    It keeps no more than the length of a boundary, however long the preamble or the white space is.
    """

    def __init__(self, boundary: bytes) -> None:
        self._boundary = b"--" + boundary
        line = rb"\n" + re.escape(self._boundary)
        self._line = re.compile(line + rb"[ \t]*\r\n")
        self._closing = re.compile(rb"\r" + line + rb"--")
        self._unfinished_line = re.compile(line + rb"(?P<padding>[ \t]*)(?P<end>\r?)\Z")
        self._held = _OPENING
        self._at_start = True  # whether all of the body so far is held
        self.passed = False

    def strip(self, chunk: bytes) -> bytes:
        """What the parser should see of the next ``chunk``."""
        if self.passed:
            return chunk
        held = self._held + chunk
        closing = self._closing.match(held) if self._at_start else None
        if found := closing or self._line.search(held):
            self.passed, self._held = True, b""
            return self._boundary + held[found.end() - 2 : found.end()] + held[found.end() :]
        self._held = self._unfinished(held)
        return b""

    def _unfinished(self, held: bytes) -> bytes:
        """What may be the beginning of the first boundary's line."""
        if self._at_start and (_OPENING + self._boundary + b"--").startswith(held):
            return held
        self._at_start = False
        if line := self._unfinished_line.search(held):
            return b"\n" + self._boundary + line["padding"][:1] + line["end"]
        _, line_feed, rest = held[-len(self._boundary) - 1 :].rpartition(b"\n")
        return line_feed + rest if line_feed else b""
