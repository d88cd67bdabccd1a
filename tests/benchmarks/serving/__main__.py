"""How fast the service is, against a ceiling and against what the same checkpoint could be served with instead.

Every figure is a ratio within one run on one machine: absolute numbers move with the machine and its neighbours. The
load generator is a process of its own on the same cores; its share of one of them stands in the table. Systems take
turns, and the spread over the turns shows the noise. Nothing else should run meanwhile.
"""

import argparse
import json
import os
import signal
import sys
from pathlib import Path

from model.checkpoint import embedded_checkpoint
from service.settings import Settings
from tests.benchmarks.serving import scenarios
from tests.benchmarks.serving.direct import Direct
from tests.benchmarks.serving.load import LoadGenerator
from tests.benchmarks.serving.posts import load_posts
from tests.benchmarks.serving.report import Report
from tests.benchmarks.serving.systems import running


def main() -> int:
    """Measure, print the tables, write the JSON."""
    options = _parser().parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # as an exception, so that no server is left behind
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # what smner-serve sets for itself, for all alike
    settings, posts = Settings(), load_posts(options.posts)
    threads = settings.model_threads
    told = {name: str(value) if isinstance(value, Path) else value for name, value in vars(options).items()}
    report = Report(told | {"source": posts.source, "threads": threads, "decode_workers": settings.decode_workers})
    with (
        LoadGenerator(posts.posts) as generator,
        Direct(options.checkpoint, options.device, threads=threads, posts=posts.posts) as direct,
    ):
        bench = scenarios.Bench(
            checkpoint=options.checkpoint,
            device=options.device,
            threads=threads,
            clients=options.clients,
            seconds=options.seconds,
            rounds=options.rounds,
            posts=posts,
            direct=direct,
            generator=generator,
            report=report,
        )
        scenarios.compare_throughput(bench)
        with running(bench.server()) as port:
            scenarios.compare_lone_request(bench, port)
            scenarios.compare_answers(bench, port)
            scenarios.measure_overload(bench, port)
        scenarios.compare_repeated_images(bench)
        if options.memory_requests:
            scenarios.measure_memory(bench, options.memory_requests)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(report.to_dict(), indent=1, ensure_ascii=False) + "\n", "utf-8")
    print(f"{report.text()}\nwritten to {options.output}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m tests.benchmarks", description=__doc__)
    add = parser.add_argument
    add("--checkpoint", type=lambda path: Path(path).resolve(), default=embedded_checkpoint(), help="its folder")
    add("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    add("--posts", type=int, default=600, help="different posts that are sent (%(default)s)")
    add("--clients", type=int, nargs="+", default=[1, 8, 32, 128], help="clients of the closed loops %(default)s")
    add("--seconds", type=float, default=8.0, help="that each cell is measured (%(default)s)")
    add("--rounds", type=int, default=2, help="how often each cell is measured (%(default)s)")
    add("--memory-requests", type=int, default=2000, help="before memory is compared, 0 for not at all (%(default)s)")
    add("--output", type=Path, default=Path("build/bench.json"), help="where the JSON goes (%(default)s)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
