"""What a caller can do wrong, each error with the limit it enforces.

``InvalidPost`` is the post's fault and ``InvalidCheckpoint`` the checkpoint's. ``code`` is the machine-readable name
that the HTTP service answers with.
"""

from typing import ClassVar


class SMNERError(Exception):
    """Base of every error raised for a caller's mistake."""


class InvalidPost(SMNERError, ValueError):
    """A post that cannot be read; the message says why, in words fit for the person who sent it."""

    code: ClassVar[str]


class TextTooLong(InvalidPost):
    """Text that does not fit into the text encoder's positions."""

    code = "text_too_long"

    def __init__(self, *, tokens: int, limit: int) -> None:
        super().__init__(f"the text has {tokens} sub-tokens, the model reads at most {limit}")
        self.tokens = tokens
        self.limit = limit


class UnsupportedImage(InvalidPost):
    """A photo in a format that is not read."""

    code = "unsupported_image"


class ImageTooLarge(InvalidPost):
    """A photo with more pixels than may be decoded."""

    code = "image_too_large"

    def __init__(self, *, pixels: str, limit: int) -> None:
        super().__init__(f"the photo has {pixels} pixels, at most {limit} are decoded")
        self.limit = limit


class UnreadableImage(InvalidPost):
    """A photo whose bytes are damaged."""

    code = "unreadable_image"


class InvalidCheckpoint(SMNERError):
    """A checkpoint folder that cannot be trusted or does not fit the code; the message names the file."""
