import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.benchmarks.quality import command as command_module
from tests.benchmarks.quality.command import DOCUMENTS, KEPT, main
from tests.benchmarks.quality.comparisons import COMPARISONS
from tests.benchmarks.quality.results import ResultFile
from tests.service.conftest import eventually
from training.data.sources import DataSource
from training.learning.trainer import SMNERTrainer

PEER = "token-classification"
ROOT = Path(__file__).parents[3]
MODULE = [sys.executable, "-m", "tests.benchmarks.quality"]


@pytest.fixture(autouse=True)
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ResultFile:
    """An empty file instead of the repository's, and ``tmp_path / "docs"`` instead of its documents."""
    kept = ResultFile(tmp_path / "kept.jsonl")
    monkeypatch.setattr(command_module, "KEPT", kept)
    monkeypatch.setattr(command_module, "DOCUMENTS", tmp_path / "docs")
    return kept


@pytest.fixture
def options(write_recipe: Callable[..., Path], source: DataSource, tmp_path: Path) -> list[str]:
    """Two systems with two seeds on the eight posts."""
    recipe = write_recipe(tmp_path / "tiny.toml", consistency_weight=0.5)
    what = ["--recipe", str(recipe), "--set", "epochs=1", "consistency_weight=0", "--data", str(source.path)]
    return [*what, "--work", str(tmp_path / "work"), "--systems", PEER, "bert-crf", "--seeds", "0", "1"]


class Killed(BaseException):
    """Ends a command from outside."""


@pytest.mark.exhaustive
def test_killed_command_resumes(options: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train, begun = SMNERTrainer.train, []

    def killed_in_the_third(trainer: SMNERTrainer, *given: Any, **more: Any) -> Any:
        begun.append((type(trainer.network.tag_model).__name__, trainer.recipe.seed))
        if len(begun) == 3:
            raise Killed
        return train(trainer, *given, **more)

    monkeypatch.setattr(SMNERTrainer, "train", killed_in_the_third)
    with pytest.raises(Killed):
        main(options)
    table = (tmp_path / "work" / "results.md").read_text("utf-8")
    assert "| Token classification | 1 |" in table
    assert {"Token classification, seed 1", "BERT-CRF, seed 1"} <= set(table.replace(".", ";").split("; "))
    assert begun == [("IndependentTags", 0), ("LinearChainCRF", 0), ("IndependentTags", 1)]

    assert main(options) == 0
    assert begun[3:] == [("IndependentTags", 1), ("LinearChainCRF", 1)]
    assert "| Token classification | 2 |" in (tmp_path / "work" / "results.md").read_text("utf-8")

    assert main(options) == 0
    assert len(begun) == 5  # all results existed
    assert main([*options, "--set", "head_learning_rate=0.001"]) == 0
    assert len(begun) == 9  # none for the changed recipe


def test_only_keep_writes_to_the_repository(options: list[str], kept: ResultFile, tmp_path: Path) -> None:
    """Earlier results are kept too, and kept ones are not trained again."""
    assert main(options) == 0
    assert not kept.path.exists()
    assert not (tmp_path / "docs").exists()

    assert main([*options, "--keep", "--seeds", "0", "--systems", PEER]) == 0
    assert [(own["system"], own["seed"]) for own in kept.read().values()] == [(PEER, 0)]
    table = (tmp_path / "docs" / "results.md").read_text("utf-8")
    assert "| Token classification | 1 |" in table
    assert "BERT-CRF" not in table

    work = ResultFile(tmp_path / "work" / "results.jsonl")
    work.path.unlink()
    assert main([*options, "--seeds", "0"]) == 0
    assert [own["system"] for own in work.read().values()] == ["bert-crf"]


def test_tables_option_trains_nothing(kept: ResultFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The repository's documents match the repository's results."""
    monkeypatch.setattr(command_module, "prepare", None)
    kept.add(*KEPT.read().values())
    assert main(["--tables"]) == 0
    for comparison in COMPARISONS.values():
        written = (tmp_path / "docs" / comparison.document).read_text("utf-8")
        assert written == (DOCUMENTS / comparison.document).read_text("utf-8")


@pytest.mark.exhaustive
def test_parallel_jobs_give_the_same_scores(options: list[str], tmp_path: Path) -> None:
    """Run as users run it: other processes cannot import functions of ``__main__``."""

    def scores(folder: Path) -> dict[str, Any]:
        results = ResultFile(folder / "results.jsonl").read()
        return {key: (result["scores"], result["f1_by_epoch"]) for key, result in results.items()}

    assert main([*options, "--work", str(tmp_path / "one")]) == 0
    subprocess.run([*MODULE, *options, "--jobs", "2", "--work", str(tmp_path / "two")], check=True, cwd=ROOT)
    assert len(scores(tmp_path / "one")) == 4
    assert scores(tmp_path / "one") == scores(tmp_path / "two")


def test_set_adds_to_the_settings_of_the_comparison(options: list[str], tmp_path: Path) -> None:
    """Ideas are compared without R-Drop over two epochs; here over one, and with another learning rate."""
    own = [*options[:2], *options[5:], "--compare", "ideas", "--systems", "as-it-is", "--seeds", "0"]
    assert main([*own, "--set", "epochs=1", "--set", "head_learning_rate=0.002"]) == 0
    (result,) = ResultFile(tmp_path / "work" / "results.jsonl").read().values()
    recipe = result["recipe"]
    assert (recipe["epochs"], recipe["consistency_weight"], recipe["head_learning_rate"]) == (1, 0, 0.002)
    assert result["settings"] == f"{options[1]} --set epochs=1 consistency_weight=0 head_learning_rate=0.002"
    assert (tmp_path / "work" / "ideas.md").read_text("utf-8").count(result["settings"]) == 1


@pytest.mark.exhaustive
def test_failed_cell_stops_the_other_jobs(options: list[str], tmp_path: Path) -> None:
    """All cells fail here, since a file replaces their folder; the rest of the queue is dropped."""
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "cells").touch()
    arguments = [*MODULE, *options, "--seeds", *map(str, range(40)), "--jobs", "2"]
    done = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 1
    # two jobs run at once, and either may fail first
    assert re.search(r"RuntimeError: (Token classification|BERT-CRF), seed \d", done.stderr)
    assert done.stdout.count("…") < 10


@pytest.mark.exhaustive
@pytest.mark.parametrize("signal_", [signal.SIGINT, signal.SIGKILL])
def test_jobs_end_with_the_command(options: list[str], tmp_path: Path, signal_: signal.Signals) -> None:
    log = tmp_path / "log"
    with log.open("w") as writer:
        arguments = [*MODULE, *options, "--seeds", *map(str, range(40)), "--jobs", "2"]
        command = subprocess.Popen(arguments, cwd=ROOT, stdout=writer, stderr=writer)
    eventually(lambda: log.read_text("utf-8").count("…") >= 3, seconds=90)
    children = Path(f"/proc/{command.pid}/task/{command.pid}/children").read_text("utf-8").split()
    assert len(children) >= 2
    command.send_signal(signal_)
    command.wait(30)
    eventually(lambda: not any(Path(f"/proc/{child}").exists() for child in children), seconds=30)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (["--jobs", "0"], "--jobs: at least 1, not 0"),
        (["--compare", "ideas", "--systems", "smner", "longer"], "--systems: no smner among as-it-is, "),
    ],
)
def test_wrong_options_are_refused_before_reading(
    wrong: list[str], message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command_module, "prepare", None)
    with pytest.raises(SystemExit):
        main(wrong)
    assert message in capsys.readouterr().err
