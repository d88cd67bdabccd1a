"""The HTTP server: uvicorn, with our protocol, our shutdown and a second port."""

import asyncio
import signal
import socket
from threading import Thread
from types import FrameType
from typing import TYPE_CHECKING

import structlog
import uvicorn
from uvicorn.config import Config

from service.http.protocol import GuardedProtocol

if TYPE_CHECKING:
    from fastapi import FastAPI

    from service.http.dependencies import AppState  # imports torch

_BANNER = """\
SMNER serves {name} on {device} at {address}
{invitation}
Or send a post:
  curl {address}/recognize --form-string 'text=Kawhi Leonard joins the Toronto Raptors' -F image=@photo.jpg
(without a photo, leave out -F image=…)"""
_INVITATIONS = {
    "on": "Try it in a browser: {address}/ (documentation: {address}/docs)",
    "off": "Documentation and a form to try it: {address}/docs",
}


def url_of(listener: socket.socket) -> str:
    """The URL that reaches the service from this machine."""
    host, port = listener.getsockname()[:2]
    if host in ("0.0.0.0", "::"):  # noqa: S104 compared, not listened on
        host = "localhost"
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def server_config(app: "FastAPI") -> Config:
    return Config(
        app,
        http=GuardedProtocol,
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=75,  # longer than clients and proxies, so that it never closes a connection they reuse
        timeout_graceful_shutdown=1,  # after draining; requests still unanswered are canceled and get 503
    )


class Server(uvicorn.Server):
    """A uvicorn server that, after a signal, answers probes and accepted requests before it stops listening.

    uvicorn alone would stop listening immediately, so no probe could see that the service is not ready.
    """

    def __init__(self, state: "AppState", config: Config, *, address: str) -> None:
        super().__init__(config)
        self._state = state
        self._address = address
        self._announced = False
        self._metrics: tuple[Config, socket.socket] | None = None
        self.model_alive = True

    def serve_metrics(self, config: Config, listener: socket.socket) -> None:
        """Serve another application on another port, in the same event loop and for as long."""
        self._metrics = config, listener

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen; uvicorn itself knows only one application."""
        await super().startup(sockets)
        if self._metrics is not None:
            config, listener = self._metrics
            self.servers.append(
                await asyncio.get_running_loop().create_server(
                    lambda: GuardedProtocol(config, self.server_state, self.lifespan.state),
                    sock=listener,
                    backlog=config.backlog,
                )
            )

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002 uvicorn's signature
        """Begin to shut down; a second signal skips the wait. uvicorn's own handler would raise the signal again."""
        lifecycle, pipeline = self._state.lifecycle, self._state.pipeline
        if lifecycle.shutting_down:
            self.should_exit = True
            return
        # load balancers do not send posts to what Ctrl-C ends, nor to what was never ready
        balanced = sig == signal.SIGTERM and pipeline.engine.ready
        lifecycle.shut_down(delay=self._state.settings.shutdown_delay_seconds if balanced else 0.0)

    async def on_tick(self, counter: int) -> bool:
        """Decide ten times a second whether to exit."""
        pipeline = self._state.pipeline
        if not self._announced and pipeline.engine.ready:
            self._announced = True
            # in a thread, since a full pipe that nobody reads would block the event loop
            Thread(target=print, args=(self._banner(),), kwargs={"flush": True}, daemon=True).start()
        if not pipeline.engine.alive:
            self.model_alive = False
            structlog.get_logger().critical("the model's thread died or hangs, exiting")
            return True
        lifecycle, drain_seconds = self._state.lifecycle, self._state.settings.drain_seconds
        if lifecycle.draining and (pipeline.limiter.permits_held == 0 or lifecycle.drained_for > drain_seconds):
            return True
        return await super().on_tick(counter)

    def _banner(self) -> str:
        recognizer = self._state.pipeline.recognizer
        invitation = _INVITATIONS[self._state.settings.page].format(address=self._address)
        banner = _BANNER.format(
            name=recognizer.name, device=recognizer.device, address=self._address, invitation=invitation
        )
        return banner if self._metrics is None else f"{banner}\nMetrics: {url_of(self._metrics[1])}/metrics"
