"""What a multipart body may have before its first part, which python-multipart does not accept."""

import re


class Preamble:
    """Drops everything before the first boundary, and the white space behind that boundary (RFC 2046, 5.1.1).

    It keeps no more than the length of a boundary, however long the preamble or the white space is.
    """

    def __init__(self, boundary: bytes) -> None:
        self._boundary = b"--" + boundary
        line = re.escape(b"\r\n" + self._boundary)
        self._line = re.compile(line + rb"(?:[ \t]*\r\n|--)")
        self._unfinished_line = re.compile(line + rb"(?P<padding>[ \t]*)(?P<end>\r?|-)\Z")
        self._held = b"\r\n"  # the boundary may open the body
        self.passed = False

    def strip(self, chunk: bytes) -> bytes:
        """What the parser should see of the next ``chunk``."""
        if self.passed:
            return chunk
        held = self._held + chunk
        if found := self._line.search(held):
            self.passed, self._held = True, b""
            return self._boundary + held[found.end() - 2 : found.end()] + held[found.end() :]
        if unfinished := self._unfinished_line.search(held):
            self._held = b"\r\n" + self._boundary + unfinished["padding"][:1] + unfinished["end"]
        else:
            self._held = held[-len(self._boundary) - 1 :]
        return b""
