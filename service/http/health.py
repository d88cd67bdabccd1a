"""Health checks and metrics, which never wait behind a post."""

from fastapi import APIRouter
from prometheus_client import generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from starlette.responses import Response

from service.errors import NotReady
from service.http.dependencies import ContextDep, StateDep
from service.http.problems import documented, problem_response
from service.http.schemas import FullHealth, Health, ModelIdentity

router = APIRouter()
metrics_router = APIRouter()

_UNHEALTHY = documented("not_ready")


@router.get("/health/live", summary="Is the process worth keeping?", responses=_UNHEALTHY)
async def live(state: StateDep) -> Health:
    if not state.pipeline.engine.alive:
        raise NotReady("the model's thread is not running")
    return Health()


@router.get(
    "/health/ready",
    summary="Does it accept posts? 503 while the model warms up and while the service shuts down",
    responses=_UNHEALTHY,
)
async def ready(state: StateDep) -> Health:
    if (reason := state.lifecycle.not_ready_reason) is not None:
        raise NotReady(reason)
    return Health()


@router.get(
    "/health", summary="Both, with the checkpoint and the device", response_model=FullHealth, responses=_UNHEALTHY
)
async def health(state: StateDep, context: ContextDep) -> FullHealth | Response:
    identity = ModelIdentity.model_validate(state.pipeline.recognizer)
    device = str(state.pipeline.recognizer.device)
    if (reason := state.lifecycle.not_ready_reason) is None:
        return FullHealth(model=identity, device=device)
    extensions = {"model": identity.model_dump(), "device": device, "live": state.pipeline.engine.alive}
    return problem_response(context, "not_ready", reason, extensions=extensions)


@metrics_router.get(
    "/metrics",
    summary="Metrics for Prometheus",
    response_class=Response,
    responses={200: {"content": {"text/plain": {}}}},
)
async def metrics(state: StateDep) -> Response:
    return Response(generate_latest(state.metrics.registry), media_type=CONTENT_TYPE_PLAIN_0_0_4)
