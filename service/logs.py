"""JSON lines on standard error, which never contain a post's text, a file name or a header."""

import logging
import sys
import traceback
import warnings
from typing import Literal

import structlog
from opentelemetry import trace
from structlog.typing import EventDict, Processor, WrappedLogger

from service.log_writer import LogWriter

_FRAMES = 8  # the innermost of a traceback


def configure_logs(log_format: Literal["auto", "json", "console"]) -> LogWriter:
    """Send the events of structlog and of the standard library through one handler, which never blocks.

    Returns:
        What writes the lines; close it, or the last ones may be lost.
    """
    console = log_format == "console" or (log_format == "auto" and sys.stderr.isatty())
    shared: list[Processor] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        add_trace_id,
    ]
    renderer: Processor = structlog.dev.ConsoleRenderer() if console else structlog.processors.JSONRenderer()
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    writer = LogWriter(sys.stderr)
    handler = logging.StreamHandler(writer)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, name_exception, renderer],
        )
    )
    logging.basicConfig(handlers=[handler], level=logging.INFO, force=True)
    logging.captureWarnings(capture=True)
    warnings.filterwarnings("ignore", module=r"PIL\.")  # about clients' photos; Python would remember each
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    logging.getLogger("python_multipart").setLevel(logging.ERROR)  # what it warns of is answered with 400
    for propagator in ("opentelemetry.baggage", "opentelemetry.trace"):  # their warnings repeat clients' headers
        logging.getLogger(propagator).setLevel(logging.ERROR)
    return writer


def add_trace_id(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Name the trace of the request that an event belongs to, if there is one."""
    context = trace.get_current_span().get_span_context()
    if context.is_valid:
        event["trace_id"] = trace.format_trace_id(context.trace_id)
    return event


def name_exception(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Replace an exception by its type and place, since its message may contain a post's text."""
    given = event.pop("exc_info", None)
    error = given if isinstance(given, BaseException) else given[1] if isinstance(given, tuple) else sys.exception()
    if given and error is not None:
        frames = traceback.extract_tb(error.__traceback__)[-_FRAMES:]
        event["error"] = f"{type(error).__module__}.{type(error).__qualname__}".removeprefix("builtins.")
        event["frames"] = [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames]
    return event
