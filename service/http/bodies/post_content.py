"""A post as its client sent it, whichever body carried it: what text and image must be like."""

from dataclasses import dataclass

from service.errors import EmptyImage, EmptyText, ImageFileTooLarge, MissingText, TextTooLong
from service.settings import Settings


@dataclass(frozen=True, slots=True)
class PostContent:
    """The text of a post, and its image file or None."""

    text: str
    image: bytes | None

    @classmethod
    def checked(cls, text: str | None, image: bytes | None, limits: Settings) -> "PostContent":
        """The post, if it has a text and neither is too long.

        Raises:
            ServiceError: it has not, or one is.
        """
        if text is None:
            raise MissingText
        if len(text) > limits.max_text_characters:
            raise TextTooLong(characters=len(text), limit=limits.max_text_characters)
        if not text.strip():
            raise EmptyText(characters=len(text))
        if image is not None:
            check_image_size(len(image), limits)
        return cls(text, image)


def check_image_size(size: int, limits: Settings) -> None:
    """Refuse an image file of ``size`` bytes if it is empty or too large."""
    if size == 0:
        raise EmptyImage
    if size > limits.max_image_bytes:
        raise ImageFileTooLarge(size=size, limit=limits.max_image_bytes, exact=True)
