"""``POST /recognize`` and ``GET /info``."""

import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request

from model.preprocessing.images import FORMATS
from service.http.dependencies import KEY_REQUIRED, ContextDep, PermitDep, StateDep, UploadDep, cancel_on_disconnect
from service.http.problems import KINDS, ROUTING_CODES, documented
from service.http.protocol import HEAD_BYTES, HEAD_SECONDS, PIPELINED, UNREAD_SECONDS
from service.http.schemas import FoundEntity, Info, Limits, ModelIdentity, Recognition

router = APIRouter()

_DESCRIPTION = """
Send a multipart form with the post's `text` and, if there is one, its photo as `image`:

```sh
curl http://localhost:8000/recognize --form-string 'text=RT @NBA: Kawhi Leonard is in Toronto' -F image=@photo.jpg
```

`--form-string` keeps curl from taking a text that begins with `@` for a file name. The text is UTF-8; the photo is a
JPEG, PNG, WebP or GIF file (only the first frame is read). An `image` field that a browser left empty counts as no
photo. Other parts and repeated parts are refused.

Offsets are Unicode code points of the text as it was sent; JavaScript and Java count UTF-16 units, which differ after
an emoji. Errors are problem documents (RFC 9457) with a `code`.
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


@router.post(
    "/recognize",
    summary="Named entities of a post",
    description=_DESCRIPTION,
    response_model_exclude_none=True,
    dependencies=[KEY_REQUIRED],
    responses=documented(*(code for code in KINDS if code not in ROUTING_CODES.values())),
    openapi_extra={"requestBody": _FORM},
)
async def recognize(
    request: Request,
    upload: UploadDep,
    permit: PermitDep,
    context: ContextDep,
    state: StateDep,
    explain: Annotated[bool, Query(description="say where in the photo each entity looked")] = False,
) -> Recognition:
    work = state.pipeline.recognize(
        upload.text,
        upload.image,
        explain=explain,
        permit=permit,
        deadline=context.deadline,
        stage_times=context.stage_times,
        request_id=context.request_id,
    )
    recognized = await cancel_on_disconnect(work, request.receive)
    return Recognition(
        entities=[FoundEntity.model_validate(entity) for entity in recognized.entities],
        image_used=recognized.image_used,
        model=ModelIdentity.model_validate(state.pipeline.recognizer),
        request_id=context.request_id,
    )


@router.get("/info", summary="The checkpoint, its labels, the limits and the versions")
async def info(state: StateDep) -> Info:
    recognizer, settings = state.pipeline.recognizer, state.settings
    return Info(
        model=ModelIdentity.model_validate(recognizer),
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
            batch_padding=state.pipeline.engine.budget.padding,
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
    """The version of an installed package; unknown for this one when it runs from its folder uninstalled."""
    try:
        return version(name)
    except PackageNotFoundError:
        return "unknown"
