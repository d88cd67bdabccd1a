"""The images of a run: ready features, foreign ones, broken and missing images, fine-tuning."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import training.learning.images
from model import Recognizer
from model.weights import WEIGHTS_FILE
from tests.training.learning.tiny_runs import part_of, ready_features, small
from training.data.sources import DataSource
from training.features.image_features import ImageFeatureFile
from training.learning.run import RunResult, train
from training.learning.trainer import SMNERTrainer
from training.recipes.recipe import Recipe
from training.scoring.report import evaluate

FOREIGN, OWN = "foreign", "timm:test_efficientnet"


@pytest.mark.parametrize(
    ("files", "changes", "message"),  # files: width, regions and encoder of each source's features, or its images
    [
        ([(7, 3, FOREIGN), None], {}, "would not be used"),
        ([(7, 3, FOREIGN)], {"fine_tune_image_encoder": True}, "fine_tune_image_encoder needs images"),
        ([(7, 3, "a"), (256, 3, "b")], {}, r"different widths: \[7, 256\]"),
        ([(7, 3, "a"), (256, 3, OWN)], {}, r"different widths: \[7, 256\]"),
        ([(7, 3, FOREIGN), (7, 5, FOREIGN)], {}, r"different numbers of regions: \[3, 5\]"),
        ([(100, 3, OWN)], {}, rf"0\.safetensors: features are 100 wide, those of {OWN} 256"),
    ],
)
def test_features_that_do_not_fit_are_refused(
    recipe: Recipe, source: DataSource, tmp_path: Path, files: list[Any], changes: dict[str, Any], message: str
) -> None:
    """Before the folder is claimed: otherwise the corrected command would be refused."""
    sources = [source] * len(files)
    for i, made in enumerate(files):
        if made is not None:
            width, regions, encoder = made
            path = ready_features(tmp_path / f"{i}.safetensors", width=width, regions=regions, encoder=encoder)
            sources[i] = DataSource(source.path, image_features=path)
    with pytest.raises(ValueError, match=message):
        train(small(recipe, **changes), sources, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_features_of_other_weights_are_refused(
    recipe: Recipe, overfitted: tuple[RunResult, DataSource], tmp_path: Path
) -> None:
    result, source = overfitted
    ready = DataSource(source.path, image_features=result.checkpoint / "run" / "image-features-eight.safetensors")
    with pytest.raises(ValueError, match="with other weights or photo settings"):
        train(small(recipe, seed=1), [ready], tmp_path / "run")


def test_features_of_another_encoder_are_refused(recipe: Recipe, source: DataSource, tmp_path: Path) -> None:
    """Made by smner-cache-images with its default encoder: the checkpoint could not read images."""
    file = ready_features(tmp_path / "f.safetensors", width=7, regions=3, fingerprint="{}")
    ready = DataSource(source.path, image_features=file)
    with pytest.raises(ValueError, match=r"f\.safetensors: features of torchvision:resnet152, not of timm:test_eff"):
        train(recipe, [ready], tmp_path / "run")
    train(small(recipe, max_steps=1, image_encoder=None), [ready], tmp_path / "run")


def test_lost_images_are_counted_and_listed(
    recipe: Recipe, source: DataSource, tmp_path: Path, capsys: pytest.CaptureFixture[str], trainers: list[SMNERTrainer]
) -> None:
    """Posts 0, 2, 4 and 6 have images; 2's is corrupt, 4's is deleted. The others never had theirs.

    The message counts training posts; the list includes the valid split's only post, 9, too.
    """
    assert source.images is not None
    (source.path / "valid.txt").write_text("IMGID:9\nRome\tB-LOC\n", "utf-8")
    (source.images / "2.png").write_bytes(b"\x89PNG")
    (source.images / "4.png").unlink()
    train(small(recipe, max_steps=1), [source], tmp_path / "run")
    file = tmp_path / "run" / "run" / "unusable-images.tsv"
    said = f"eight: 2 training posts have an image; not used: 5 missing, 1 unreadable, listed in {file}\n"
    assert said in capsys.readouterr().out
    header, *rows = [line.split("\t") for line in file.read_text("utf-8").splitlines()]
    assert header == ["source", "post", "reason", "image"]
    unreadable = ["eight", "2", "unreadable", str(source.images / "2.png")]
    assert sorted(rows) == sorted([unreadable, *(["eight", name, "missing", name] for name in "134579")])
    assert [part_of(trainers[0], 0).has_image(i) for i in range(8)] == [True, *[False] * 5, True, False]


def test_foreign_features_train_and_evaluate(
    recipe: Recipe, source: DataSource, tmp_path: Path, capsys: pytest.CaptureFixture[str], trainers: list[SMNERTrainer]
) -> None:
    """Seven channels and three regions, one of them masked: the model adapts its projection and has no encoder."""
    features = ready_features(tmp_path / "f.safetensors", width=7, regions=3)
    ready = DataSource(source.path, image_features=features)
    result = train(recipe, [ready], tmp_path / "run")
    assert "will have no image encoder and read ready features" in capsys.readouterr().out
    assert [part_of(trainers[0], 0).has_image(i) for i in range(8)] == [True, False] * 4
    recognizer = Recognizer.from_pretrained(tmp_path / "run", device="cpu")
    assert recognizer.model.image_encoder is None
    assert recognizer.model.image_projection.in_features == 7
    report = evaluate(recognizer, ready, "valid")
    assert report["f1"] == pytest.approx(result.f1["eight"])
    assert report["without_image"] == 4
    rows = (tmp_path / "run" / "run" / "unusable-images.tsv").read_text("utf-8").splitlines()[1:]
    assert rows == [f"eight\t{name}\twithout features\t{name}" for name in "13571357"]  # of both splits


def test_ready_features_of_the_recipes_encoder_spare_encoding(
    recipe: Recipe, source: DataSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    features = ready_features(tmp_path / "f.safetensors", width=256, regions=25, encoder=OWN)
    monkeypatch.setattr(training.learning.images, "cache_images", lambda *_: pytest.fail("encoded"))
    train(small(recipe, max_steps=1), [DataSource(source.path, image_features=features)], tmp_path / "run")
    assert Recognizer.from_pretrained(tmp_path / "run", device="cpu").model.image_encoder is not None


def test_images_are_encoded_once_and_the_features_kept(overfitted: tuple[RunResult, DataSource]) -> None:
    file = ImageFeatureFile(overfitted[0].checkpoint / "run" / "image-features-eight.safetensors")
    assert [name in file for name in "01234567"] == [True, False] * 4
    assert file.encoder == OWN


@pytest.mark.parametrize(("broken", "fine_tuned"), [("2", False), ("2", True), ("0246", False)])
def test_posts_with_broken_images_have_none(
    recipe: Recipe, source: DataSource, tmp_path: Path, trainers: list[SMNERTrainer], broken: str, fine_tuned: bool
) -> None:
    assert source.images is not None
    for name in broken:
        (source.images / f"{name}.png").write_bytes(b"\x89PNG")
    train(small(recipe, max_steps=1, fine_tune_image_encoder=fine_tuned), [source], tmp_path / "run")
    part = part_of(trainers[0], 0)
    assert [part.has_image(int(name)) for name in "0246"] == [name not in broken for name in "0246"]
    assert part.images() == 4 - len(broken)
    assert f"| eight | 8 | {part.images()} |" in (tmp_path / "run" / "README.md").read_text("utf-8")


def test_fine_tuning_trains_on_pixels(recipe: Recipe, source: DataSource, tmp_path: Path) -> None:
    (source.path / "valid.txt").unlink()  # with it, the first of two equally bad epochs is kept
    weights = {}
    for rate in (0.0, 1e-2):
        changes = {"fine_tune_image_encoder": True, "image_encoder_learning_rate": rate, "image_dropout": 0}
        train(small(recipe, **changes), [source], tmp_path / str(rate))
        weights[rate] = load_file(tmp_path / str(rate) / WEIGHTS_FILE)["image_encoder.trunk.backbone.conv_stem.weight"]
    assert not list(tmp_path.glob("*/run/image-features*"))
    assert not torch.equal(weights[0.0], weights[1e-2])
