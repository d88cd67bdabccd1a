"""On a real Ray cluster of two nodes on this machine, which is killed piece by piece.

Needs the extra ``bulk``: ``make test-bulk`` installs it and runs these tests alone.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from model import Recognizer
from model.bulk.recognition import BulkRun, Share, here
from model.bulk.worker import Job, Worker
from tests.model.bulk.folders import contents, some_posts, write_lines, write_table

cluster_utils = pytest.importorskip("ray.cluster_utils", reason="needs the extra bulk: make test-bulk")
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default")]  # Ray leaves sockets and files open

ROOT = Path(__file__).parents[3]
FILES = 16
CRASHING = """\
import os, signal, fsspec
from fsspec import AbstractFileSystem
from fsspec.implementations.local import LocalFileSystem

class Crashing(AbstractFileSystem):
    protocol = "crashing"
    files = LocalFileSystem()

    def info(self, path, **options):
        return self.files.info(path)

    def ls(self, path, detail=True, **options):
        return self.files.ls(path, detail=detail)

    def _open(self, path, mode, **options):
        if "crash" in path.rpartition("/")[2]:
            os.kill(os.getpid(), signal.SIGKILL)
        return self.files.open(path, mode)

fsspec.register_implementation("crashing", Crashing)
"""
Start = Callable[[str, Path], "subprocess.Popen[str]"]


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Of all processes: they know a store in which some files kill their reader, as a bug in a C library would."""
    folder = tmp_path_factory.mktemp("path")
    (folder / "sitecustomize.py").write_text(CRASHING)
    variables = {"PYTHONPATH": f"{folder}:{ROOT}", "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    variables |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        yield dict(os.environ)


@pytest.fixture
def cluster(environment: dict[str, str]) -> Iterator[Any]:
    """Two nodes of one core each; that one is gone is noticed after a second."""
    watchful = {"health_check_initial_delay_ms": 0, "health_check_period_ms": 500, "health_check_failure_threshold": 2}
    nodes = cluster_utils.Cluster(
        initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False, "_system_config": watchful}
    )
    nodes.add_node(num_cpus=1)
    yield nodes
    nodes.shutdown()


@pytest.fixture
def posts(tmp_path: Path) -> Path:
    """Files of which one is longer than all others together."""
    folder = tmp_path / "posts"
    write_table(folder / "long.parquet", some_posts(4000))
    for i in range(FILES - 1):
        write_lines(folder / f"{i}.jsonl.gz", some_posts(100, 10_000 + 100 * i))
    return folder


@pytest.fixture
def start(cluster: Any, environment: dict[str, str], tiny_checkpoint: Path) -> Iterator[Start]:
    """The command, on the cluster."""
    children = []

    def start(source: str, output: Path) -> "subprocess.Popen[str]":
        command = [sys.executable, "-m", "model.cli", "--input", source, "--output", str(output), "--device", "cpu"]
        command += ["--checkpoint", str(tiny_checkpoint), "--ray", cluster.address]
        child = subprocess.Popen(
            command, cwd=output.parent, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        children.append(child)
        return child

    yield start
    for child in children:
        child.kill()
        child.communicate()


def single_process(posts: Path, output: Path, checkpoint: Path) -> dict[str, bytes]:
    torch.set_num_threads(1)
    recognizer = Recognizer.from_pretrained(checkpoint, device="cpu")
    run = BulkRun(str(posts), str(output), Share(), checkpoint=str(checkpoint))
    inputs, outputs = run.addresses
    run.answer(here(Worker(recognizer, Job(inputs=inputs, outputs=outputs), threads=1)), print)
    return contents(output)


def wait_for_answers(output: Path, count: int, child: "subprocess.Popen[str]") -> None:
    while len(list(output.glob("[!_.]*"))) < count:
        assert child.poll() is None
        time.sleep(0.02)


def actors() -> list[psutil.Process]:
    return [process for process in psutil.process_iter(["cmdline"]) if "ray::_Actor" in str(process.info["cmdline"])]


def test_dead_actors_and_nodes_cost_no_post(
    cluster: Any, start: Start, posts: Path, tmp_path: Path, tiny_checkpoint: Path
) -> None:
    """Nor does a file that kills each actor that opens it; the union equals a single process, byte for byte."""
    whole = single_process(posts, tmp_path / "whole", tiny_checkpoint)
    write_lines(posts / "crash.jsonl", some_posts(1))
    output = tmp_path / "answers"
    child = start(f"crashing://{posts}", output)
    wait_for_answers(output, 2, child)
    actors()[0].kill()
    wait_for_answers(output, 4, child)
    cluster.remove_node(next(node for node in cluster.list_all_nodes() if not node.head), allow_graceful=False)
    printed, log = child.communicate(timeout=120)
    assert (child.returncode, printed) == (2, "")
    assert "5,500 posts answered, 0 failed; 1 file not answered, of which the first: crash.jsonl was given up" in log
    assert "_SUMMARY.json" not in contents(output)
    (posts / "crash.jsonl").unlink()
    assert single_process(posts, output, tiny_checkpoint) == whole


def test_a_killed_driver_is_followed_by_another(
    start: Start, posts: Path, tmp_path: Path, tiny_checkpoint: Path
) -> None:
    """What it left is not touched, what was begun is begun again."""
    output = tmp_path / "answers"
    child = start(str(posts), output)
    wait_for_answers(output, 3, child)
    child.send_signal(signal.SIGKILL)
    child.wait()
    answered = {path: path.stat().st_mtime_ns for path in output.glob("[!_.]*")}
    child = start(str(posts), output)
    _, log = child.communicate(timeout=120)
    assert (child.returncode, log.splitlines()[-1]) == (0, "smner-recognize: 5,500 posts answered, 0 failed")
    assert {path: path.stat().st_mtime_ns for path in answered} == answered
    assert contents(output) == single_process(posts, tmp_path / "whole", tiny_checkpoint)
    assert not list(output.glob(".*"))


def test_a_cluster_that_is_none_is_named() -> None:
    from model.bulk.ray_engine import cluster

    with pytest.raises(ConnectionError, match="--ray nowhere: Invalid address format"), cluster("nowhere"):
        pass


@pytest.mark.parametrize(
    ("nodes", "actors", "resources"),
    [
        ([{"CPU": 16.0, "GPU": 1.0}] * 4, 4, {"num_cpus": 16, "num_gpus": 1.0}),
        ([{"CPU": 16.0, "GPU": 1.0}] * 4, 16, {"num_cpus": 4, "num_gpus": 0.25}),
        ([{"CPU": 8.0}, {"CPU": 64.0, "GPU": 8.0}], 8, {"num_cpus": 8, "num_gpus": 1.0}),
        ([{"CPU": 8.0}, {"CPU": 4.0}], 3, {"num_cpus": 4}),
        ([{"CPU": 2.0}], 8, {"num_cpus": 1}),
        ([{"memory": 1.0}, {"CPU": 2.0}], 1, {"num_cpus": 2}),
    ],
)
def test_actors_share_cores_and_gpus(nodes: list[dict[str, float]], actors: int, resources: dict[str, float]) -> None:
    from model.bulk.ray_engine import actor_resources

    assert actor_resources(nodes, actors) == resources


def test_each_gpu_gets_an_actor() -> None:
    """Without GPUs, each four cores do; and each node, if it has fewer."""
    from model.bulk.ray_engine import default_actors

    assert default_actors([{"CPU": 8.0}, {"CPU": 64.0, "GPU": 8.0}]) == 8
    assert default_actors([{"CPU": 8.0}, {"CPU": 2.0}, {"memory": 1.0}]) == 3
