"""``POST /recognize`` and ``GET /info``."""

import platform
from importlib.metadata import PackageNotFoundError, version

from fastapi import APIRouter, Request

from model.preprocessing.images import FORMATS
from service.http import request_bodies
from service.http.dependencies import (
    KEY_REQUIRED,
    QUERY_CHECKED,
    ContextDep,
    ExplainDep,
    PermitDep,
    PostDep,
    StateDep,
    cancel_on_disconnect,
)
from service.http.problems import KINDS, ROUTING_CODES, documented
from service.http.protocol import HEAD_BYTES, HEAD_SECONDS, PIPELINED, UNREAD_SECONDS
from service.http.schemas import FoundEntity, Info, Limits, ModelIdentity, Recognition

router = APIRouter()

PATH = "/recognize"

_DESCRIPTION = """
Send a multipart form with the post's `text` and, if there is one, its photo as `image`:

```sh
curl http://localhost:8000/recognize --form-string 'text=RT @NBA: Kawhi Leonard is in Toronto' -F image=@photo.jpg
```

`--form-string` keeps curl from taking a text that begins with `@` for a file name. The text is UTF-8; the photo is a
JPEG, PNG, WebP, GIF or AVIF file (only the first frame is read). An `image` field that a browser left empty counts as
no photo. Other parts and repeated parts are refused, and so are parts that say they are encoded
(`Content-Transfer-Encoding: base64`) or in another charset.

Or send a JSON object with the same two, the photo as base64. Browsers turn every line feed of a form into CRLF, so
JavaScript that reads offsets in texts of several lines should send JSON:

```sh
curl http://localhost:8000/recognize --json '{"text": "Kawhi Leonard\\nis in Toronto"}'
```

Base64 has the standard alphabet and is padded; line breaks in it are ignored. `null` counts as no photo; other keys and
repeated keys are refused. The limits are those of the form: `/info` has `body_bytes` for the body as it was sent, and
`image_bytes` for the photo that the base64 stands for.

Offsets are Unicode code points of the text as it was sent; JavaScript and Java count UTF-16 units, which differ after
an emoji. Errors are problem documents (RFC 9457) with a `code`.
"""


@router.post(
    PATH,
    summary="Named entities of a post",
    description=_DESCRIPTION,
    response_model_exclude_none=True,
    dependencies=[KEY_REQUIRED, QUERY_CHECKED],
    responses=documented(*(code for code in KINDS if code not in ROUTING_CODES.values())),
    openapi_extra={"requestBody": request_bodies.POST},
)
async def recognize(
    request: Request,
    post: PostDep,
    permit: PermitDep,
    context: ContextDep,
    state: StateDep,
    explain: ExplainDep = False,
) -> Recognition:
    work = state.pipeline.recognize(
        post.text,
        post.image,
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
            batch_body_bytes=settings.max_batch_body_bytes,
            request_posts=settings.max_request_posts,
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
