"""Fixtures for every test: a tiny network, a real photo, and the benchmark data if it is present."""

import functools
import io
import multiprocessing
import os
import socket
import string
import warnings
from collections.abc import Callable, Iterator
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
import torch
from accelerate.state import AcceleratorState, GradientState, PartialState
from hypothesis import settings
from PIL import Image
from skimage import data as free_images
from transformers import BertConfig, BertTokenizerFast

from model import SMNER, Recognizer, SMNERConfig, SMNERProcessor
from model.checkpoint import save_checkpoint
from model.preprocessing.images import ImageSettings

pytest_plugins = ["tests.training.tiny_run"]  # the quality benchmark's tests use it, too

settings.register_profile("thorough", max_examples=5000, deadline=None)  # pytest --hypothesis-profile thorough

SHARED = Path(__file__).parents[2] / "shared" / "data"


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder with the benchmarks and the real posts."""
    if not SHARED.is_dir():
        pytest.skip(f"{SHARED} is missing")
    return SHARED


@pytest.fixture(scope="session")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> BertTokenizerFast:
    """A WordPiece tokenizer whose tokens are the characters of printable ASCII."""
    characters = [c for c in string.printable.lower() if not c.isspace()]
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *characters, *(f"##{c}" for c in characters)]
    file = tmp_path_factory.mktemp("tokenizer") / "vocab.txt"
    file.write_text("\n".join(dict.fromkeys(vocabulary)), "utf-8")
    return BertTokenizerFast(str(file), do_lower_case=True)


@pytest.fixture(scope="session")
def processor(tokenizer: BertTokenizerFast) -> SMNERProcessor:
    return SMNERProcessor(tokenizer, ImageSettings(size=64), max_tokens=128)


@pytest.fixture
def config(tokenizer: BertTokenizerFast) -> SMNERConfig:
    """Two layers of width 24, two heads, and timm's smallest backbone: (N, 256, 2, 2) from 64 × 64."""
    text = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=48,
        max_position_embeddings=128,
    )
    return SMNERConfig(text_config=text, image_encoder="timm:test_efficientnet", attention_heads=2)


@pytest.fixture
def smner(config: SMNERConfig) -> SMNER:
    """The whole network, tiny, with weights large enough for the input to matter."""
    model: SMNER = SMNER(config)
    model.eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 2:
                parameter.mul_(4)
    return model


@pytest.fixture
def recognizer(smner: SMNER, processor: SMNERProcessor) -> Recognizer:
    return Recognizer(smner, processor, device="cpu", name="tiny")


@pytest.fixture
def tiny_checkpoint(tmp_path: Path, smner: SMNER, processor: SMNERProcessor) -> Path:
    """The tiny network as a checkpoint folder."""
    folder = tmp_path / "tiny"
    save_checkpoint(folder, smner, processor, card={"README.md": b"# tiny\n"})
    return folder


@pytest.fixture(scope="session")
def image() -> Image.Image:
    """An astronaut in front of a flag, 512 × 512."""
    return Image.fromarray(free_images.astronaut())  # type: ignore[no-untyped-call]


@pytest.fixture(scope="session")
def jpeg(image: Image.Image) -> bytes:
    """The same image as a JPEG file."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG")
    return buffer.getvalue()


Start = Callable[..., BaseProcess]


@pytest.fixture
def start() -> Iterator[Start]:
    """Start a function in a forked child process, which need not import everything again.

    With ``rank`` and ``port`` it is one of two processes that train together. Children are killed after the test.
    """
    children: list[BaseProcess] = []

    def start(work: Callable[[], object], *, rank: int | None = None, port: int = 0) -> BaseProcess:
        child = multiprocessing.get_context("fork").Process(target=_in_child, args=(work, rank, port))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 warns of forking with threads
            child.start()
        children.append(child)
        return child

    yield start
    for child in children:
        child.kill()
        child.join()


def _in_child(work: Callable[[], object], rank: int | None, port: int) -> None:
    torch.set_num_threads(1)  # a fork does not copy threads
    for state in (AcceleratorState, PartialState, GradientState):
        state._reset_state()
    if rank is not None:
        os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        os.environ |= {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}  # as torchrun does
    work()


@pytest.fixture
def together(start: Start) -> Callable[[Callable[[int], object]], None]:
    """Run a function of the rank in two processes that train together, and wait for both."""

    def run(work: Callable[[int], object]) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        children = [start(functools.partial(work, rank), rank=rank, port=port) for rank in (0, 1)]
        for child in children:
            child.join(300)
        assert [child.exitcode for child in children] == [0, 0]

    return run
