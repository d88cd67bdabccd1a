"""The scenarios, one function for each question."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from model.device import choose_device, has_bfloat16
from tests.benchmarks.serving.answers import Answers, count_differing, read_answers
from tests.benchmarks.serving.direct import Direct
from tests.benchmarks.serving.load import Load, LoadGenerator, Result
from tests.benchmarks.serving.posts import Posts
from tests.benchmarks.serving.report import Report, percentile
from tests.benchmarks.serving.systems import System, fetch, peers, running, smner

_CEILING, _FLOAT32, _OURS = "recognize_batch", "recognize_batch, float32", "smner-serve"
_BATCH_SIZES = (4, 8, 16, 32)
_LONE_POSTS, _LONE_TURN = 60, 10
_TEXTS = 32  # in one request
_OVERLOAD = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """What every scenario needs; see the options of the command."""

    checkpoint: Path
    device: str
    threads: int
    clients: Sequence[int]
    seconds: float
    rounds: int
    posts: Posts
    direct: Direct
    in_float32: Direct
    generator: LoadGenerator
    report: Report

    def server(self, *, cache_mb: int = 0) -> System:
        """The service; without a cache every image is new to it."""
        return smner(self.checkpoint, self.device, cache_mb=cache_mb)

    def measure(self, system: str, label: str, load: Load) -> Result:
        """Send a load and add the result to its row of the table."""
        result = self.generator.offer(load)
        self.report.row(system, label).add(result)
        _say(f"{system}, {label}: {result.rate:.1f} posts/s")
        return result

    def cycle(self, first: int, last: int) -> list[int]:
        """Indices of posts ``first`` to ``last``, starting over after the last post."""
        return [number % len(self.posts.posts) for number in range(first, last)]


def compare_throughput(bench: Bench) -> None:
    """Compare ceiling, service and peers under the same closed loops, in turns, so that noise hits all of them."""
    ours, *others = bench.server(), *peers(bench.checkpoint, bench.device, bench.threads)
    bench.report.notes += [f"{peer.name}: left out, {peer.needs} is not installed" for peer in others if peer.missing]
    others = [peer for peer in others if not peer.missing]
    expected = bench.direct.answers(range(bench.posts.checked))
    event_loop: list[float] = []  # milliseconds a post; decoding and the network have threads of their own
    for turn in range(bench.rounds):
        _say(f"round {turn + 1} of {bench.rounds}")
        for size in _BATCH_SIZES:
            for name, direct in ((_CEILING, bench.direct), (_FLOAT32, bench.in_float32)):
                row = bench.report.row(name, f"batches of {size}")
                row.rates.append(direct.rate(size, bench.seconds))
                _say(f"{row.system}, {row.load}: {row.rates[-1]:.1f} posts/s")
        for system in (ours, *others):
            with running(system) as server:
                if turn == 0:
                    differing = count_differing(expected, _ask_alone(bench, server.port))
                    bench.report.figure(f"posts that {system.name} answers unlike recognize", differing, at_most=0)
                for clients in bench.clients:
                    load = Load(port=server.port, clients=clients, seconds=bench.seconds)
                    before = server.event_loop_seconds()
                    sent = bench.measure(system.name, _clients(clients), load).outcomes.total()
                    if system is ours and clients == 32:
                        event_loop.append(1000 * (server.event_loop_seconds() - before) / sent)
    if event_loop:
        bench.report.figure("ms of the event loop's processor time a post, 32 clients", median(event_loop), at_most=0.6)
    bench.report.ceiling, in_float32 = (
        max(bench.report.row(name, f"batches of {size}").rate for size in _BATCH_SIZES) for name in (_CEILING, _FLOAT32)
    )
    device = choose_device(bench.device)
    faster = device.type == "cpu" and has_bfloat16(device)
    bench.report.figure(
        "ceiling ÷ that in float32", bench.report.ceiling / in_float32, at_least=1.5 if faster else None
    )
    for clients in bench.clients:
        _compare(bench, clients, others)


def _compare(bench: Bench, clients: int, others: Sequence[System]) -> None:
    load = _clients(clients)
    report, row, asked = bench.report, bench.report.row(_OURS, load), clients == 32
    report.figure(f"throughput ÷ ceiling, {load}", row.rate / report.ceiling, at_least=0.97 if asked else None)
    for other in others:
        theirs, floors = report.row(other.name, load), {32: 1.4, 8: 1.2} if other.needs else {32: 2.0}
        ratio = row.rate / theirs.rate
        report.figure(f"throughput ÷ {other.name}, {load}", ratio, at_least=floors.get(clients))
        ratio = percentile(row.seconds, 99) / percentile(theirs.seconds, 99)
        report.figure(f"p99 ÷ {other.name}, {load}", ratio, at_most=1.0 if asked and other.needs else None)


def compare_lone_request(bench: Bench, port: int) -> None:
    """Compare a request that is alone with ``recognize``, in turns of a few posts."""
    direct: list[float] = []
    for first in range(0, _LONE_POSTS, _LONE_TURN):
        posts = bench.cycle(first, first + _LONE_TURN)
        direct += bench.direct.lone(posts)
        bench.measure(_OURS, "a lone request", Load(port=port, posts=posts))
    served = bench.report.row(_OURS, "a lone request").seconds
    bench.report.figure("recognize, ms (median)", 1000 * median(direct))
    bench.report.figure("a lone request ÷ recognize", median(served) / median(direct), at_most=1.05)


def compare_answers(bench: Bench, port: int) -> None:
    """Compare the answers to posts sent alone with those at full load."""
    alone, checked, differing = _ask_alone(bench, port), bench.posts.checked, 0
    for turn in range(bench.rounds):
        others = [number for number in bench.cycle(100 * turn, 100 * turn + 100) if number >= checked]
        posts = [*others[:40], *range(checked), *others[40:]]
        result = bench.generator.offer(Load(port=port, clients=32, posts=posts, keep_answers=True))
        differing += count_differing(alone, read_answers(result, checked))
    bench.report.figure("posts answered unlike alone at full load", differing, at_most=0)


def compare_batches(bench: Bench, port: int) -> None:
    """Compare the batch endpoint with ``recognize_batch``, with texts alone."""
    ceiling = max(bench.direct.rate(size, bench.seconds, images=False) for size in _BATCH_SIZES)
    label = f"4 clients, {_TEXTS} texts a request"
    for _ in range(bench.rounds):
        bench.measure(_OURS, label, Load(port=port, clients=4, seconds=bench.seconds, texts=_TEXTS))
    bench.report.figure("recognize_batch of texts, posts/s", ceiling)
    bench.report.figure(f"{label} ÷ recognize_batch of texts", bench.report.row(_OURS, label).rate / ceiling)


def measure_overload(bench: Bench, port: int) -> None:
    """Measure arrivals at a multiple of the peak: how many are answered, and how soon the rest are refused."""
    clients = max(bench.clients, key=lambda clients: bench.report.row(_OURS, _clients(clients)).rate)
    at_peak, name = f"the peak, {_clients(clients)}", f"{_OVERLOAD} × the peak"
    results = []
    for _ in range(bench.rounds):
        peak = bench.measure(_OURS, at_peak, Load(port=port, clients=clients, seconds=bench.seconds)).rate
        results.append(bench.measure(_OURS, name, Load(port=port, rate=_OVERLOAD * peak, seconds=bench.seconds)))
    refused = [seconds for result in results for seconds in result.refused]
    probes = [seconds for result in results for seconds in result.probes]
    lateness = [seconds for result in results for seconds in result.lateness]
    row, figure = bench.report.row(_OURS, name), bench.report.figure
    figure(f"{name}: goodput ÷ peak", row.rate / bench.report.row(_OURS, at_peak).rate, at_least=0.9)
    figure(f"{name}: share refused", len(refused) / (len(refused) + len(row.seconds)))
    figure(f"{name}: ms to a refusal, p50", 1000 * percentile(refused, 50))
    figure(f"{name}: ms to a refusal, p99", 1000 * percentile(refused, 99), at_most=20)
    figure(f"{name}: ms of a live probe, p50", 1000 * percentile(probes, 50))
    figure(f"{name}: ms of a live probe, p99", 1000 * percentile(probes, 99), at_most=20)
    figure(f"{name}: ms that arrivals were late, p99", 1000 * percentile(lateness, 99))


def compare_repeated_images(bench: Bench) -> None:
    """Compare loads where half of the images or none are repeated, on a server with an image cache."""
    labels = {0.0: "32 clients, cache, new images", 0.5: "32 clients, cache, half repeated"}
    with running(bench.server(cache_mb=256)) as (port, _):
        for _ in range(bench.rounds):
            for share, label in labels.items():
                bench.measure(_OURS, label, Load(port=port, clients=32, seconds=bench.seconds, repeats=share))
    new, repeated = (bench.report.row(_OURS, label).rate for label in labels.values())
    bench.report.figure("half of the images repeated ÷ all new", repeated / new)


def measure_memory(bench: Bench, requests: int) -> None:
    """Compare a server's memory after many requests and after fewer."""
    fewer, sizes = min(1000, requests // 4), []
    with running(bench.server()) as (port, _):
        for first, last in ((0, fewer), (fewer, requests)):
            load = Load(port=port, clients=8, posts=bench.cycle(first, last))
            bench.measure(_OURS, "8 clients, for memory", load)
            sizes.append(_resident_bytes(port))
    bench.report.figure(f"MiB after {fewer} requests", sizes[0] / 2**20)
    bench.report.figure(f"memory after {requests} ÷ {fewer} requests", sizes[1] / sizes[0], at_most=1.03)


def _clients(count: int) -> str:
    return "1 client" if count == 1 else f"{count} clients"


def _ask_alone(bench: Bench, port: int) -> Answers:
    load = Load(port=port, posts=range(bench.posts.checked), keep_answers=True)
    return read_answers(bench.generator.offer(load), bench.posts.checked)


def _resident_bytes(port: int) -> float:
    """From the service's metrics; NaN if they do not have it."""
    lines = (line.rsplit(maxsplit=1) for line in fetch(port, "/metrics")[1].splitlines())
    return next((float(value) for name, value in lines if name == "process_resident_memory_bytes"), float("nan"))


def _say(what: str) -> None:
    print(what, file=sys.stderr, flush=True)
