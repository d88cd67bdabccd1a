"""The images of a run: ready features, foreign ones, broken and missing images, fine-tuning."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import training.learning.images
import training.learning.run
from model import Recognizer
from model.checkpoint import WEIGHTS_FILE
from tests.training.learning.tiny_runs import part_of, ready_features, small
from training.data.sources import DataSource
from training.features.image_features import ImageFeatureFile
from training.learning.run import train
from training.learning.trainer import SMNERTrainer
from training.recipes.recipe import Recipe
from training.scoring.report import evaluate


def test_images_beside_foreign_features_are_refused(recipe: Recipe, source: DataSource, tmp_path: Path) -> None:
    file = ready_features(tmp_path / "f.safetensors", width=7, regions=3, encoder="foreign")
    with pytest.raises(ValueError, match="would not be used"):
        train(recipe, [DataSource(source.path, image_features=file), source], tmp_path / "run")


def test_fine_tuning_on_ready_features_is_refused(recipe: Recipe, source: DataSource, tmp_path: Path) -> None:
    file = ready_features(tmp_path / "f.safetensors", width=7, regions=3, encoder="foreign")
    with pytest.raises(ValueError, match="fine_tune_image_encoder needs images"):
        train(
            small(recipe, fine_tune_image_encoder=True),
            [DataSource(source.path, image_features=file)],
            tmp_path / "run",
        )


def test_features_of_other_weights_are_refused(recipe: Recipe, source: DataSource, tmp_path: Path) -> None:
    train(small(recipe, max_steps=1), [source], tmp_path / "first")
    made = tmp_path / "first" / "run" / "image-features-eight.safetensors"
    other = small(recipe, max_steps=1, seed=1)
    with pytest.raises(ValueError, match="with other weights or photo settings"):
        train(other, [DataSource(source.path, image_features=made)], tmp_path / "second")


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


def test_posts_without_features_are_listed_too(recipe: Recipe, source: DataSource, tmp_path: Path) -> None:
    file = ready_features(tmp_path / "f.safetensors", width=7, regions=3)
    (source.path / "valid.txt").unlink()
    train(small(recipe, max_steps=1), [DataSource(source.path, image_features=file)], tmp_path / "run")
    rows = (tmp_path / "run" / "run" / "unusable-images.tsv").read_text("utf-8").splitlines()[1:]
    assert rows == [f"eight\t{name}\twithout features\t{name}" for name in "1357"]


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


def test_ready_features_of_the_recipes_encoder_spare_encoding(
    recipe: Recipe, source: DataSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    features = ready_features(tmp_path / "f.safetensors", width=256, regions=25, encoder="timm:test_efficientnet")
    monkeypatch.setattr(training.learning.images, "cache_images", lambda *_: pytest.fail("encoded"))
    train(small(recipe, max_steps=1), [DataSource(source.path, image_features=features)], tmp_path / "run")
    assert Recognizer.from_pretrained(tmp_path / "run", device="cpu").model.image_encoder is not None


@pytest.mark.parametrize("encoders", [("a", "b"), ("a", "timm:test_efficientnet")])
def test_ready_features_of_different_widths_are_refused(
    recipe: Recipe, source: DataSource, tmp_path: Path, encoders: tuple[str, str]
) -> None:
    files = [
        ready_features(tmp_path / f"{width}.safetensors", width=width, regions=3, encoder=encoder)
        for width, encoder in zip((7, 256), encoders, strict=True)
    ]
    with pytest.raises(ValueError, match=r"different widths: \[7, 256\]"):
        train(recipe, [DataSource(source.path, image_features=file) for file in files], tmp_path / "run")


def test_images_are_encoded_once_and_the_features_kept(recipe: Recipe, source: DataSource, tmp_path: Path) -> None:
    train(small(recipe, max_steps=1), [source], tmp_path / "run")
    file = ImageFeatureFile(tmp_path / "run" / "run" / "image-features-eight.safetensors")
    assert [name in file for name in "01234567"] == [True, False] * 4
    assert file.encoder == "timm:test_efficientnet"


@pytest.mark.parametrize("fine_tuned", [False, True])
def test_a_broken_image_makes_its_post_one_without(
    recipe: Recipe, source: DataSource, tmp_path: Path, trainers: list[SMNERTrainer], fine_tuned: bool
) -> None:
    assert source.images is not None
    (source.images / "2.png").write_bytes(b"\x89PNG")
    train(small(recipe, max_steps=1, fine_tune_image_encoder=fine_tuned), [source], tmp_path / "run")
    assert [part_of(trainers[0], 0).has_image(i) for i in (0, 2, 4, 6)] == [True, False, True, True]
    assert "| eight | 8 | 3 |" in (tmp_path / "run" / "README.md").read_text("utf-8")


def test_where_all_images_are_broken_training_goes_without(
    recipe: Recipe, source: DataSource, tmp_path: Path, trainers: list[SMNERTrainer]
) -> None:
    assert source.images is not None
    for image in source.images.iterdir():
        image.write_bytes(b"\x89PNG")
    train(small(recipe, max_steps=1), [source], tmp_path / "run")
    assert part_of(trainers[0], 0).images() == 0


def test_fine_tuning_trains_on_pixels(
    recipe: Recipe, source: DataSource, tmp_path: Path, trainers: list[SMNERTrainer]
) -> None:
    (source.path / "valid.txt").unlink()  # with it, the first of two equally bad epochs is kept
    weights = {}
    for rate in (0.0, 1e-2):
        changes = {"fine_tune_image_encoder": True, "image_encoder_learning_rate": rate, "image_dropout": 0}
        train(small(recipe, **changes), [source], tmp_path / str(rate))
        weights[rate] = load_file(tmp_path / str(rate) / WEIGHTS_FILE)["image_encoder.trunk.backbone.conv_stem.weight"]
    assert not list(tmp_path.glob("*/run/image-features*"))
    assert not torch.equal(weights[0.0], weights[1e-2])
