"""Errors that a caller's mistake raises; each limit is named in the message.

* SMNERError
  + InvalidPost (also a ValueError)
    - TextTooLong
    - UnsupportedImage
    - ImageTooLarge
    - UnreadableImage
  + InvalidCheckpoint
  + InvalidPostFile
  + StoreUnavailable
  + NotFinite (also a RuntimeError)

``code`` is the name that the HTTP service gives the error.
"""

from typing import ClassVar


class SMNERError(Exception):
    """Base class of the errors in this file."""


class InvalidPost(SMNERError, ValueError):
    """A post that cannot be read; the message is written for the person who sent it."""

    code: ClassVar[str]


class TextTooLong(InvalidPost):
    """Text with more sub-tokens than the text encoder has positions."""

    code = "text_too_long"

    def __init__(self, *, tokens: int, limit: int) -> None:
        super().__init__(f"the text has {tokens} sub-tokens, the model reads at most {limit}")
        self.tokens = tokens
        self.limit = limit


class UnsupportedImage(InvalidPost):
    """An image in a format that is not read."""

    code = "unsupported_image"


class ImageTooLarge(InvalidPost):
    """An image with more pixels than may be decoded."""

    code = "image_too_large"

    def __init__(self, *, pixels: str, limit: int) -> None:
        super().__init__(f"the photo has {pixels} pixels, at most {limit} are decoded")
        self.limit = limit


class UnreadableImage(InvalidPost):
    """An image whose bytes are damaged."""

    code = "unreadable_image"


class InvalidCheckpoint(SMNERError):
    """A checkpoint folder that is incomplete, changed or incompatible; the message names the file."""


class InvalidPostFile(SMNERError):
    """A file of posts that cannot be read on, or that is not the one whose answers are to be continued."""


class StoreUnavailable(SMNERError):
    """A store of posts, photos or answers that cannot be used now; any further post would meet the same."""


class NotFinite(SMNERError, RuntimeError):
    """Logits that are no numbers, which would otherwise pass for "no entity" everywhere."""

    def __init__(self) -> None:
        super().__init__("the network's logits are not finite: its values exceed the precision's range; use float32")
