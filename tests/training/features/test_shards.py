import itertools
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import training.features.shards
from tests.conftest import Start
from training.features.image_features import ImageFeatureFile
from training.features.shards import TensorShards

IDS = ["a", "b", "c", "d", "e"]  # in shards of two; c cannot be read
FEATURES = torch.arange(4 * 3 * 2).half().view(4, 3, 2)
OPERATIONS = [(Path, "mkdir"), (Path, "replace"), (shutil, "rmtree"), (training.features.shards, "save_file")]
ROWS = dict(zip("abde", FEATURES, strict=True))


def write_missing(output: Path, written: list[Path]) -> None:
    """Write the shards that are missing, note them and merge."""
    shards = TensorShards(output, IDS, {"encoder": "timm:some"}, size=2)
    for shard, ids in shards.begin():
        names = [name for name in ids if name in ROWS]
        shards.write(shard, names, torch.stack([ROWS[name] for name in names]))
        written.append(shard)
    shards.merge()


def is_whole(output: Path) -> bool:
    return torch.equal(load_file(output)["features"], FEATURES) and ImageFeatureFile(output).encoder == "timm:some"


class Killed(BaseException):
    """Stands for a signal: nothing in the writer catches it or cleans up after it."""


@pytest.mark.parametrize("moment", range(14))
def test_a_kill_loses_one_shard_at_most(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: int) -> None:
    """Killed before each of its 14 file operations in turn."""
    output, operations = tmp_path / "new" / "f.safetensors", itertools.count()
    first: list[Path] = []
    again: list[Path] = []

    def deadly(work: Callable[..., Any]) -> Callable[..., Any]:
        def step(*given: Any, **more: Any) -> Any:
            if next(operations) == moment:
                raise Killed
            return work(*given, **more)

        return step

    with monkeypatch.context() as patch:
        for place, name in OPERATIONS:
            patch.setattr(place, name, deadly(getattr(place, name)))
        with pytest.raises(Killed):
            write_missing(output, first)
    if not output.exists():
        write_missing(output, again)
    assert is_whole(output)
    assert set(first).isdisjoint(again)


def test_the_file_is_as_readable_as_others(tmp_path: Path) -> None:
    """safetensors writes files with mode 0600, which another user cannot train on."""
    write_missing(tmp_path / "f.safetensors", [])
    (tmp_path / "other").touch()
    assert (tmp_path / "f.safetensors").stat().st_mode == (tmp_path / "other").stat().st_mode


MEASURE_MEMORY = """
import sys, torch
from pathlib import Path
from training.features.shards import TensorShards

def peak():
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1e3  # megabytes

shards = TensorShards(Path(sys.argv[1]), [str(i) for i in range(100)], {"encoder": "timm:some"}, size=10)
features = torch.ones(10, 50, 10_000, dtype=torch.float16)
before = peak()
for shard, names in shards.begin():
    shards.write(shard, names, features)
written = peak()
shards.merge()
print(written - before, peak() - before)
"""


def test_merging_holds_the_features_once(tmp_path: Path) -> None:
    """In the memory of a new process, 100 MB of features in shards of 10 MB."""
    command = [sys.executable, "-c", MEASURE_MEMORY, str(tmp_path / "f.safetensors")]
    done = subprocess.run(command, cwd=Path(__file__).parents[3], capture_output=True, text=True, check=True)
    writing, merging = map(float, done.stdout.split())
    assert writing < 20
    assert 90 < merging < 140
    assert len(ImageFeatureFile(tmp_path / "f.safetensors")) == 100


def test_a_full_disk_names_the_file(tmp_path: Path, start: Start) -> None:
    def work() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_000, resource.RLIM_INFINITY))
        shards = TensorShards(tmp_path / "f.safetensors", IDS, {}, size=2)
        try:
            shards.write(shards.begin()[0][0], ["a"], torch.zeros(1, 100, 100).half())
        except OSError as error:
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
            (tmp_path / "said").write_text(str(error), "utf-8")

    start(work).join()
    assert "000000.safetensors: cannot be written" in (tmp_path / "said").read_text("utf-8")
