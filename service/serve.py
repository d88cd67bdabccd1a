"""``smner-serve``: load a checkpoint and serve it until told to stop."""

import os
import signal
import socket
import sys
import time
from collections.abc import Sequence
from types import FrameType
from typing import TYPE_CHECKING, NoReturn

import structlog
import uvicorn
from pydantic import ValidationError
from pydantic_settings import CliApp, SettingsError
from uvicorn.config import Config

from service.http.protocol import GuardedProtocol
from service.logs import configure_logs
from service.runtime import frozen_objects, keep_freed_memory
from service.settings import Settings

if TYPE_CHECKING:
    from fastapi import FastAPI

    from model import Recognizer
    from service.inference.pipeline import Service

_BANNER = """\
SMNER serves {name} on {device} at {address}
Documentation, and a form to try it: {address}/docs
Ask it:
  curl {address}/recognize --form-string 'text=Kawhi Leonard joins the Toronto Raptors' -F image=@photo.jpg
(leave out -F image=… for a post without a photo)"""


def run() -> NoReturn:
    """Serve, and leave behind whatever threads still do: a photo that takes minutes is nobody's any more."""
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve; returns the exit code: 0 after a signal, 1 if the model died. Mistakes in the settings exit with 2."""
    # A container's first process never gets a signal that it has no handler for, and uvicorn's comes after the seconds
    # that loading takes. Nothing has been accepted until then.
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    settings = read_settings(arguments)
    configure_logs(settings.log_format)
    keep_freed_memory()
    # A core that OpenMP's threads wait on by spinning is a core that decoding and the event loop do not have. Read when
    # torch is first imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    with bind(settings.host, settings.port) as listener:
        with frozen_objects():
            recognizer = load(settings)
            from service.app import create_app  # imports torch, see load

            try:
                app = create_app(settings, recognizer)
            except (OSError, ValueError) as error:
                give_up(f"--api-keys-file (SMNER_API_KEYS_FILE): {error}")
        server = Server(app.state.service, server_config(app), address=address_of(listener))
        server.run(sockets=[listener])
    return 0 if server.model_alive else 1


def read_settings(arguments: Sequence[str] | None) -> Settings:
    """Flags before environment variables before defaults."""
    try:
        return CliApp.run(Settings, None if arguments is None else list(arguments))
    except ValidationError as error:
        fault = error.errors()[0]
        name = "_".join(str(step) for step in fault["loc"])
        give_up(f"--{name.replace('_', '-')} (SMNER_{name.upper()}): {fault['msg']}, not {fault['input']!r}")
    except SettingsError as error:
        give_up(str(error))


def load(settings: Settings) -> "Recognizer":
    """Load the checkpoint onto the device and hold it against the settings."""
    # torch takes seconds to import, which --help and a mistyped flag need not wait for
    from transformers.utils import logging as transformers_logging

    from model import InvalidCheckpoint, Recognizer

    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        recognizer = Recognizer.from_pretrained(
            settings.checkpoint, device=settings.device, precision=settings.precision
        )
    except InvalidCheckpoint as error:
        give_up(f"checkpoint: {error}")
    except ValueError as error:
        give_up(str(error))
    if recognizer.model.image_encoder is None:
        give_up("checkpoint: it reads ready image features and has no image encoder, so it cannot be served")
    longest = recognizer.processor.max_tokens
    if settings.max_batch_tokens < longest:
        give_up(
            f"--max-batch-tokens (SMNER_MAX_BATCH_TOKENS): a single post may have {longest} sub-tokens, "
            f"a batch cannot be smaller, not {settings.max_batch_tokens}"
        )
    return recognizer


def bind(host: str, port: int) -> socket.socket:
    """Take the address before the seconds that loading needs, but listen only when there is something behind it."""
    listener = None
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        if listener is not None:
            listener.close()
        give_up(f"cannot listen on {host} port {port}: {error.strerror}")
    return listener


def address_of(listener: socket.socket) -> str:
    """The URL to type on this machine."""
    host, port = listener.getsockname()[:2]
    if host in ("0.0.0.0", "::"):  # noqa: S104 compared, not listened on
        host = "localhost"
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def give_up(reason: str) -> NoReturn:
    """One line, and the exit code of a usage error."""
    print(f"smner-serve: {reason}", file=sys.stderr)
    sys.exit(2)


def server_config(app: "FastAPI") -> Config:
    return Config(
        app,
        http=GuardedProtocol,
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=75,  # longer than clients and proxies keep theirs: none is closed under a request
        timeout_graceful_shutdown=1,  # the drain has waited already; what is left is cancelled and answered with 503
    )


class Server(uvicorn.Server):
    """uvicorn, which on a signal goes on answering, probes included, until what was accepted is done.

    uvicorn by itself would stop listening at once, so that nobody could see that the service is not ready any more.
    """

    def __init__(self, service: "Service", config: Config, *, address: str) -> None:
        super().__init__(config)
        self._service = service
        self._address = address
        self._announced = False
        self._drain_from = float("inf")
        self.model_alive = True

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002 uvicorn's signature
        """Leave, then drain; a second signal does not wait. uvicorn's own would end the process by the signal."""
        service = self._service
        if service.leaving:
            self.should_exit = True
            return
        # a load balancer sends nothing to what Ctrl-C ends, nor to what was never ready
        noticing = service.settings.shutdown_delay_seconds if sig == signal.SIGTERM and service.engine.ready else 0
        self._drain_from = time.monotonic() + noticing
        service.leaving = True
        service.draining = noticing == 0

    async def on_tick(self, counter: int) -> bool:
        """Called ten times a second."""
        service = self._service
        if not self._announced and service.engine.ready:
            self._announced = True
            recognizer = service.recognizer
            print(_BANNER.format(name=recognizer.name, device=recognizer.device, address=self._address), flush=True)
        if not service.engine.alive:
            self.model_alive = False
            structlog.get_logger().critical("the model's thread has died or hangs: the process ends")
            return True
        drained_for = time.monotonic() - self._drain_from
        if drained_for >= 0:
            service.draining = True
        if service.draining and (service.gate.inside == 0 or drained_for > service.settings.drain_seconds):
            return True
        return await super().on_tick(counter)


if __name__ == "__main__":
    run()
