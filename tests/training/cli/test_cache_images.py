import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from training.cli.cache_images import main
from training.features.image_features import ImageFeatureFile

RANDOM = ["--encoder", "timm:test_efficientnet", "--weights", "none", "--device", "cpu"]


@pytest.fixture
def images(tmp_path: Path, image: Image.Image) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    for name in ("17_06_1.jpg", "17_06_2.png"):
        image.resize((64, 64)).save(folder / name)
    return folder


def test_a_folder_of_images_becomes_an_image_feature_file(tmp_path: Path, images: Path) -> None:
    """test_efficientnet reads 160 × 160 and ends in 5 × 5 regions of 256 channels."""
    assert main(["--images", str(images), "--output", str(tmp_path / "f.safetensors"), *RANDOM]) == 0
    file = ImageFeatureFile(tmp_path / "f.safetensors")
    assert json.loads(file.metadata["image_ids"]) == ["17_06_1", "17_06_2"]
    assert file.encoder == "timm:test_efficientnet"
    features = file["17_06_1"].features
    assert (features.shape, features.dtype) == ((26, 256), torch.float16)
    torch.testing.assert_close(features[0].float(), features[1:].float().mean(0), rtol=1e-2, atol=1e-2)


def test_a_broken_image_is_left_out_and_named(tmp_path: Path, images: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (images / "torn.jpg").write_bytes(b"\xff\xd8\xff")
    assert main(["--images", str(images), "--output", str(tmp_path / "f.safetensors"), *RANDOM]) == 0
    assert f"{images / 'torn.jpg'}: cannot be read, left out" in capsys.readouterr().err
    assert len(ImageFeatureFile(tmp_path / "f.safetensors")) == 2


def test_a_folder_without_a_image_that_can_be_read_is_refused(
    tmp_path: Path, images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for image in images.iterdir():
        image.write_bytes(b"broken")
    assert main(["--images", str(images), "--output", str(tmp_path / "f.safetensors"), *RANDOM]) == 2
    assert "none of 2 photos could be read" in capsys.readouterr().err


def test_an_interrupted_command_says_how_to_go_on(
    tmp_path: Path, images: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("training.cli.cache_images.cache_images", interrupt)
    assert main(["--images", str(images), "--output", str(tmp_path / "f.safetensors"), *RANDOM]) == 130
    assert capsys.readouterr().err == "smner-cache-images: interrupted; the same command goes on\n"


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        (["--images", "absent"], "absent"),
        (["--encoder", "resnet152"], "image encoder 'resnet152' is not of the form torchvision:NAME or timm:NAME"),
        (["--encoder", "torchvision:resnet7"], "resnet7"),
        (["--encoder", "timm:absent_net"], "absent_net"),
        (["--weights", "package:absent_package"], "absent_package"),
        (["--weights", "absent.pth"], "absent.pth"),
        (["--device", "toaster"], "toaster"),
    ],
)
def test_a_mistake_is_one_line_and_exit_status_2(
    tmp_path: Path, images: Path, capsys: pytest.CaptureFixture[str], changes: list[str], problem: str
) -> None:
    assert main(["--images", str(images), "--output", str(tmp_path / "f.safetensors"), *RANDOM, *changes]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("smner-cache-images: ")
    assert problem in line
