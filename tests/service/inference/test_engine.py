import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError

import pytest
import torch
from PIL import Image
from structlog.testing import capture_logs

import service.inference.engine
from model import Entity, Post
from service.errors import DeadlineExceeded, InternalError, NotReady, Overloaded
from service.inference.batching import Budget
from service.inference.engine import Engine, Ticket
from service.inference.image_cache import ImageCache
from service.inference.preprocessing import PreparedPost
from service.inference.warmup import warm_up_batches
from tests.service.conftest import Brake, ScriptedRecognizer, eventually

Start = Callable[..., Engine]


@pytest.fixture
def start(scripted: ScriptedRecognizer) -> Iterator[Start]:
    """Starts an engine and waits until it is warm; its recognizer is ``scripted``."""
    engines = []

    def start(batches_at_once: int = 1) -> Engine:
        engine = Engine(
            scripted,
            budget=Budget(tokens=1024, images=8),
            cache=ImageCache(2**20),
            threads=1,
            batches_at_once=batches_at_once,
        )
        engine.start()
        engines.append(engine)
        eventually(lambda: engine.ready)
        return engine

    yield start
    for engine in engines:
        engine.stop()


def submit(
    engine: Engine, recognizer: ScriptedRecognizer, text: str, *, seconds: float = 20, begun: float = 0
) -> Ticket:
    """Queue a post whose request began ``begun`` seconds ago and may take ``seconds`` from now."""
    post, now = PreparedPost(recognizer.prepare(text)), time.monotonic()
    return engine.submit(post, explain=False, begun=now - begun, deadline=now + seconds, request_id="r")


def places(entities: Sequence[Entity]) -> list[tuple[str, int, int]]:
    """Without the scores, whose last digits depend on the neighbours."""
    return [(entity.entity_group, entity.start, entity.end) for entity in entities]


def fail_on(culprit: str, error: Exception) -> Callable[[Sequence[Post]], None]:
    def before_run(posts: Sequence[Post]) -> None:
        if any(post.source == culprit for post in posts):
            raise error

    return before_run


def test_an_answer_is_the_recognizers(start: Start, scripted: ScriptedRecognizer) -> None:
    ticket = submit(start(), scripted, "Kawhi Leonard")
    assert ticket.answer.result(10) == scripted.recognize("Kawhi Leonard")


def test_it_is_ready_only_when_it_is_warm(scripted: ScriptedRecognizer) -> None:
    brake = Brake(scripted)
    engine = Engine(scripted, budget=Budget(tokens=1024, images=8), cache=ImageCache(0), threads=1)
    assert not engine.alive
    engine.start()
    brake.wait_for_batch()
    assert engine.alive
    assert not engine.ready
    brake.release()
    eventually(lambda: engine.ready)
    engine.stop()
    assert not engine.alive


def test_warm_up_runs_with_and_without_images_at_several_lengths_and_a_full_batch(
    scripted: ScriptedRecognizer, start: Start
) -> None:
    seen: list[tuple[int, bool, int]] = []
    scripted.before_run = lambda posts: seen.append(
        (len(posts), posts[0].pixels is not None, len(posts[0].text.input_ids))
    )
    start()
    assert {image for _, image, _ in seen} == {True, False}
    assert len({tokens for _, _, tokens in seen}) >= 3
    assert max(size for size, _, _ in seen) == 8


@pytest.mark.parametrize("images", [1, 2, 3, 5, 8, 16])
def test_warm_up_meets_every_number_of_images_that_the_image_encoder_gets(
    scripted: ScriptedRecognizer, monkeypatch: pytest.MonkeyPatch, images: int
) -> None:
    def power_of_two(count: int) -> int:
        return 1 << (count - 1).bit_length()

    monkeypatch.setattr(scripted, "image_batch_size", power_of_two)  # as on CUDA
    batches = warm_up_batches(scripted, Budget(tokens=1024, images=images))
    met = {power_of_two(len(posts)) for posts in batches if posts[0].pixels is not None}
    assert met == {power_of_two(count) for count in range(1, images + 1)}


def test_a_full_batch_for_which_there_is_no_memory_makes_the_batches_smaller(scripted: ScriptedRecognizer) -> None:
    """Of 8 photos 3 fit: half of 8 is too many, half of that is not."""
    errors: list[str] = []

    def before_run(posts: Sequence[Post]) -> None:
        if len(posts) > 3:
            raise torch.OutOfMemoryError("tried to allocate 20.00 MiB")

    scripted.before_run = before_run
    engine = Engine(
        scripted,
        budget=Budget(tokens=1024, images=8),
        cache=ImageCache(0),
        threads=1,
        on_device_error=lambda: errors.append("device"),
    )
    with capture_logs() as logs:
        engine.start()
        eventually(lambda: engine.ready)
    brake = Brake(scripted)
    posts = [PreparedPost(scripted.prepare(text, Image.new("RGB", (8, 8))), text.encode()) for text in "abcde"]
    tickets = [
        engine.submit(post, explain=False, begun=0, deadline=time.monotonic() + 20, request_id=post.post.source)
        for post in posts
    ]
    brake.release()
    for ticket in tickets:
        ticket.answer.result(10)
    assert max(map(len, brake.batches)) == 2
    engine.stop()
    assert errors == ["device", "device"]
    assert [entry["batch_images"] for entry in logs if entry["log_level"] == "warning"] == [4, 2]
    assert "SMNER_MAX_BATCH_IMAGES" in logs[1]["event"]


def test_a_device_without_memory_for_one_post_ends_the_engine_and_the_log_says_what_to_do(
    scripted: ScriptedRecognizer,
) -> None:
    def before_run(posts: Sequence[Post]) -> None:
        raise torch.OutOfMemoryError("tried to allocate 20.00 MiB")

    scripted.before_run = before_run
    engine = Engine(scripted, budget=Budget(tokens=1024, images=8), cache=ImageCache(0), threads=1)
    with capture_logs() as logs:
        engine.start()
        eventually(lambda: not engine.alive)
    assert not engine.ready
    *_, advice, death = (entry for entry in logs if entry["log_level"] == "critical")
    assert "SMNER_DEVICE" in advice["event"]
    assert death["event"] == "the model's thread died"
    assert death["detail"] == "tried to allocate 20.00 MiB"
    assert {entry["detail"] for entry in logs if "detail" in entry} == {"tried to allocate 20.00 MiB"}


def test_what_waits_while_the_model_is_busy_runs_as_one_batch(start: Start, scripted: ScriptedRecognizer) -> None:
    engine = start()
    brake = Brake(scripted)
    first = submit(engine, scripted, "one")
    brake.wait_for_batch()
    rest = [submit(engine, scripted, text) for text in ("two", "six", "ten")]
    assert engine.depth == 3
    brake.release()
    for ticket in (first, *rest):
        ticket.answer.result(10)
    assert brake.batches == [["one"], ["two", "six", "ten"]]


def test_two_batches_may_run_at_the_same_time(start: Start, scripted: ScriptedRecognizer) -> None:
    alone = {text: places(scripted.recognize(text)) for text in ("one", "two", "Kawhi Leonard")}
    engine = start(batches_at_once=2)
    brake = Brake(scripted)
    tickets = {}
    for number, text in enumerate(("one", "two"), start=1):
        tickets[text] = submit(engine, scripted, text)
        brake.wait_for_batch(number)
    tickets["Kawhi Leonard"] = submit(engine, scripted, "Kawhi Leonard")
    assert engine.depth == 1
    brake.release()
    assert {text: places(ticket.answer.result(10)) for text, ticket in tickets.items()} == alone


def test_a_image_is_encoded_once_though_two_batches_run(
    start: Start, scripted: ScriptedRecognizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = start(batches_at_once=2)
    brake, encoded, encode = Brake(scripted), [], scripted.encode_images

    def counted(images: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        encoded.append(len(images))
        return encode(images)

    monkeypatch.setattr(scripted, "encode_images", counted)

    def with_image(text: str) -> Ticket:
        post = PreparedPost(scripted.prepare(text, Image.new("RGB", (8, 8))), b"its key")
        return engine.submit(post, explain=False, begun=0, deadline=time.monotonic() + 20, request_id="r")

    first = with_image("one")
    brake.wait_for_batch()
    second, third = with_image("two"), submit(engine, scripted, "six")
    brake.wait_for_batch(2)
    assert brake.batches == [["one"], ["six"]]
    assert engine.depth == 1
    brake.release()
    for ticket in (first, second, third):
        ticket.answer.result(10)
    assert encoded == [1]


def test_when_one_of_its_threads_dies_it_is_dead(start: Start, scripted: ScriptedRecognizer) -> None:
    engine = start(batches_at_once=2)
    brake = Brake(scripted)
    held = submit(engine, scripted, "one")
    brake.wait_for_batch()
    scripted.before_run = fail_on("two", torch.AcceleratorError("the device is lost"))
    with pytest.raises(NotReady):
        submit(engine, scripted, "two").answer.result(10)
    eventually(lambda: not engine.alive)
    with pytest.raises(NotReady):
        submit(engine, scripted, "six")
    brake.release()
    held.answer.result(10)  # of the thread that lives


def test_a_post_that_fails_does_not_take_its_neighbours_along(start: Start, scripted: ScriptedRecognizer) -> None:
    engine = start()
    brake = Brake(scripted)
    submit(engine, scripted, "first")
    brake.wait_for_batch()
    tickets = {text: submit(engine, scripted, text) for text in ("a", "b", "bad", "c", "d")}
    scripted.before_run = fail_on("bad", RuntimeError("shape mismatch"))
    brake.release()
    with pytest.raises(InternalError):
        tickets.pop("bad").answer.result(10)
    for text, ticket in tickets.items():
        assert places(ticket.answer.result(10)) == places(scripted.recognize(text))
    assert engine.ready


def test_running_out_of_memory_on_one_post_is_an_overload(start: Start, scripted: ScriptedRecognizer) -> None:
    engine = start()
    scripted.before_run = fail_on("big", torch.OutOfMemoryError())
    with pytest.raises(Overloaded):
        submit(engine, scripted, "big").answer.result(10)
    assert submit(engine, scripted, "small").answer.result(10) is not None


def test_running_out_of_memory_forgets_the_images_kept_on_the_device_and_is_counted(
    scripted: ScriptedRecognizer,
) -> None:
    cache = ImageCache(1000)
    errors: list[str] = []
    cache.keep(b"seen before", torch.ones(2, 3))
    engine = Engine(
        scripted,
        budget=Budget(tokens=1024, images=8),
        cache=cache,
        threads=1,
        on_device_error=lambda: errors.append("device"),
    )
    engine.start()
    eventually(lambda: engine.ready)
    scripted.before_run = fail_on("big", torch.OutOfMemoryError())
    with pytest.raises(Overloaded):
        submit(engine, scripted, "big").answer.result(10)
    engine.stop()
    assert cache.peek(b"seen before") is None
    assert errors == ["device"]


def test_a_post_that_was_taken_back_costs_no_model_time(start: Start, scripted: ScriptedRecognizer) -> None:
    engine = start()
    brake = Brake(scripted)
    submit(engine, scripted, "first")
    brake.wait_for_batch()
    gone, stays = submit(engine, scripted, "gone"), submit(engine, scripted, "stays")
    assert gone.answer.cancel()
    brake.release()
    stays.answer.result(10)
    assert brake.batches == [["first"], ["stays"]]
    with pytest.raises(CancelledError):
        gone.answer.result(10)


def test_a_post_that_was_taken_back_is_forgotten_while_the_model_is_busy(
    start: Start, scripted: ScriptedRecognizer
) -> None:
    engine = start()
    brake = Brake(scripted)
    submit(engine, scripted, "first")
    brake.wait_for_batch()
    gone = submit(engine, scripted, "gone")
    assert engine.depth == 1
    assert gone.answer.cancel()
    assert engine.depth == 0
    brake.release()


def test_a_model_that_hangs_is_not_alive(
    start: Start, scripted: ScriptedRecognizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = start()
    brake = Brake(scripted)
    running = submit(engine, scripted, "first")
    brake.wait_for_batch()
    assert engine.alive
    monkeypatch.setattr(service.inference.engine, "_HUNG_SECONDS", 0.0)
    assert not engine.alive
    assert not engine.ready
    brake.release()
    running.answer.result(10)
    eventually(lambda: engine.alive)


def test_it_can_be_stopped_while_it_warms_up(scripted: ScriptedRecognizer) -> None:
    engine = Engine(scripted, budget=Budget(tokens=1024, images=8), cache=ImageCache(0), threads=1)
    brake = Brake(scripted)
    engine.start()
    brake.wait_for_batch()
    stopping = threading.Thread(target=engine.stop)
    stopping.start()
    eventually(lambda: engine._closed)
    brake.release()
    stopping.join(10)
    assert not engine.alive
    assert len(brake.batches) == 2  # with and without explanation


def test_a_post_taken_back_while_it_runs_does_no_harm(start: Start, scripted: ScriptedRecognizer) -> None:
    """Setting the result of a cancelled future once hung other servers for good."""
    engine = start()
    brake = Brake(scripted)
    running = submit(engine, scripted, "running")
    brake.wait_for_batch()
    assert not running.answer.cancel()
    brake.release()
    running.answer.result(10)
    submit(engine, scripted, "next").answer.result(10)


def test_a_post_past_its_deadline_costs_no_model_time(start: Start, scripted: ScriptedRecognizer) -> None:
    engine = start()
    brake = Brake(scripted)
    submit(engine, scripted, "first")
    brake.wait_for_batch()
    late = submit(engine, scripted, "late", seconds=0.01, begun=9)
    time.sleep(0.02)
    brake.release()
    with pytest.raises(DeadlineExceeded, match=r"after 9\.\d+ s, the limit is 9\.01"):
        late.answer.result(10)
    submit(engine, scripted, "next").answer.result(10)
    assert ["late"] not in brake.batches


@pytest.mark.parametrize("error", [torch.AcceleratorError("the device is lost"), SystemExit("from a library")])
def test_when_its_thread_dies_all_who_wait_are_told(
    start: Start, scripted: ScriptedRecognizer, error: BaseException
) -> None:
    engine = start()
    brake = Brake(scripted)
    first = submit(engine, scripted, "first")
    brake.wait_for_batch()
    second = submit(engine, scripted, "second")

    def die(_: Sequence[Post]) -> None:
        raise error

    scripted.before_run = die
    brake.release()
    first.answer.result(10)
    with pytest.raises(NotReady, match="stopped"):
        second.answer.result(10)
    eventually(lambda: not engine.alive)
    assert not engine.ready
    with pytest.raises(NotReady, match="stopped"):
        submit(engine, scripted, "third")


def test_stopping_lets_the_running_batch_end_and_refuses_what_waits(start: Start, scripted: ScriptedRecognizer) -> None:
    engine = start()
    brake = Brake(scripted)
    running = submit(engine, scripted, "running")
    brake.wait_for_batch()
    waiting = submit(engine, scripted, "waiting")
    stopping = threading.Thread(target=engine.stop)
    stopping.start()
    brake.release()
    stopping.join(10)
    assert running.answer.result(10) is not None
    with pytest.raises(NotReady):
        waiting.answer.result(10)


def test_torch_uses_the_threads_it_was_given(scripted: ScriptedRecognizer) -> None:
    seen: list[int] = []

    def look(_: Sequence[Post]) -> None:
        seen.append(torch.get_num_threads())
        raise SystemExit  # seen enough

    scripted.before_run = look
    before = torch.get_num_threads()
    engine = Engine(scripted, budget=Budget(tokens=1024, images=8), cache=ImageCache(0), threads=before + 1)
    engine.start()
    eventually(lambda: not engine.alive)
    assert seen == [before + 1]
    assert torch.get_num_threads() == before  # the threads that decode photos keep to theirs
