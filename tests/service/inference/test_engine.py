import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError
from copy import copy
from typing import Any

import pytest
import torch
from PIL import Image
from structlog.testing import capture_logs

import service.inference.engine
from model import Entity, Post
from service.errors import DeadlineExceeded, InternalError, NotReady, Overloaded
from service.inference.batching import Budget
from service.inference.deadline import Deadline
from service.inference.engine import Engine
from service.inference.image_cache import ImageCache
from service.inference.queue_entry import QueueEntry
from tests.service.conftest import Brake, ScriptedRecognizer, eventually

IMAGE = Image.new("RGB", (8, 8))

Make = Callable[..., Engine]


@pytest.fixture
def make(scripted: ScriptedRecognizer) -> Iterator[Make]:
    """Makes engines for ``scripted``, which are stopped at the end of the test."""
    engines = []

    def make(**options: Any) -> Engine:
        defaults = {"budget": Budget(tokens=1024, images=8), "cache": ImageCache(2**20), "torch_threads": 1}
        engines.append(Engine(scripted, **{**defaults, **options}))
        return engines[-1]

    yield make
    for engine in engines:
        if engine.alive:
            engine.stop()


@pytest.fixture
def start(make: Make) -> Make:
    """Starts an engine and waits until it is warm."""

    def start(**options: Any) -> Engine:
        engine = make(**options)
        engine.start()
        eventually(lambda: engine.ready)
        return engine

    return start


def entry(
    recognizer: ScriptedRecognizer,
    text: str,
    image: Image.Image | None = None,
    *,
    key: bytes = b"",
    seconds: float = 20,
    elapsed: float = 0,
) -> QueueEntry:
    """A post whose request has taken ``elapsed`` seconds and may take ``seconds`` more."""
    return QueueEntry(
        post=recognizer.prepare(text, image),
        image_key=key,
        explain=False,
        deadline=Deadline(time.monotonic() - elapsed, elapsed + seconds),
        request_id="r",
    )


def submit(engine: Engine, recognizer: ScriptedRecognizer, text: str, **options: Any) -> QueueEntry:
    submitted = entry(recognizer, text, **options)
    engine.submit(submitted)
    return submitted


def places(entities: Sequence[Entity]) -> list[tuple[str, int, int]]:
    """Without the scores, whose last digits depend on the rest of the batch."""
    return [(entity.entity_group, entity.start, entity.end) for entity in entities]


def fail_on(culprit: str, error: BaseException) -> Callable[[Sequence[Post]], None]:
    def before_run(posts: Sequence[Post]) -> None:
        if any(post.source == culprit for post in posts):
            raise copy(error)  # without the traceback of the last time

    return before_run


NO_MEMORY = torch.OutOfMemoryError("tried to allocate 20.00 MiB")
NO_MEMORY_FOR_CUBLAS = RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`")
NO_MEMORY_FOR_CUDNN = RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED")
NO_MEMORY_FOR_CUDA = torch.AcceleratorError("CUDA error: out of memory\nCUDA kernel errors might be reported later")
every_lack_of_memory = pytest.mark.parametrize(
    "error", [NO_MEMORY, NO_MEMORY_FOR_CUBLAS, NO_MEMORY_FOR_CUDNN, NO_MEMORY_FOR_CUDA]
)


def fail_above(size: int, error: Exception = NO_MEMORY) -> Callable[[Sequence[Post]], None]:
    """Only so many posts fit into memory."""

    def before_run(posts: Sequence[Post]) -> None:
        if len(posts) > size:
            raise copy(error)  # without the traceback of the last time

    return before_run


@pytest.fixture
def emptied(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Grows whenever torch's cache of the device's memory is emptied."""
    times: list[str] = []
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: times.append("emptied"))
    return times


def test_answer_is_the_recognizers(start: Make, scripted: ScriptedRecognizer) -> None:
    submitted = submit(start(), scripted, "Kawhi Leonard")
    assert submitted.future.result(10) == scripted.recognize("Kawhi Leonard")


def test_engine_is_ready_when_warm(make: Make, scripted: ScriptedRecognizer) -> None:
    brake = Brake(scripted)
    engine = make()
    assert not engine.alive
    engine.start()
    brake.wait_for_batch()
    assert engine.alive
    assert not engine.ready
    brake.release()
    eventually(lambda: engine.ready)
    engine.stop()
    assert not engine.alive


@every_lack_of_memory
def test_budget_shrinks_to_the_memory(
    make: Make, scripted: ScriptedRecognizer, emptied: list[str], error: Exception
) -> None:
    """3 of 8 images fit: half of 8 is too many, half of that is not."""
    errors: list[str] = []
    scripted.before_run = fail_above(3, error)
    engine = make(on_device_error=lambda: errors.append("device"))
    with capture_logs() as logs:
        engine.start()
        eventually(lambda: engine.ready)
    brake = Brake(scripted)
    entries = [submit(engine, scripted, text, image=IMAGE, key=text.encode()) for text in "abcde"]
    brake.release()
    for submitted in entries:
        submitted.future.result(10)
    assert max(map(len, brake.batches)) == 2
    assert errors == ["device", "device"]
    assert len(emptied) == 2
    assert [log["batch_images"] for log in logs if log["log_level"] == "warning"] == [4, 2]
    assert "SMNER_MAX_BATCH_IMAGES" in logs[1]["event"]


def test_device_too_small_for_one_post_is_fatal(make: Make, scripted: ScriptedRecognizer) -> None:
    scripted.before_run = fail_above(0)
    engine = make()
    with capture_logs() as logs:
        engine.start()
        eventually(lambda: not engine.alive)
    assert not engine.ready
    *_, advice, death = (log for log in logs if log["log_level"] == "critical")
    assert "SMNER_DEVICE" in advice["event"]
    assert death["event"] == "the model's thread died"
    assert {log["detail"] for log in logs if "detail" in log} == {"tried to allocate 20.00 MiB"}
    assert "detail" in death


def test_waiting_posts_run_as_one_batch(start: Make, scripted: ScriptedRecognizer) -> None:
    engine = start()
    brake = Brake(scripted)
    first = submit(engine, scripted, "one")
    brake.wait_for_batch()
    rest = [submit(engine, scripted, text) for text in ("two", "six", "ten")]
    assert engine.depth == 3
    brake.release()
    for submitted in (first, *rest):
        submitted.future.result(10)
    assert brake.batches == [["one"], ["two", "six", "ten"]]


def test_two_batches_run_concurrently(start: Make, scripted: ScriptedRecognizer) -> None:
    alone = {text: places(scripted.recognize(text)) for text in ("one", "two", "Kawhi Leonard")}
    engine = start(concurrent_batches=2)
    brake = Brake(scripted)
    entries = {}
    for number, text in enumerate(("one", "two"), start=1):
        entries[text] = submit(engine, scripted, text)
        brake.wait_for_batch(number)
    entries["Kawhi Leonard"] = submit(engine, scripted, "Kawhi Leonard")
    assert engine.depth == 1
    brake.release()
    assert {text: places(submitted.future.result(10)) for text, submitted in entries.items()} == alone


def test_concurrent_batches_encode_an_image_once(
    start: Make, scripted: ScriptedRecognizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = start(concurrent_batches=2)
    brake, encoded, encode = Brake(scripted), [], scripted.encode_images

    def counted(images: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        encoded.append(len(images))
        return encode(images)

    monkeypatch.setattr(scripted, "encode_images", counted)
    first = submit(engine, scripted, "one", image=IMAGE, key=b"its key")
    brake.wait_for_batch()
    second, third = submit(engine, scripted, "two", image=IMAGE, key=b"its key"), submit(engine, scripted, "six")
    brake.wait_for_batch(2)
    assert brake.batches == [["one"], ["six"]]
    assert engine.depth == 1
    brake.release()
    for submitted in (first, second, third):
        submitted.future.result(10)
    assert encoded == [1]


def test_one_dead_thread_stops_the_engine(start: Make, scripted: ScriptedRecognizer) -> None:
    engine = start(concurrent_batches=2)
    brake = Brake(scripted)
    held = submit(engine, scripted, "one")
    brake.wait_for_batch()
    scripted.before_run = fail_on("two", torch.AcceleratorError("the device is lost"))
    with pytest.raises(NotReady):
        submit(engine, scripted, "two").future.result(10)
    eventually(lambda: not engine.alive)
    with pytest.raises(NotReady):
        submit(engine, scripted, "six")
    brake.release()
    held.future.result(10)  # of the thread that lives


def test_post_that_fails_spares_its_batch(start: Make, scripted: ScriptedRecognizer) -> None:
    engine = start()
    brake = Brake(scripted)
    submit(engine, scripted, "first")
    brake.wait_for_batch()
    entries = {text: submit(engine, scripted, text) for text in ("a", "b", "bad", "c", "d")}
    scripted.before_run = fail_on("bad", RuntimeError("shape mismatch"))
    brake.release()
    with pytest.raises(InternalError):
        entries.pop("bad").future.result(10)
    for text, submitted in entries.items():
        assert places(submitted.future.result(10)) == places(scripted.recognize(text))
    assert engine.ready


@every_lack_of_memory
def test_out_of_memory_on_one_post_is_overloaded(
    start: Make, scripted: ScriptedRecognizer, emptied: list[str], error: Exception
) -> None:
    """Cached features are on the device, so they are dropped, too."""
    cache = ImageCache(1000)
    errors: list[str] = []
    cache.put(b"cached", torch.ones(2, 3))
    engine = start(cache=cache, on_device_error=lambda: errors.append("device"))
    scripted.before_run = fail_on("big", error)
    with pytest.raises(Overloaded):
        submit(engine, scripted, "big").future.result(10)
    eventually(lambda: emptied == ["emptied"])
    assert cache.peek(b"cached") is None
    assert errors == ["device"]
    assert submit(engine, scripted, "small").future.result(10) is not None


@every_lack_of_memory
def test_batch_without_memory_is_halved(
    start: Make, scripted: ScriptedRecognizer, emptied: list[str], error: Exception
) -> None:
    """Of four posts two fit at once; each failure is counted and logged in one line."""
    errors: list[str] = []
    engine = start(on_device_error=lambda: errors.append("device"))
    brake = Brake(scripted)
    submit(engine, scripted, "first")
    brake.wait_for_batch()
    entries = [submit(engine, scripted, text) for text in ("one", "two", "six", "ten")]
    scripted.before_run = fail_above(2, error)
    with capture_logs() as logs:
        brake.release()
        for submitted in entries:
            submitted.future.result(10)
    assert (len(errors), len(emptied)) == (1, 1)
    (detail,) = [log["detail"] for log in logs if log["event"] == "the device failed"]
    assert detail == str(error).split("\n")[0]


def test_failing_library_is_a_device_error(start: Make, scripted: ScriptedRecognizer, emptied: list[str]) -> None:
    """No lack of memory, so nothing is freed; if the device is lost, the next batch says so."""
    errors: list[str] = []
    engine = start(on_device_error=lambda: errors.append("device"))
    scripted.before_run = fail_on("bad", RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"))
    with pytest.raises(InternalError):
        submit(engine, scripted, "bad").future.result(10)
    assert submit(engine, scripted, "good").future.result(10) is not None
    assert (errors, emptied) == (["device"], [])


def test_canceled_post_is_dropped_at_once(start: Make, scripted: ScriptedRecognizer) -> None:
    engine = start()
    brake = Brake(scripted)
    submit(engine, scripted, "first")
    brake.wait_for_batch()
    canceled, stays = submit(engine, scripted, "canceled"), submit(engine, scripted, "stays")
    assert engine.depth == 2
    assert canceled.future.cancel()
    assert engine.depth == 1  # while the model is busy
    brake.release()
    stays.future.result(10)
    assert brake.batches == [["first"], ["stays"]]
    with pytest.raises(CancelledError):
        canceled.future.result(10)


def test_hanging_model_is_not_alive(start: Make, scripted: ScriptedRecognizer, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = start()
    brake = Brake(scripted)
    running = submit(engine, scripted, "first")
    brake.wait_for_batch()
    assert engine.alive
    monkeypatch.setattr(service.inference.engine, "_HUNG_SECONDS", 0.0)
    assert not engine.alive
    assert not engine.ready
    brake.release()
    running.future.result(10)
    eventually(lambda: engine.alive)


def test_engine_can_stop_while_warming_up(make: Make, scripted: ScriptedRecognizer) -> None:
    engine = make()
    brake = Brake(scripted)
    engine.start()
    brake.wait_for_batch()
    stopping = threading.Thread(target=engine.stop)
    stopping.start()
    eventually(lambda: engine._stopped)
    brake.release()
    stopping.join(10)
    assert not engine.alive
    assert len(brake.batches) == 2  # with and without explanation


def test_running_post_cannot_be_canceled(start: Make, scripted: ScriptedRecognizer) -> None:
    """Setting the result of a canceled future hung other servers for good."""
    engine = start()
    brake = Brake(scripted)
    running = submit(engine, scripted, "running")
    brake.wait_for_batch()
    assert not running.future.cancel()
    brake.release()
    running.future.result(10)
    submit(engine, scripted, "next").future.result(10)


def test_expired_post_never_runs(start: Make, scripted: ScriptedRecognizer) -> None:
    engine = start()
    brake = Brake(scripted)
    submit(engine, scripted, "first")
    brake.wait_for_batch()
    late = submit(engine, scripted, "late", seconds=0.01, elapsed=9)
    time.sleep(0.02)
    brake.release()
    with pytest.raises(DeadlineExceeded, match=r"after 9\.\d+ s; the limit is 9\.01"):
        late.future.result(10)
    submit(engine, scripted, "next").future.result(10)
    assert ["late"] not in brake.batches


@pytest.mark.parametrize("error", [torch.AcceleratorError("the device is lost"), SystemExit("from a library")])
def test_dying_thread_fails_waiting_posts(start: Make, scripted: ScriptedRecognizer, error: BaseException) -> None:
    engine = start()
    brake = Brake(scripted)
    first = submit(engine, scripted, "first")
    brake.wait_for_batch()
    second = submit(engine, scripted, "second")
    scripted.before_run = fail_on("second", error)
    brake.release()
    first.future.result(10)
    with pytest.raises(NotReady, match="stopped"):
        second.future.result(10)
    eventually(lambda: not engine.alive)
    assert not engine.ready
    with pytest.raises(NotReady, match="stopped"):
        submit(engine, scripted, "third")


def test_stop_finishes_running_and_refuses_waiting(start: Make, scripted: ScriptedRecognizer) -> None:
    engine = start()
    brake = Brake(scripted)
    running = submit(engine, scripted, "running")
    brake.wait_for_batch()
    waiting = submit(engine, scripted, "waiting")
    stopping = threading.Thread(target=engine.stop)
    stopping.start()
    brake.release()
    stopping.join(10)
    assert running.future.result(10) is not None
    with pytest.raises(NotReady):
        waiting.future.result(10)


def test_torch_threads_are_set_for_the_model(make: Make, scripted: ScriptedRecognizer) -> None:
    seen: list[int] = []

    def look(_: Sequence[Post]) -> None:
        seen.append(torch.get_num_threads())
        raise SystemExit  # seen enough

    scripted.before_run = look
    before = torch.get_num_threads()
    engine = make(torch_threads=before + 1)
    engine.start()
    eventually(lambda: not engine.alive)
    assert seen == [before + 1]
    assert torch.get_num_threads() == before  # the threads that decode images keep theirs
