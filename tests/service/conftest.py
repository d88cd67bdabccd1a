"""A real server on a real socket, with a tiny network that tests can hold up."""

import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch
from opentelemetry.trace import TracerProvider
from transformers import BertConfig

from model import SMNER, Entity, Post, Recognizer, SMNERConfig, SMNERProcessor
from model.checkpoint import save_checkpoint
from service.app import create_app, create_metrics_app
from service.http.dependencies import AppState
from service.serve import bind
from service.server import Server, server_config, url_of
from service.settings import Settings
from tests.service.process import ServerProcess, serving_process

API_KEY = "the-tests-own-key"
SMALL_LIMITS = {
    "max_body_bytes": 300_000,
    "max_batch_body_bytes": 300_000,
    "max_image_bytes": 200_000,
    "max_image_pixels": 1_000_000,
    "max_text_characters": 1_000,
    "decode_workers": 2,
    "model_threads": 1,
}


class ScriptedRecognizer(Recognizer):
    """Calls a function of the test before each post and each batch, which may delay it or raise."""

    before_prepare: Callable[[str, Any], object] = staticmethod(lambda *_: None)
    before_run: Callable[[Sequence[Post]], None] = staticmethod(lambda _: None)

    def prepare(self, text: str, image: Any = None, **options: Any) -> Post:
        self.before_prepare(text, image)
        return super().prepare(text, image, **options)

    def run(self, posts: Sequence[Post], *, explain: bool = False) -> list[list[Entity]]:
        self.before_run(posts)
        return super().run(posts, explain=explain)


class Brake:
    """Stops every batch until it is released, and records the texts of each."""

    def __init__(self, recognizer: ScriptedRecognizer) -> None:
        self._let_go = threading.Semaphore(0)
        self._released = False
        self._recognizer = recognizer
        self.batches: list[list[str]] = []
        recognizer.before_run = self._before_run

    def _before_run(self, posts: Sequence[Post]) -> None:
        self.batches.append([post.source for post in posts])
        assert self._released or self._let_go.acquire(timeout=20)

    def wait_for_batch(self, count: int = 1) -> None:
        eventually(lambda: len(self.batches) >= count)

    def release(self, batches: int | None = None) -> None:
        """Let this many batches run, or this one and all later ones."""
        self._released = batches is None
        self._let_go.release(max(1, len(self.batches)) if batches is None else batches)


class Running:
    """A running server, what it consists of, a client, and one of the port for metrics."""

    def __init__(self, server: Server, state: AppState, client: httpx.Client, metrics: httpx.Client) -> None:
        self.server = server
        self.lifecycle = state.lifecycle
        self.limiter = state.pipeline.limiter
        self.engine = state.pipeline.engine
        self.client = client
        self.metrics_client = metrics

    def sigterm(self) -> None:
        """Do what SIGTERM does; the signal itself would only reach the main thread."""
        self.server.handle_exit(signal.SIGTERM, None)

    def connect(self) -> socket.socket:
        """A plain connection."""
        url = self.client.base_url
        return socket.create_connection((url.host, url.port), timeout=10)

    def post(self, text: str = "Kawhi Leonard", image: bytes | None = None, **options: Any) -> httpx.Response:
        return self.client.post("/recognize", files=form(text, image), **options)


Serve = Callable[..., Running]


def form(text: str | bytes | None = "Kawhi Leonard", image: bytes | None = None) -> list[tuple[str, Any]]:
    """The parts of a form, for httpx."""
    parts: list[tuple[str, Any]] = [] if text is None else [("text", (None, text))]
    return parts if image is None else [*parts, ("image", ("photo.jpg", image))]


def eventually(condition: Callable[[], bool], *, seconds: float = 10) -> None:
    """Wait until ``condition`` holds."""
    limit = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < limit, "the condition never held"
        time.sleep(0.005)


@pytest.fixture(scope="session")
def shared_smner(processor: SMNERProcessor) -> SMNER:
    """A tiny network, which no test changes."""
    torch.manual_seed(0)
    text = BertConfig(
        vocab_size=len(processor.tokenizer),
        hidden_size=24,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=48,
        max_position_embeddings=128,
    )
    model = SMNER(SMNERConfig(text_config=text, image_encoder="timm:test_efficientnet", attention_heads=2))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 2:
                parameter.mul_(4)
    return model


@pytest.fixture(scope="session")
def make_recognizer(shared_smner: SMNER, processor: SMNERProcessor) -> Callable[[], ScriptedRecognizer]:
    return lambda: ScriptedRecognizer(shared_smner, processor, device="cpu", name="tiny", revision="r1")


@pytest.fixture(scope="session")
def served_checkpoint(tmp_path_factory: pytest.TempPathFactory, shared_smner: SMNER, processor: SMNERProcessor) -> Path:
    """The tiny network as a checkpoint folder, for servers in other processes."""
    folder = tmp_path_factory.mktemp("checkpoints") / "tiny"
    save_checkpoint(folder, shared_smner, processor, card={"README.md": b"# tiny\n"})
    return folder


@pytest.fixture(scope="session")
def server(served_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server in another process that requires :data:`API_KEY`, for tests that send it anything."""
    keys = tmp_path_factory.mktemp("keys") / "keys"
    keys.write_text(f"tests:{API_KEY}")
    with serving_process("--checkpoint", str(served_checkpoint), "--api-keys-file", str(keys)) as process:
        yield process
        assert process.stop() == 0


@pytest.fixture
def scripted(make_recognizer: Callable[[], ScriptedRecognizer]) -> ScriptedRecognizer:
    return make_recognizer()


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Starts servers, ``serve(recognizer, limit=…)``, which stop at the end of the test."""
    with ExitStack() as stack:
        yield lambda recognizer, **options: stack.enter_context(serving(recognizer, **options))


@pytest.fixture
def running(scripted: ScriptedRecognizer, serve: Serve) -> Running:
    """A server of the test's own."""
    return serve(scripted)


@pytest.fixture
def brake(running: Running, scripted: ScriptedRecognizer) -> Brake:
    """Stops the batches of ``running``, which is warm."""
    return Brake(scripted)


@pytest.fixture(scope="session")
def shared(make_recognizer: Callable[[], ScriptedRecognizer]) -> Iterator[Running]:
    """One server for all tests that only send requests."""
    with serving(make_recognizer()) as running:
        yield running


@pytest.fixture
def client(shared: Running) -> httpx.Client:
    return shared.client


@contextmanager
def serving(
    recognizer: Recognizer, *, wait: bool = True, tracer_provider: TracerProvider | None = None, **overrides: Any
) -> Iterator[Running]:
    settings = Settings(**{**SMALL_LIMITS, "port": 0, **overrides})
    app = create_app(settings, recognizer, tracer_provider)
    state: AppState = app.state.service
    listener = metrics_listener = bind(settings.host, settings.port)
    server = Server(state, server_config(app), address=url_of(listener))
    if settings.metrics_port is not None:
        metrics_listener = bind("127.0.0.1", settings.metrics_port)
        server.serve_metrics(server_config(create_metrics_app(state)), metrics_listener)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        with (
            httpx.Client(base_url=url_of(listener), timeout=20) as client,
            httpx.Client(base_url=url_of(metrics_listener), timeout=20) as metrics,
        ):
            running = Running(server, state, client, metrics)
            eventually(lambda: server.started and (running.engine.ready or not wait))
            yield running
    finally:
        server.should_exit = True
        thread.join(20)
        assert not thread.is_alive()
