"""``smner-serve``: load a checkpoint and serve it until told to stop."""

import os
import signal
import socket
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, NoReturn

from pydantic import ValidationError
from pydantic_settings import CliApp, SettingsError

from service import traces
from service.log_writer import LogWriter
from service.logs import configure_logs
from service.runtime import gc_frozen, raise_file_limit, tune_malloc
from service.server import Server, server_config, url_of
from service.settings import Settings

if TYPE_CHECKING:
    from model import Recognizer


def run() -> NoReturn:
    """Serve, then exit without waiting for threads, such as one that decodes an image for a canceled request."""
    os._exit(main())  # without flushing: all output is, and a flush would wait for a reader that hangs


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until a signal.

    Returns:
        The exit code: 0 after a signal, 1 if the model died. Invalid settings exit with 2, a device that fails while
        the checkpoint is loaded with 1.
    """
    # The kernel gives a container's first process only signals that it handles, and uvicorn installs its handlers after
    # loading, which takes seconds. Until then no request has been accepted.
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    settings = read_settings(arguments)
    log_writer = configure_logs(settings.log_format)
    try:
        return _serve(settings, log_writer)
    finally:
        log_writer.close()


def _serve(settings: Settings, log_writer: LogWriter) -> int:
    tune_malloc()
    raise_file_limit()
    # OpenMP's threads would wait by spinning, on cores that decoding and the event loop need. Read when torch is first
    # imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        tracer_provider = traces.provider_from_environment()
    except ValueError as error:
        fail(f"traces (OTEL_… variables): {error}")
    with bind(settings.host, settings.port) as listener, _bind_metrics(settings) as metrics_listener:
        with gc_frozen():
            recognizer = load(settings)
            from service.app import create_app, create_metrics_app  # import torch, see load

            try:
                app = create_app(settings, recognizer, tracer_provider)
            except (OSError, ValueError) as error:
                fail(f"--api-keys-file (SMNER_API_KEYS_FILE): {error}")
            log_writer.on_drop(app.state.service.metrics.log_lines_dropped.inc)
            metrics_app = create_metrics_app(app.state.service)
        server = Server(app.state.service, server_config(app), address=url_of(listener))
        if metrics_listener is not None:
            server.serve_metrics(server_config(metrics_app), metrics_listener)
        for bound in filter(None, (listener, metrics_listener)):
            listen(bound)
        server.run(sockets=[listener])
    traces.close(tracer_provider)
    return 0 if server.model_alive else 1


def read_settings(arguments: Sequence[str] | None) -> Settings:
    """Read the settings; flags override environment variables, which override defaults."""
    try:
        return CliApp.run(Settings, None if arguments is None else list(arguments))
    except ValidationError as error:
        fault = error.errors()[0]
        name = "_".join(str(step) for step in fault["loc"])
        fail(f"--{name.replace('_', '-')} (SMNER_{name.upper()}): {fault['msg']}, not {fault['input']!r}")
    except SettingsError as error:
        fail(str(error))


def load(settings: Settings) -> "Recognizer":
    """Load the checkpoint onto the device and check that it fits the settings."""
    # not at the top: torch takes seconds to import, which would delay --help and complaints about flags
    from transformers.utils import logging as transformers_logging

    from model import InvalidCheckpoint, Recognizer
    from service.inference.device_errors import is_device_error, is_out_of_memory, summary

    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        recognizer = Recognizer.from_pretrained(
            settings.checkpoint, device=settings.device, precision=settings.precision
        )
    except InvalidCheckpoint as error:
        fail(f"checkpoint: {error}")
    except ValueError as error:
        fail(str(error), code=1 if is_out_of_memory(error.__cause__) else 2)
    except RuntimeError as error:
        if not is_device_error(error):
            raise
        fail(f"device {settings.device}: {summary(error)}", code=1)
    if recognizer.model.image_encoder is None:
        fail("checkpoint: it has no image encoder (it expects ready image features), so it cannot be served")
    longest = recognizer.processor.max_tokens
    if settings.max_batch_tokens < longest:
        fail(
            f"--max-batch-tokens (SMNER_MAX_BATCH_TOKENS): must be at least {longest}, the sub-tokens that a single "
            f"post may have, not {settings.max_batch_tokens}"
        )
    return recognizer


def bind(host: str, port: int) -> socket.socket:
    """Bind the address, so that a taken port is reported before loading; the server listens once it can answer."""
    listener = None
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        if listener is not None:
            listener.close()
        fail(f"cannot listen on {host} port {port}: {error.strerror}")
    return listener


def listen(listener: socket.socket) -> None:
    """Listen, because uvloop would hide that another process has bound the address, too, and listens already."""
    try:
        listener.listen()
    except OSError as error:
        host, port = listener.getsockname()[:2]
        fail(f"cannot listen on {host} port {port}: {error.strerror}")


def _bind_metrics(settings: Settings) -> AbstractContextManager[socket.socket | None]:
    return nullcontext() if settings.metrics_port is None else bind(settings.host, settings.metrics_port)


def fail(reason: str, *, code: int = 2) -> NoReturn:
    """Print one line and exit, with the code of a usage error if no other is given."""
    print(f"smner-serve: {reason}", file=sys.stderr)
    sys.exit(code)


if __name__ == "__main__":
    run()
