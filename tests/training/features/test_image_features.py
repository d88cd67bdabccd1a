import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from model.preprocessing.images import ImageSettings
from training.features.cache import cache_images
from training.features.image_encoder import FrozenImageEncoder
from training.features.image_features import ImageFeatureFile


def write(path: Path, tensors: dict[str, Tensor], ids: object) -> Path:
    """A feature file of another program; its ids as JSON, or as they are if text, or missing if None."""
    listed = ids if isinstance(ids, str) else json.dumps(ids)
    save_file(tensors, path, {"encoder": "timm:some"} | ({} if ids is None else {"image_ids": listed}))
    return path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "f.safetensors"


@pytest.mark.parametrize("shape", [(2, 50, 2048), (2, 5, 3), (2, 1, 7)])
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_features_of_any_shape_are_read(path: Path, shape: tuple[int, ...], dtype: torch.dtype) -> None:
    features = torch.randn(shape).to(dtype)
    file = ImageFeatureFile(write(path, {"features": features}, ["a", "b"]))
    assert (len(file), file.feature_size, file.encoder) == (2, shape[2], "timm:some")
    torch.testing.assert_close(file["b"].features, features[1], rtol=0, atol=0)
    assert file["b"].mask is None


def test_each_image_has_its_own_mask(path: Path) -> None:
    mask = torch.tensor([[True, True, False], [True, False, True]])
    file = ImageFeatureFile(write(path, {"features": torch.randn(2, 3, 4), "mask": mask}, ["a", "b"]))
    assert [file[name].mask for name in "ab"] == [pytest.approx(mask[0]), pytest.approx(mask[1])]


def test_ids_may_be_stored_as_numbers(path: Path) -> None:
    file = ImageFeatureFile(write(path, {"features": torch.zeros(2, 1, 1)}, [17, "18"]))
    assert [name in file for name in ("17", "18", "19")] == [True, True, False]


@pytest.mark.parametrize(
    ("shapes", "ids", "message"),
    [
        ({"features": (1, 2, 3)}, None, "not an image-feature file: it needs features and the metadata"),
        ({"other": (1, 2, 3)}, ["a"], "not an image-feature file: it needs features and the metadata"),
        ({"features": (2, 3, 4)}, ["a"], "features .* do not fit 1 distinct image ids"),
        ({"features": (2, 3, 4)}, ["a", "a"], "features .* do not fit 1 distinct image ids"),
        ({"features": (2, 3)}, ["a", "b"], "features .* do not fit 2 distinct image ids"),
        ({"features": (2, 3, 4), "mask": (2, 4)}, ["a", "b"], "the mask .* does not fit features"),
        ({"features": (1, 4, 8)}, "not JSON", "expected image_ids to be a JSON list, found"),
        ({"features": (1, 4, 8)}, "2", "expected image_ids to be a JSON list, found"),
        ({"features": (1, 4, 8)}, "null", "expected image_ids to be a JSON list, found"),
    ],
)
def test_a_malformed_file_is_refused_by_name(
    path: Path, shapes: dict[str, tuple[int, ...]], ids: object, message: str
) -> None:
    write(path, {name: torch.ones(shape) for name, shape in shapes.items()}, ids)
    with pytest.raises(ValueError, match=f"{path}: {message}"):
        ImageFeatureFile(path)


def test_a_file_that_is_not_safetensors_is_refused(path: Path) -> None:
    path.write_bytes(b"not safetensors at all")
    with pytest.raises(ValueError, match=r"f\.safetensors: not an image-feature file"):
        ImageFeatureFile(path)


def test_the_check_names_what_differs(path: Path, images: list[Path], encoder: FrozenImageEncoder) -> None:
    cache_images(images, path, encoder)
    file = ImageFeatureFile(path)
    file.check(encoder)
    with pytest.raises(ValueError, match=r"f\.safetensors: made by .* \(size 64, not 96\)"):
        file.check(FrozenImageEncoder(encoder.name, encoder.network, ImageSettings(size=96)))
    with pytest.raises(ValueError, match=r"features of timm:test_efficientnet, not of timm:other"):
        file.check(FrozenImageEncoder("timm:other", encoder.network, encoder.image_settings))
    with torch.no_grad():
        next(encoder.network.parameters()).mul_(2)
    with pytest.raises(ValueError, match=r"\(weights [0-9a-f]{64}, not [0-9a-f]{64}\)"):
        file.check(encoder)


def test_the_check_accepts_a_half_precision_copy(path: Path, images: list[Path], encoder: FrozenImageEncoder) -> None:
    """A half-precision checkpoint could not be evaluated on the features that it was trained with."""
    cache_images(images, path, encoder)
    encoder.network.half().float()
    ImageFeatureFile(path).check(encoder)


def test_the_check_trusts_files_without_a_fingerprint(path: Path, encoder: FrozenImageEncoder) -> None:
    save_file({"features": torch.zeros(1, 2, 256)}, path, {"image_ids": '["a"]', "encoder": encoder.name})
    ImageFeatureFile(path).check(encoder)
