"""What the service refuses, each error with the limit it enforces.

The faults of a post itself are :class:`model.InvalidPost`; both trees carry ``code``, and
:mod:`service.http.problems` is the one place that turns a code into HTTP.
"""

from collections.abc import Mapping
from typing import ClassVar


class ServiceError(Exception):
    """Base of every refusal; the message is written for the person who sent the request."""

    code: ClassVar[str]
    headers: ClassVar[Mapping[str, str]] = {}


class MalformedRequest(ServiceError):
    """A request that does not have the documented form."""

    code = "malformed_request"


class Unauthorized(ServiceError):
    """A request without one of the API keys (RFC 6750)."""

    code = "unauthorized"
    headers = {"WWW-Authenticate": "Bearer"}  # noqa: RUF012 a ClassVar of the base

    def __init__(self, *, given: bool) -> None:
        what = "the API key is not one that is let in" if given else "the request has no API key"
        super().__init__(f"{what}; send it as Authorization: Bearer KEY")


class BodyTooLarge(ServiceError):
    """A body with more bytes than are read; ``size`` is what it announced or what had arrived when it was given up."""

    code = "body_too_large"

    def __init__(self, *, size: int, limit: int, announced: bool) -> None:
        extent = f"is {size}" if announced else f"has at least {size}"
        super().__init__(f"the request body {extent} bytes long, at most {limit} are read")


class ImageFileTooLarge(ServiceError):
    """A photo file with more bytes than are read; ``size`` is what had arrived when it was given up."""

    code = "image_too_large"

    def __init__(self, *, size: int, limit: int) -> None:
        super().__init__(f"the photo has at least {size} bytes, at most {limit} are read")


class UnsupportedMediaType(ServiceError):
    """A body that is no multipart form."""

    code = "unsupported_media_type"

    def __init__(self, content_type: str) -> None:
        given = f"{content_type!r}" if content_type else "none"
        super().__init__(f"the Content-Type must be multipart/form-data, it is {given}")


class MissingText(ServiceError):
    """A form without its one required part."""

    code = "missing_text"

    def __init__(self) -> None:
        super().__init__("the form has no part called text")


class EmptyText(ServiceError):
    """A text that is nothing but white space."""

    code = "empty_text"

    def __init__(self, *, characters: int) -> None:
        super().__init__(f"the text has {characters} characters, none of which is more than white space")


class TextTooLong(ServiceError):
    """A text with more characters than are read."""

    code = "text_too_long"

    def __init__(self, *, characters: int, limit: int) -> None:
        super().__init__(f"the text has {characters} characters, at most {limit} are read")


class EmptyImage(ServiceError):
    """A photo file without a single byte."""

    code = "unreadable_image"

    def __init__(self) -> None:
        super().__init__("the photo has 0 bytes; leave the part out to send a post without a photo")


class Overloaded(ServiceError):
    """More posts than the service takes on; a second is about what a full queue needs to have room again."""

    code = "overloaded"
    headers = {"Retry-After": "1"}  # noqa: RUF012 a ClassVar of the base


class NotReady(ServiceError):
    """The service takes no posts yet, or no more."""

    code = "not_ready"
    headers = {"Retry-After": "1"}  # noqa: RUF012 a ClassVar of the base


class DeadlineExceeded(ServiceError):
    """A request that was not answered in time."""

    code = "deadline_exceeded"

    def __init__(self, *, seconds: float, limit: float) -> None:
        super().__init__(f"there was no answer after {seconds:.3g} s, the limit is {limit:g} s")


class InternalError(ServiceError):
    """A defect of ours."""

    code = "internal_error"

    def __init__(self) -> None:
        super().__init__("the service failed on this request; its log has the request id")


class ClientGone(Exception):
    """The client closed the connection before it had its answer; there is nobody to be told."""
