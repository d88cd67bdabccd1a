"""A real server on a real socket, with a network small enough to answer at once and a handle to hold it up."""

import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch
from transformers import BertConfig

from model import SMNER, Entity, Post, Recognizer, SMNERConfig, SMNERProcessor
from model.checkpoint import save_checkpoint
from service.app import create_app
from service.inference.pipeline import Service
from service.serve import Server, address_of, bind, server_config
from service.settings import Settings
from tests.service.process import ServerProcess, serving_process

API_KEY = "the-tests-own-key"
SMALL_LIMITS = {
    "max_body_bytes": 300_000,
    "max_image_bytes": 200_000,
    "max_image_pixels": 1_000_000,
    "max_text_characters": 1_000,
    "decode_workers": 2,
    "model_threads": 1,
}


class ScriptedRecognizer(Recognizer):
    """A recognizer that shows its batches to a test first, which may hold them up or fail them."""

    before_run: Callable[[Sequence[Post]], None] = staticmethod(lambda _: None)

    def run(self, posts: Sequence[Post], *, explain: bool = False) -> list[list[Entity]]:
        self.before_run(posts)
        return super().run(posts, explain=explain)


class Brake:
    """Holds the model up while it is pulled, and counts what ran into it."""

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
        """Let so many batches run, or this and all later ones."""
        self._released = batches is None
        self._let_go.release(max(1, len(self.batches)) if batches is None else batches)


class Running:
    """A server that runs, the service in it and a client of it."""

    def __init__(self, server: Server, service: Service, client: httpx.Client) -> None:
        self.server = server
        self.service = service
        self.client = client

    def sigterm(self) -> None:
        """What the server does on SIGTERM; the signal itself reaches only a process's main thread."""
        self.server.handle_exit(signal.SIGTERM, None)

    def post(self, text: str = "Kawhi Leonard", image: bytes | None = None, **options: Any) -> httpx.Response:
        return self.client.post("/recognize", files=form(text, image), **options)


Serve = Callable[..., Running]


def form(text: str | bytes | None = "Kawhi Leonard", image: bytes | None = None) -> list[tuple[str, Any]]:
    """A form's parts as httpx takes them."""
    parts: list[tuple[str, Any]] = [] if text is None else [("text", (None, text))]
    return parts if image is None else [*parts, ("image", ("photo.jpg", image))]


def eventually(condition: Callable[[], bool], *, seconds: float = 10) -> None:
    """Wait until ``condition`` holds."""
    limit = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < limit, "it never came true"
        time.sleep(0.005)


@pytest.fixture(scope="session")
def shared_smner(processor: SMNERProcessor) -> SMNER:
    """The small network, made once: nothing here changes it."""
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
    """The small network as a checkpoint folder, for servers in a process of their own."""
    folder = tmp_path_factory.mktemp("checkpoints") / "tiny"
    save_checkpoint(folder, shared_smner, processor, model_card="# tiny\n")
    return folder


@pytest.fixture(scope="session")
def server(served_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server in a process of its own that wants :data:`API_KEY`, for the tests that send it anything."""
    keys = tmp_path_factory.mktemp("keys") / "keys"
    keys.write_text(API_KEY)
    with serving_process("--checkpoint", str(served_checkpoint), "--api-keys-file", str(keys)) as process:
        yield process
        assert process.stop() == 0


@pytest.fixture
def scripted(make_recognizer: Callable[[], ScriptedRecognizer]) -> ScriptedRecognizer:
    return make_recognizer()


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Starts servers, ``serve(recognizer, limit=…)``, and stops them when the test is over."""
    with ExitStack() as stack:

        def start(recognizer: Recognizer, *, wait: bool = True, **overrides: Any) -> Running:
            return stack.enter_context(serving(recognizer, wait=wait, **overrides))

        yield start


@pytest.fixture(scope="session")
def shared(make_recognizer: Callable[[], ScriptedRecognizer]) -> Iterator[Running]:
    """One server for the tests that only ask."""
    with serving(make_recognizer()) as running:
        yield running


@pytest.fixture
def client(shared: Running) -> httpx.Client:
    return shared.client


def serving(recognizer: Recognizer, *, wait: bool = True, **overrides: Any) -> AbstractContextManager[Running]:
    return _serving(Settings(**{**SMALL_LIMITS, **overrides}), recognizer, wait=wait)


@contextmanager
def _serving(settings: Settings, recognizer: Recognizer, *, wait: bool) -> Iterator[Running]:
    app = create_app(settings, recognizer)
    service: Service = app.state.service
    listener = bind("127.0.0.1", 0)
    server = Server(service, server_config(app), address=address_of(listener))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        with httpx.Client(base_url=address_of(listener), timeout=20) as client:
            eventually(lambda: server.started)
            if wait:
                eventually(lambda: service.engine.ready)
            yield Running(server, service, client)
    finally:
        server.should_exit = True
        thread.join(20)
        assert not thread.is_alive()
