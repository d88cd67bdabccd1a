"""``POST /recognize`` and ``GET /info``."""

import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request

from model.preprocessing.images import FORMATS
from service.http.dependencies import KEY_CHECKED, ContextDep, ServiceDep, SlotDep, UploadDep, unless_gone
from service.http.problems import documented
from service.http.protocol import HEAD_BYTES, HEAD_SECONDS, PIPELINED, UNREAD_SECONDS
from service.http.schemas import Info, Limits, ModelIdentity, Recognition

router = APIRouter()

_DESCRIPTION = """
Send a multipart form with the post's `text` and, if it has one, its photo as `image`:

```sh
curl http://localhost:8000/recognize --form-string 'text=RT @NBA: Kawhi Leonard is in Toronto' -F image=@photo.jpg
```

`--form-string` keeps curl from reading a text that begins with `@` as a file name. The text is UTF-8; the photo is a
JPEG, PNG, WebP or GIF file, of which the first frame is taken. An `image` field that a browser left empty counts as no
photo. Other parts, and a part sent twice, are refused.

Offsets are Unicode code points of the text as it was sent. Errors are problem documents (RFC 9457) with a `code`.
"""

_FORM: dict[str, Any] = {
    "required": True,
    "content": {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "required": ["text"],
                "additionalProperties": False,
                "properties": {
                    "text": {
                        "type": "string",
                        "description": "the post's text, UTF-8",
                        "example": "RT @NBA: Kawhi Leonard is in Toronto",
                    },
                    "image": {
                        "type": "string",
                        "format": "binary",
                        "description": "the post's photo: a JPEG, PNG, WebP or GIF file",
                    },
                },
            }
        }
    },
}

_PROBLEMS = documented(
    "malformed_request",
    "unauthorized",
    "body_too_large",
    "image_too_large",
    "unsupported_media_type",
    "unsupported_image",
    "missing_text",
    "empty_text",
    "text_too_long",
    "unreadable_image",
    "internal_error",
    "overloaded",
    "not_ready",
    "deadline_exceeded",
)


@router.post(
    "/recognize",
    summary="Named entities of a post",
    description=_DESCRIPTION,
    response_model_exclude_none=True,
    dependencies=[KEY_CHECKED],
    responses=_PROBLEMS,
    openapi_extra={"requestBody": _FORM},
)
async def recognize(
    request: Request,
    upload: UploadDep,
    slot: SlotDep,
    context: ContextDep,
    service: ServiceDep,
    explain: Annotated[bool, Query(description="say where in the photo each entity looked")] = False,
) -> Recognition:
    work = service.recognize(upload, slot, context, explain=explain)
    return await unless_gone(work, request.receive)


@router.get("/info", summary="The checkpoint, its labels, the limits and the versions")
async def info(service: ServiceDep) -> Info:
    recognizer, settings = service.recognizer, service.settings
    return Info(
        model=ModelIdentity(name=recognizer.name, revision=recognizer.revision),
        device=str(recognizer.device),
        labels=recognizer.model.config.entity_types,
        image_formats=list(FORMATS),
        limits=Limits(
            head_bytes=HEAD_BYTES,
            head_seconds=HEAD_SECONDS,
            unread_seconds=UNREAD_SECONDS,
            pipelined_requests=PIPELINED,
            body_bytes=settings.max_body_bytes,
            image_bytes=settings.max_image_bytes,
            image_pixels=settings.max_image_pixels,
            text_characters=settings.max_text_characters,
            text_tokens=recognizer.processor.max_tokens,
            pending_posts=settings.max_pending_posts,
            pending_bytes=settings.max_pending_bytes,
            batch_tokens=settings.max_batch_tokens,
            batch_images=settings.max_batch_images,
            batch_padding=service.batch_padding,
            image_cache_bytes=settings.image_cache_mb * 2**20,
            deadline_seconds=settings.deadline_seconds,
            drain_seconds=settings.drain_seconds,
        ),
        versions={
            "python": platform.python_version(),
            **{name: package_version(name) for name in ("smner", "torch", "transformers", "pillow", "fastapi")},
        },
    )


def package_version(name: str) -> str:
    """An installed package's version; this one's is unknown when it runs from its folder without being installed."""
    try:
        return version(name)
    except PackageNotFoundError:
        return "unknown"
