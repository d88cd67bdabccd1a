import json
import logging
import warnings
from collections.abc import Iterator
from typing import Any, Literal

import pytest
import structlog
from opentelemetry import propagate, trace
from opentelemetry.trace import NonRecordingSpan, SpanContext

from service.logs import configure_logs


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    """Restore logging, which the whole process shares."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    own = ("uvicorn", "python_multipart", "opentelemetry.baggage", "opentelemetry.trace")
    levels = {name: logging.getLogger(name).level for name in own}
    yield
    logging.captureWarnings(capture=False)
    structlog.reset_defaults()
    root.handlers[:] = handlers
    root.setLevel(level)
    for name, value in levels.items():
        logging.getLogger(name).setLevel(value)


def test_all_events_are_json_lines(capsys: pytest.CaptureFixture[str]) -> None:
    writer = configure_logs("json")
    structlog.get_logger("service.x").info("request", status=200)
    logging.getLogger("uvicorn.error").warning("Invalid HTTP request received.")
    logging.getLogger("uvicorn.error").info("Started server process")
    writer.close()
    ours, theirs = (json.loads(line) for line in capsys.readouterr().err.splitlines())
    assert {"event": "request", "status": 200, "level": "info"}.items() <= ours.items()
    assert {"event": "Invalid HTTP request received.", "level": "warning"}.items() <= theirs.items()


def test_warnings_are_logged_but_not_pillows(capsys: pytest.CaptureFixture[str]) -> None:
    """Damaged images made Pillow write plain text into the log, and Python remember every new wording forever."""
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        writer = configure_logs("json")
        remembered: dict[Any, Any] = {}
        for module in ("PIL.Image", "service.x"):
            warnings.warn_explicit(f"of {module}", UserWarning, "x.py", 1, module, remembered)
        writer.close()
    (line,) = capsys.readouterr().err.splitlines()
    assert "of service.x" in json.loads(line)["event"]
    assert "PIL" not in str(remembered)


def test_console_format_is_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    writer = configure_logs("console")
    structlog.get_logger().info("request", status=200)
    writer.close()
    line = capsys.readouterr().err
    assert "request" in line
    assert not line.startswith("{")


def test_events_of_a_traced_request_name_the_trace(capsys: pytest.CaptureFixture[str]) -> None:
    writer = configure_logs("json")
    context = SpanContext(0xABC, 0xDEF, is_remote=True)
    with trace.use_span(NonRecordingSpan(context)):
        structlog.get_logger().info("request")
        logging.getLogger("asyncio").warning("slow")
    structlog.get_logger().info("untraced")
    writer.close()
    traces = [json.loads(line).get("trace_id") for line in capsys.readouterr().err.splitlines()]
    assert traces == [f"{0xABC:032x}", f"{0xABC:032x}", None]


@pytest.mark.parametrize(
    "headers",
    [
        {"baggage": "private words"},
        {"baggage": 10_000 * "private"},
        {"traceparent": f"00-{1:032x}-{1:016x}-01", "tracestate": "private words"},
    ],
)
def test_broken_headers_of_a_trace_are_not_logged(capsys: pytest.CaptureFixture[str], headers: dict[str, str]) -> None:
    writer = configure_logs("json")
    propagate.extract(headers)
    writer.close()
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("log_format", ["json", "console"])
@pytest.mark.parametrize("logger", [structlog.get_logger("service.x"), logging.getLogger("asyncio")])
def test_exceptions_are_logged_without_their_messages(
    capsys: pytest.CaptureFixture[str], log_format: Literal["json", "console"], logger: Any
) -> None:
    """KeyError, UnicodeDecodeError and many others repeat a post's text in their message."""
    writer = configure_logs(log_format)
    try:
        int("private words")
    except ValueError as error:
        logger.exception("it failed")
        failed = error
    logger.error("it failed", exc_info=failed)
    writer.close()
    lines = capsys.readouterr().err
    assert lines.count("it failed") == 2
    assert lines.count("ValueError") == 2
    assert lines.count(f"{__file__}:") == 2
    assert "private" not in lines


def test_debug_events_are_not_logged(capsys: pytest.CaptureFixture[str]) -> None:
    writer = configure_logs("json")
    structlog.get_logger().debug("probe")
    writer.close()
    assert capsys.readouterr().err == ""
