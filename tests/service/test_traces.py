import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode
from structlog.testing import capture_logs

from service.traces import close, provider_from_environment
from tests.service.conftest import Brake, Running, ScriptedRecognizer, Serve, eventually, form
from tests.service.process import ROOT

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
STAGES = ["receive", "decode", "queue", "model"]


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def traced(scripted: ScriptedRecognizer, serve: Serve, exporter: InMemorySpanExporter) -> Running:
    """A server whose spans :func:`exporter` keeps."""
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return serve(scripted, tracer_provider=provider, max_batch_padding=10)


def spans(exporter: InMemorySpanExporter, count: int) -> Sequence[ReadableSpan]:
    """All spans, once there are so many; the last ones are made after the answer."""
    eventually(lambda: len(exporter.get_finished_spans()) >= count)
    return exporter.get_finished_spans()


def below(parent: ReadableSpan, all_spans: Sequence[ReadableSpan]) -> list[ReadableSpan]:
    """The children of a span, in order of time."""
    children = [span for span in all_spans if span.parent and span.parent.span_id == parent.context.span_id]
    return sorted(children, key=lambda span: span.start_time or 0)


def test_post_has_a_span_for_each_stage(traced: Running, exporter: InMemorySpanExporter, jpeg: bytes) -> None:
    answer = traced.post("Kawhi Leonard", jpeg)
    request, *_ = made = spans(exporter, 5)
    assert len(made) == 5
    assert request.name == "POST /recognize"
    assert request.attributes is not None
    assert request.attributes["http.response.status_code"] == 200
    assert request.attributes["smner.request_id"] == answer.headers["X-Request-ID"]
    stages = below(request, made)
    assert [span.name for span in stages] == STAGES
    assert [dict(span.attributes or {}) for span in stages] == [{}, {}, {}, {"smner.batch_size": 1}]
    moments = [moment or 0 for span in stages for moment in (span.start_time, span.end_time)]
    assert moments == sorted(moments)
    assert (request.start_time or 0) <= moments[0]
    assert moments[-1] <= (request.end_time or 0)
    assert abs(moments[-1] - time.time_ns()) < 60e9


def test_trace_of_the_client_is_continued(traced: Running, exporter: InMemorySpanExporter) -> None:
    traced.post(headers={"traceparent": f"00-{TRACE}-{PARENT}-01"})
    made = spans(exporter, 5)
    assert {f"{span.context.trace_id:032x}" for span in made} == {TRACE}
    assert made[0].parent is not None
    assert f"{made[0].parent.span_id:016x}" == PARENT


def test_request_that_the_client_does_not_sample(traced: Running, exporter: InMemorySpanExporter) -> None:
    assert traced.post(headers={"traceparent": f"00-{TRACE}-{PARENT}-00"}).status_code == 200
    traced.post()
    assert TRACE not in {f"{span.context.trace_id:032x}" for span in spans(exporter, 5)}


def test_model_span_has_the_size_of_the_batch(
    traced: Running, exporter: InMemorySpanExporter, scripted: ScriptedRecognizer
) -> None:
    brake = Brake(scripted)
    with ThreadPoolExecutor(3) as pool:
        posts = [pool.submit(traced.post)]
        brake.wait_for_batch()
        posts += [pool.submit(traced.post) for _ in range(2)]
        eventually(lambda: traced.engine.depth == 2)
        brake.release()
        assert [post.result().status_code for post in posts] == [200] * 3
    sizes = [
        str(dict(span.attributes or {})["smner.batch_size"]) for span in spans(exporter, 15) if "model" in span.name
    ]
    assert sorted(sizes) == ["1", "2", "2"]


def test_each_post_of_a_batch_has_a_span(traced: Running, exporter: InMemorySpanExporter) -> None:
    batch = {"posts": [{"text": "Kawhi Leonard"}, {"text": "Oslo", "image": "AAAA"}, {"text": " "}]}
    assert traced.client.post("/recognize/batch", json=batch).status_code == 200
    made = spans(exporter, 1 + 1 + 4 + 2)
    (request,) = [span for span in made if span.name == "POST /recognize/batch"]
    (receive,) = [span for span in below(request, made) if span.name == "receive"]
    posts = [span for span in below(request, made) if span is not receive]
    assert {span.name for span in posts} == {"post"}
    answered, unreadable = sorted(posts, key=lambda span: len(below(span, made)), reverse=True)
    assert [span.name for span in below(answered, made)] == ["decode", "queue", "model"]
    assert answered.status.status_code is StatusCode.UNSET
    assert [span.name for span in below(unreadable, made)] == ["decode"]
    assert unreadable.status.status_code is StatusCode.ERROR
    assert dict(unreadable.attributes or {}) == {"error.type": "unsupported_image"}


def test_spans_have_nothing_of_a_post(traced: Running, exporter: InMemorySpanExporter) -> None:
    parts = [*form("private words"), ("image", ("private.jpg", b"private bytes"))]
    headers = {"User-Agent": "private agent", "Authorization": "Bearer private"}
    traced.client.post("/recognize", files=parts, headers=headers)
    traced.client.post("/recognize?text=private+words", files=parts, headers=headers)
    traced.client.post("/recognize/batch", json={"posts": [{"id": "private", "text": "private words"}]})
    traced.client.post("/recognize/private")
    text = "".join(span.to_json() for span in spans(exporter, 3 + 1 + 6))
    assert "POST /recognize/batch" in text
    assert "private" not in text


def test_failure_of_the_model_repeats_nothing(
    traced: Running, exporter: InMemorySpanExporter, scripted: ScriptedRecognizer
) -> None:
    def fail(text: str, _: object) -> None:
        raise KeyError(text)

    scripted.before_prepare = fail
    with capture_logs():
        assert traced.post("private words").status_code == 500
    request, *rest = spans(exporter, 3)
    assert request.status.status_code is StatusCode.ERROR
    assert "private" not in "".join(span.to_json() for span in (request, *rest))


def test_only_posts_are_traced(traced: Running, exporter: InMemorySpanExporter) -> None:
    for path in ("/", "/health/ready", "/metrics", "/info", "/nowhere", "/recognize"):
        traced.client.get(path)
    traced.post()
    assert {span.name for span in spans(exporter, 5)} == {"POST /recognize", *STAGES}


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[ExportTraceServiceRequest]]:
    """What is sent to the collector that the environment names."""
    received = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            assert self.path == "/v1/traces"
            body = self.rfile.read(int(self.headers["Content-Length"]))
            received.append(ExportTraceServiceRequest.FromString(body))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Collector) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        yield received
        server.shutdown()


def test_environment_names_the_collector(
    collector: list[ExportTraceServiceRequest],
    monkeypatch: pytest.MonkeyPatch,
    scripted: ScriptedRecognizer,
    serve: Serve,
) -> None:
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test")
    provider = provider_from_environment()
    running = serve(scripted, tracer_provider=provider)
    running.post(headers={"traceparent": f"00-{TRACE}-{PARENT}-01"})
    close(provider)  # sends what was not sent
    resources = [resource for request in collector for resource in request.resource_spans]
    attributes = {item.key: item.value.string_value for item in resources[0].resource.attributes}
    assert attributes["service.name"] == "smner"
    assert attributes["deployment.environment.name"] == "test"
    sent = [span for resource in resources for scope in resource.scope_spans for span in scope.spans]
    assert {span.trace_id.hex() for span in sent} == {TRACE}
    assert {span.name for span in sent} == {"POST /recognize", *STAGES}


@pytest.mark.parametrize("exporters", ["", "otlp", "console,otlp"])
def test_otlp_is_one_of_the_exporters(collector: object, monkeypatch: pytest.MonkeyPatch, exporters: str) -> None:
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", exporters)
    provider = provider_from_environment()
    assert provider is not None
    close(provider)


@pytest.mark.parametrize("name", ["OTEL_SERVICE_NAME", "OTEL_RESOURCE_ATTRIBUTES"])
def test_service_name_can_be_chosen(
    collector: list[ExportTraceServiceRequest], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, "ner" if name == "OTEL_SERVICE_NAME" else "service.name=ner")
    provider = provider_from_environment()
    assert provider is not None
    assert provider.resource.attributes["service.name"] == "ner"
    close(provider)


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": ""},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", "OTEL_TRACES_EXPORTER": "none"},
    ],
)
def test_without_a_collector_there_are_no_traces(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert provider_from_environment() is None


def test_missing_extra_is_told(collector: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    with capture_logs() as logs:
        assert provider_from_environment() is None
    assert "smner[traces]" in logs[0]["event"]


def test_lost_collector_does_not_delay_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
        monkeypatch.setattr("service.traces._CLOSE_SECONDS", 0.1)
        provider = provider_from_environment()
        assert provider is not None
        provider.get_tracer("tests").start_span("a post").end()
        started = time.monotonic()
        close(provider)
        assert time.monotonic() - started < 5


def test_sdk_is_imported_only_with_a_collector() -> None:
    code = "import json, sys, service.traces; print(json.dumps([name for name in sys.modules if 'telemetry' in name]))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    imported = json.loads(done.stdout)
    assert "opentelemetry.trace" in imported
    assert not [name for name in imported if name.startswith(("opentelemetry.sdk", "opentelemetry.exporter"))]
