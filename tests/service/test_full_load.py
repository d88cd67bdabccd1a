"""The checkpoint that comes with the package, served in a process of its own, at its limit and beyond."""

import json
import random
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.benchmarks.load import Load, LoadGenerator
from tests.benchmarks.posts import Post, load_posts
from tests.benchmarks.report import percentile
from tests.service.conftest import eventually
from tests.service.crowd import Answer, ask
from tests.service.process import ServerProcess, serving_process

CLIENTS = 32
MIB = 2**20


@pytest.fixture(scope="module")
def served() -> Iterator[ServerProcess]:
    with serving_process("--image-cache-mb", "0") as process:
        yield process
        assert process.stop() == 0
        assert {entry["level"] for entry in process.log()} == {"info"}


@pytest.fixture(scope="module")
def made_up() -> list[Post]:
    return load_posts(0, Path("nowhere")).posts  # the same on every machine


def answers_alone(server: ServerProcess, posts: Sequence[Post]) -> dict[Post, Answer]:
    seen = ask(server.port, posts, clients=1)
    assert set(seen.outcomes) == {"200"}
    return {post: answer for post, answer in seen.answers if answer is not None}


def test_every_benchmark_pair_is_answered_the_same_alone_and_at_full_load(
    served: ServerProcess, made_up: list[Post], shared_data: Path
) -> None:
    pairs = load_posts(0, shared_data).posts
    alone = answers_alone(served, pairs)
    assert len(alone) == 20
    assert sum(bool(answer.entities) for answer in alone.values()) > 15
    crowd = [*pairs, *pairs, *pairs, *made_up]
    random.Random(0).shuffle(crowd)  # each pair is in three batches with other neighbours
    batches = served.metric("smner_batch_size_count")
    seen = ask(served.port, crowd, clients=CLIENTS)
    assert served.metric("smner_batch_size_count") - batches < len(crowd) / 2  # they did run together
    assert set(seen.outcomes) == {"200"}
    for post, answer in seen.answers:
        assert post not in alone or (answer is not None and answer.same_as(alone[post])), post.text


@pytest.mark.parametrize("seconds", [3, pytest.param(60, marks=pytest.mark.slow)])
def test_at_four_times_its_peak_it_answers_what_it_can_and_refuses_the_rest_at_once(
    served: ServerProcess, made_up: list[Post], seconds: int
) -> None:
    """The benchmark holds goodput to 0.8 and probes to 100 ms; a noisy machine gets slack here."""
    alone = answers_alone(served, made_up)
    with LoadGenerator(made_up) as generator:
        peak = generator.offer(Load(port=served.port, clients=CLIENTS, seconds=3)).rate
        generator.offer(Load(port=served.port, rate=4 * peak, seconds=6))  # until memory has the size that it needs
        before = served.memory
        result = generator.offer(Load(port=served.port, rate=4 * peak, seconds=seconds, keep_answers=True))
    assert set(result.outcomes) == {"200", "503 overloaded", "probe 200"}
    for exchange in result.exchanges:
        if exchange.outcome == "200":
            found = json.loads(exchange.body)["entities"]
            places = [(entity["entity_group"], entity["start"], entity["end"]) for entity in found]
            assert places == alone[made_up[exchange.post]].entities
    assert result.rate > 0.5 * peak
    assert percentile(result.refused, 50) < 0.05
    assert percentile(result.probes, 90) < 0.1
    assert max(result.probes) < 1.0
    print(f"memory {before / MIB:.0f} MiB before, {served.memory / MIB:.0f} MiB after")
    eventually(lambda: served.memory < before + 64 * MIB)
    assert answers_alone(served, made_up[:1])[made_up[0]].same_as(alone[made_up[0]])
