"""``POST /recognize/batch``: many posts in one request, each of which is a post of its own to the service."""

import asyncio
from collections.abc import Mapping
from typing import Any

import structlog
from fastapi import APIRouter, Request
from starlette.responses import JSONResponse

from model import InvalidPost
from service.errors import ServiceError
from service.http.bodies.json_posts import Item
from service.http.dependencies import (
    KEY_REQUIRED,
    QUERY_CHECKED,
    AppState,
    BatchDep,
    BatchPermitDep,
    ContextDep,
    ExplainDep,
    StateDep,
    cancel_on_disconnect,
)
from service.http.exception_handlers import described
from service.http.problems import documented, post_problem
from service.http.request_context import RequestContext
from service.http.schemas import BatchRecognition, FailedPost, FoundEntity, ModelIdentity, RecognizedPost
from service.inference.limiter import Permit
from service.inference.stage_times import StageTimes

router = APIRouter()
log = structlog.get_logger()

PATH = "/recognize/batch"

_DESCRIPTION = """
Send a JSON object with `posts`, an array of posts as `POST /recognize` takes them, each with an `id` if you like:

```sh
curl http://localhost:8000/recognize/batch --json '{"posts": [{"id": 1, "text": "Kawhi Leonard is in Toronto"}]}'
```

`/info` has the limits: `request_posts` posts in a body of `batch_body_bytes`; each post, its text and its photo may be
as large as in a request of its own. The answers are in the order of the posts. A post that is wrong, too late or
refused gets an `error`, a problem document as in `POST /recognize`, and costs no other post; without its `id` if it is
no JSON. Only what is wrong with the body as a whole is answered with a problem: no JSON around the posts, no `posts`,
too many of them. The header `X-Posts` has their number, for proxies that count.

The posts of a batch are answered a few at a time, so that it keeps nobody else waiting: wait for one answer rather
than send several batches at once. All have the same deadline, which begins with the request.
"""


@router.post(
    PATH,
    summary="Named entities of many posts",
    description=_DESCRIPTION,
    response_model=BatchRecognition,
    dependencies=[KEY_REQUIRED, QUERY_CHECKED],
    responses=documented(
        "malformed_request",
        "unauthorized",
        "body_too_large",
        "unsupported_media_type",
        "internal_error",
        "overloaded",
        "not_ready",
        "deadline_exceeded",
    ),
)
async def recognize_batch(
    request: Request,
    items: BatchDep,
    permit: BatchPermitDep,
    context: ContextDep,
    state: StateDep,
    explain: ExplainDep = False,
) -> JSONResponse:
    context.outlast_deadline()
    batch = _Batch(items, permit, context, state, explain=explain)
    results = await cancel_on_disconnect(batch.answer(), request.receive)
    context.details = {"posts": len(results), "failed": sum("error" in result for result in results)}
    identity = ModelIdentity.model_validate(state.pipeline.recognizer)
    # not a model, which could not tell an id that is null from none
    answer = {"results": results, "model": identity.model_dump(), "request_id": context.request_id}
    return JSONResponse(answer, headers={"X-Posts": str(len(results))})


class _Batch:
    """The posts of one request, a few of which are answered at once."""

    def __init__(
        self, items: list[Item], permit: Permit, context: RequestContext, state: AppState, *, explain: bool
    ) -> None:
        self._items = items
        self._permit = permit
        self._context = context
        self._state = state
        self._explain = explain
        self._at_once = asyncio.Semaphore(state.pipeline.limiter.max_posts_of_batch)

    async def answer(self) -> list[dict[str, Any]]:
        """The results, in the order of the posts."""
        identities = [item.identity for item in self._items]
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._answer_item(index)) for index in range(len(self._items))]
        return [{**identity, **task.result()} for identity, task in zip(identities, tasks, strict=True)]

    async def _answer_item(self, index: int) -> Mapping[str, Any]:
        stage_times = StageTimes()
        result: Mapping[str, Any] = {}
        try:
            result = await self._answer_in_time(index, stage_times)
        finally:  # canceled posts have stages, too
            self._report(stage_times, code=result.get("error", {}).get("code"))
        return result

    async def _answer_in_time(self, index: int, stage_times: StageTimes) -> Mapping[str, Any]:
        deadline = self._context.deadline
        try:
            async with asyncio.timeout(deadline.seconds - deadline.elapsed), self._at_once:
                return await self._recognize(index, stage_times)
        except TimeoutError:
            return self._failure(deadline.error())
        except (ServiceError, InvalidPost) as error:
            return self._failure(error)
        except Exception as error:  # whatever one post does, the others are answered
            log.exception("unhandled exception", request_id=self._context.request_id)
            return self._failure(error)

    def _report(self, stage_times: StageTimes, *, code: str | None) -> None:
        self._state.metrics.count_stages(stage_times)
        if self._context.span is not None:
            self._state.traces.add_post(self._context.span, stage_times, code=code)

    async def _recognize(self, index: int, stage_times: StageTimes) -> Mapping[str, Any]:
        item = self._items[index]
        with await self._permit.admit_post(item.size) as permit:
            post = item.take()
            recognized = await self._state.pipeline.recognize(
                post.text,
                post.image,
                explain=self._explain,
                permit=permit,
                deadline=self._context.deadline,
                stage_times=stage_times,
                request_id=self._context.request_id,
            )
        entities = [FoundEntity.model_validate(entity) for entity in recognized.entities]
        answer = RecognizedPost(entities=entities, image_used=recognized.image_used)
        return answer.model_dump(by_alias=True, exclude_none=True)

    def _failure(self, error: Exception) -> Mapping[str, Any]:
        code, detail = described(error)
        self._state.metrics.count_rejected(code)
        return FailedPost(error=post_problem(code, detail)).model_dump(exclude_none=True)
