"""The service's errors, each with the limit it enforces.

* ServiceError
  * MalformedRequest
  * Unauthorized
  * BodyTooLarge
  * ImageFileTooLarge
  * UnsupportedMediaType
  * UnsupportedEncoding
  * MissingText
  * EmptyText
  * TextTooLong
  * EmptyImage
  * Overloaded
  * NotReady
  * DeadlineExceeded
  * InternalError
* ClientDisconnected

Posts that the model cannot read raise :class:`model.InvalidPost`. Both trees carry a ``code``, whose HTTP status
is in :data:`service.http.problems.KINDS`.
"""

from collections.abc import Sequence
from typing import ClassVar


class ServiceError(Exception):
    """Base of every error that a client is told about; the message is written for that client."""

    code: ClassVar[str]


class MalformedRequest(ServiceError):
    """The request does not have the documented form."""

    code = "malformed_request"


class Unauthorized(ServiceError):
    """The request has no valid API key (RFC 6750)."""

    code = "unauthorized"

    def __init__(self, *, key_given: bool) -> None:
        reason = "the API key is not valid" if key_given else "the request has no API key"
        super().__init__(f"{reason}; send a key as Authorization: Bearer KEY")


class BodyTooLarge(ServiceError):
    """The body, or one post ``of`` it, is too long; ``size`` is announced, or what arrived before reading stopped."""

    code = "body_too_large"

    def __init__(self, *, size: int, limit: int, announced: bool, of: str = "request body") -> None:
        extent = "" if announced else "at least "
        super().__init__(f"the {of} has {extent}{size} bytes; the limit is {limit}")


class ImageFileTooLarge(ServiceError):
    """The image file is too long; ``size`` is what arrived before reading stopped, or all of it if ``exact``."""

    code = "image_too_large"

    def __init__(self, *, size: int, limit: int, exact: bool = False) -> None:
        extent = "" if exact else "at least "
        super().__init__(f"the photo has {extent}{size} bytes; the limit is {limit}")


class UnsupportedMediaType(ServiceError):
    """The body is of none of the types that the path takes."""

    code = "unsupported_media_type"

    def __init__(self, content_type: str, *, allowed: Sequence[str]) -> None:
        given = f"is {content_type!r}" if content_type else "is missing"
        super().__init__(f"the Content-Type {given}; it must be {' or '.join(allowed)}")


class UnsupportedEncoding(ServiceError):
    """The body is compressed, or encoded in another way."""

    code = "unsupported_media_type"

    def __init__(self, encoding: str) -> None:
        super().__init__(f"the Content-Encoding is {encoding!r}; send the body as it is, without this header")


class MissingText(ServiceError):
    """The post lacks the one thing that it must have."""

    code = "missing_text"

    def __init__(self) -> None:
        super().__init__("the post has nothing named text")


class EmptyText(ServiceError):
    """The text is empty or all white space."""

    code = "empty_text"

    def __init__(self, *, characters: int) -> None:
        super().__init__(f"the text has {characters} characters{', all white space' if characters else ''}")


class TextTooLong(ServiceError):
    """The text has too many characters."""

    code = "text_too_long"

    def __init__(self, *, characters: int, limit: int) -> None:
        super().__init__(f"the text has {characters} characters; the limit is {limit}")


class EmptyImage(ServiceError):
    """The image file is empty."""

    code = "unreadable_image"

    def __init__(self) -> None:
        super().__init__("the photo has 0 bytes; to send a post without a photo, leave it out")


class Overloaded(ServiceError):
    """The service is at its limit."""

    code = "overloaded"


class NotReady(ServiceError):
    """The service does not accept posts yet, or no longer does."""

    code = "not_ready"


class DeadlineExceeded(ServiceError):
    """The request was not answered in time."""

    code = "deadline_exceeded"

    def __init__(self, *, seconds: float, limit: float) -> None:
        super().__init__(f"there was no answer after {seconds:.3g} s; the limit is {limit:g} s")


class InternalError(ServiceError):
    """A defect of the service."""

    code = "internal_error"

    def __init__(self) -> None:
        super().__init__("the service failed; its log has an entry with this request's id")


class ClientDisconnected(Exception):
    """The client closed the connection before it was answered."""
