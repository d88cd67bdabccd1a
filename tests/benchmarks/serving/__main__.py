"""Measures how fast the service is, against a ceiling and against other ways to serve the same checkpoint.

Every figure is a ratio within one run, since absolute numbers move with the machine and its neighbors. The load
generator is a separate process on the same cores; the table has its share of one core. Systems take turns, and the
spread over the turns shows the noise. Nothing else should run meanwhile.
"""

import argparse
import json
import os
import signal
import sys
from pathlib import Path

from model.checkpoint import checkpoint_folder
from model.device import choose_device
from service.settings import Settings
from tests.benchmarks.serving import scenarios
from tests.benchmarks.serving.direct import Direct
from tests.benchmarks.serving.gliner import Gliner, compare_gliner
from tests.benchmarks.serving.load import LoadGenerator
from tests.benchmarks.serving.posts import load_posts
from tests.benchmarks.serving.processes import compare_processes
from tests.benchmarks.serving.report import Report
from tests.benchmarks.serving.systems import running


def main() -> int:
    """Measure, print the tables, write the JSON."""
    options = _parser().parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # unwinds, so no server is left running
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # smner-serve sets it for itself; all get it here
    settings, posts = Settings(), load_posts(options.posts)
    threads = settings.model_threads
    given = {name: str(value) if isinstance(value, Path) else value for name, value in vars(options).items()}
    report = Report(given | {"source": posts.source, "threads": threads, "decode_workers": settings.decode_workers})
    with (
        LoadGenerator(posts.posts) as generator,
        Direct(options.checkpoint, options.device, threads=threads, posts=posts.posts) as direct,
        Direct(
            options.checkpoint, options.device, threads=threads, posts=posts.posts, precision="float32"
        ) as in_float32,
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
            in_float32=in_float32,
            generator=generator,
            report=report,
        )
        scenarios.compare_throughput(bench)
        with running(bench.server()) as (port, _):
            scenarios.compare_lone_request(bench, port)
            scenarios.compare_answers(bench, port)
            scenarios.compare_batches(bench, port)
            scenarios.measure_overload(bench, port)
        scenarios.compare_repeated_images(bench)
        gliner = Gliner(
            python=options.gliner, tokenizer=options.checkpoint, device=choose_device(options.device), threads=threads
        )
        compare_gliner(report, direct, gliner, posts.posts, seconds=options.seconds, rounds=options.rounds)
        compare_processes(report, posts.posts, options.checkpoint, seconds=options.seconds, rounds=options.rounds)
        if options.memory_requests:
            scenarios.measure_memory(bench, options.memory_requests)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(report.to_dict(), indent=1, ensure_ascii=False) + "\n", "utf-8")
    print(f"{report.text()}\nwritten to {options.output}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m tests.benchmarks.serving", description=__doc__)
    add = parser.add_argument
    add(
        "--checkpoint",
        type=lambda name: checkpoint_folder(name).resolve(),
        default=checkpoint_folder(),
        help="folder or name",
    )
    add("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    add("--posts", type=int, default=600, help="distinct posts to send (%(default)s)")
    add("--clients", type=int, nargs="+", default=[1, 8, 32, 128], help="clients of each closed loop %(default)s")
    add("--seconds", type=float, default=8.0, help="how long each cell is measured (%(default)s)")
    add("--rounds", type=int, default=2, help="how often each cell is measured (%(default)s)")
    add("--memory-requests", type=int, default=2000, help="sent to compare memory; 0 skips it (%(default)s)")
    add("--gliner", type=Path, metavar="PYTHON", help="interpreter that has GLiNER, see README.md")
    add("--output", type=Path, default=Path("build/bench.json"), help="where the JSON goes (%(default)s)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
