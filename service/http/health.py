"""Whether the service lives, whether it takes posts, and what it counts. Nothing here waits behind a post."""

from fastapi import APIRouter, Depends
from prometheus_client import generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from starlette.responses import Response

from service.errors import NotReady
from service.http.dependencies import ContextDep, ServiceDep
from service.http.problems import documented, problem_response
from service.http.schemas import FullHealth, Health, ModelIdentity

router = APIRouter()

_UNHEALTHY = documented("not_ready")


async def check_live(service: ServiceDep) -> None:
    """Draining and warming up are life; a model without its thread is not."""
    if not service.engine.alive:
        raise NotReady("the model's thread does not run")


async def check_ready(service: ServiceDep) -> None:
    if service.unready is not None:
        raise NotReady(service.unready)


@router.get(
    "/health/live",
    summary="Is the process worth keeping?",
    dependencies=[Depends(check_live)],
    responses=_UNHEALTHY,
)
async def live() -> Health:
    return Health()


@router.get(
    "/health/ready",
    summary="Does it take posts? 503 while the model warms up and while the service shuts down",
    dependencies=[Depends(check_ready)],
    responses=_UNHEALTHY,
)
async def ready() -> Health:
    return Health()


@router.get(
    "/health", summary="Both, with the checkpoint and the device", response_model=FullHealth, responses=_UNHEALTHY
)
async def health(service: ServiceDep, context: ContextDep) -> FullHealth | Response:
    recognizer = service.recognizer
    identity = ModelIdentity(name=recognizer.name, revision=recognizer.revision)
    device = str(recognizer.device)
    if service.unready is None:
        return FullHealth(model=identity, device=device)
    extensions = {"model": identity.model_dump(), "device": device, "live": service.engine.alive}
    return problem_response(context, "not_ready", service.unready, headers=NotReady.headers, extensions=extensions)


@router.get(
    "/metrics",
    summary="Metrics for Prometheus",
    response_class=Response,
    responses={200: {"content": {"text/plain": {}}}},
)
async def metrics(service: ServiceDep) -> Response:
    return Response(generate_latest(service.metrics.registry), media_type=CONTENT_TYPE_PLAIN_0_0_4)
