import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from training.cli.cache_images import main
from training.features.image_features import ImageFeatureFile


@pytest.fixture
def images(tmp_path: Path, image: Image.Image) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    for name in ("17_06_1.jpg", "17_06_2.png"):
        image.resize((64, 64)).save(folder / name)
    return folder


@pytest.fixture
def command(images: Path, tmp_path: Path) -> list[str]:
    """A command line that encodes the images with random weights."""
    encoder = ["--encoder", "timm:test_efficientnet", "--weights", "none", "--device", "cpu"]
    return ["--images", str(images), "--output", str(tmp_path / "f.safetensors"), *encoder]


def test_a_folder_becomes_an_image_feature_file(tmp_path: Path, command: list[str]) -> None:
    """test_efficientnet reads 160 × 160 and ends in 5 × 5 regions of 256 channels."""
    assert main(command) == 0
    file = ImageFeatureFile(tmp_path / "f.safetensors")
    assert json.loads(file.metadata["image_ids"]) == ["17_06_1", "17_06_2"]
    assert file.encoder == "timm:test_efficientnet"
    features = file["17_06_1"].features
    assert (features.shape, features.dtype) == ((26, 256), torch.float16)
    torch.testing.assert_close(features[0].float(), features[1:].float().mean(0), rtol=1e-2, atol=1e-2)


def test_broken_images_are_named(command: list[str], images: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """And left out; if all are broken, that is a mistake."""
    (images / "17_06_1.jpg").write_bytes(b"\xff\xd8\xff")
    assert main(command) == 0
    assert f"{images / '17_06_1.jpg'}: cannot be read, left out" in capsys.readouterr().err
    assert len(ImageFeatureFile(images.parent / "f.safetensors")) == 1
    (images / "17_06_2.png").write_bytes(b"broken")
    (images.parent / "f.safetensors").unlink()
    assert main(command) == 2
    assert "none of 2 photos could be read" in capsys.readouterr().err


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
def test_a_mistake_is_one_line(
    command: list[str], capsys: pytest.CaptureFixture[str], changes: list[str], problem: str
) -> None:
    assert main([*command, *changes]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("smner-cache-images: ")
    assert problem in line
