import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor

from model import SMNER, SMNERProcessor
from training.data.dataset import Collator, PostDataset
from training.data.posts import LabeledPost
from training.features.cache import cache_images, images_in
from training.features.image_encoder import FrozenImageEncoder
from training.features.image_features import ImageFeatureFile


class Cache:
    """Writes ``output`` and keeps the sizes of the batches that it encoded; may be killed at one of them."""

    def __init__(self, output: Path, encoder: FrozenImageEncoder, monkeypatch: pytest.MonkeyPatch) -> None:
        self.output, self.encoder = output, encoder
        self.batches: list[int] = []
        self.killed_at: int | None = None
        encode = FrozenImageEncoder.encode

        def counted(encoder: FrozenImageEncoder, images: Tensor) -> Tensor:
            if len(self.batches) == self.killed_at:
                raise KeyboardInterrupt
            self.batches.append(len(images))
            return encode(encoder, images)

        monkeypatch.setattr(FrozenImageEncoder, "encode", counted)

    def __call__(self, images: list[Path], **sizes: int) -> list[Path]:
        return cache_images(images, self.output, self.encoder, **sizes)

    def file(self) -> ImageFeatureFile:
        return ImageFeatureFile(self.output)


@pytest.fixture
def cache(tmp_path: Path, encoder: FrozenImageEncoder, monkeypatch: pytest.MonkeyPatch) -> Cache:
    return Cache(tmp_path / "new" / "f.safetensors", encoder, monkeypatch)


@pytest.fixture
def five(images: list[Path], image: Image.Image) -> list[Path]:
    """Five images, the third of them broken."""
    for name in ("c", "d", "e"):
        image.rotate(ord(name)).resize((64, 64)).save(images[0].parent / f"{name}.png")
    (images[0].parent / "c.png").write_bytes(b"broken")
    return images_in(images[0].parent)


@pytest.mark.parametrize("sizes", [{}, {"batch_size": 1}, {"batch_size": 1, "shard_size": 1}])
def test_the_cache_is_the_encoders_output_halved(
    cache: Cache, images: list[Path], processor: SMNERProcessor, sizes: dict[str, int]
) -> None:
    """Compared with each image encoded alone: rounding to float16 is 2⁻¹¹ of the value."""
    assert cache(images, **sizes) == []
    for name, path in zip("ab", images, strict=True):
        pixels = processor.image_settings.normalize(processor.decode_image(path)[None])
        with torch.inference_mode():
            expected = cache.encoder.network(pixels)[0]
        features = cache.file()[name].features
        assert features.dtype == torch.float16
        torch.testing.assert_close(features.float(), expected, rtol=2**-10, atol=1e-4)


def test_the_cache_is_one_file_with_its_metadata(cache: Cache, images: list[Path]) -> None:
    """An image named twice is in it once."""
    cache([*images, images[0]])
    metadata = cache.file().metadata
    assert json.loads(metadata["image_ids"]) == ["a", "b"]
    assert metadata["encoder"] == "timm:test_efficientnet"
    assert metadata["fingerprint"] == cache.encoder.fingerprint()
    assert list(cache.output.parent.iterdir()) == [cache.output]


def test_unreadable_images_are_left_out_and_reported(cache: Cache, images: list[Path], tmp_path: Path) -> None:
    torn, missing = tmp_path / "torn.png", tmp_path / "missing.png"
    torn.write_bytes(images[0].read_bytes()[:200])
    assert cache([torn, *images, missing], batch_size=1, shard_size=2) == [torn, missing]
    assert [name in cache.file() for name in ("a", "b", "torn", "missing")] == [True, True, False, False]


def test_unreadable_images_alone_make_no_file(cache: Cache, tmp_path: Path) -> None:
    assert cache([tmp_path / "missing.png"]) == [tmp_path / "missing.png"]
    assert list(cache.output.parent.iterdir()) == []


@pytest.fixture
def halfway(cache: Cache, five: list[Path]) -> Cache:
    """A cache that was killed at its second shard, with two of its five images encoded."""
    cache.killed_at = 1
    with pytest.raises(KeyboardInterrupt):
        cache(five, shard_size=2)
    assert not cache.output.exists()
    cache.killed_at = None
    return cache


@pytest.mark.parametrize("torn", ["nothing", "partial", "000001.safetensors"])
def test_a_killed_cache_continues_to_the_same_file(halfway: Cache, five: list[Path], tmp_path: Path, torn: str) -> None:
    """Shards [a, b], [c, d], [e]; a kill leaves a partial file, a power failure perhaps an empty shard."""
    if torn != "nothing":
        (halfway.output.parent / "f.safetensors.parts" / torn).write_bytes(b"\0" * 100)
    assert halfway(five, shard_size=2) == [five[2]]
    assert halfway.batches == [2, 1, 1]  # a and b, d without the broken c, e
    assert list(halfway.output.parent.iterdir()) == [halfway.output]
    whole = tmp_path / "whole.safetensors"
    cache_images(five, whole, halfway.encoder, shard_size=2)
    assert torch.equal(load_file(halfway.output)["features"], load_file(whole)["features"])
    assert halfway.file().metadata == ImageFeatureFile(whole).metadata


def test_a_killed_cache_of_another_encoder_restarts(halfway: Cache, five: list[Path]) -> None:
    with torch.no_grad():
        next(halfway.encoder.network.parameters()).add_(1)
    halfway(five, shard_size=2)
    assert halfway.batches == [2, 2, 1, 1]


def test_a_finished_cache_is_not_encoded_again(cache: Cache, five: list[Path]) -> None:
    """Nor does it keep the shards that a kill just after the merge leaves behind."""
    assert cache(five) == [five[2]]
    (cache.output.parent / "f.safetensors.parts").mkdir()
    assert cache(five) == [five[2]]
    assert cache.batches == [4]
    assert list(cache.output.parent.iterdir()) == [cache.output]


def test_a_replaced_image_is_noticed(cache: Cache, five: list[Path]) -> None:
    cache(five)
    five[2].write_bytes(five[0].read_bytes())
    assert cache(five) == []
    five[2].write_bytes(bytes(five[2].stat().st_size))  # of the same size
    assert cache(five) == [five[2]]
    assert cache.batches == [4, 5, 4]


@pytest.mark.parametrize("kind", ["text", "folder", "features of another program"])
def test_files_of_others_are_not_overwritten(cache: Cache, images: list[Path], kind: str) -> None:
    output = cache.output
    output.parent.mkdir()
    if kind == "folder":
        output.mkdir()
    elif kind == "text":
        output.write_text("precious", "utf-8")
    else:
        save_file({"features": torch.zeros(1, 2, 3)}, output, {"image_ids": '["a"]'})
    before = output.is_file() and output.read_bytes()
    with pytest.raises(FileExistsError, match=r"f\.safetensors exists and .*: choose another name"):
        cache(images)
    assert (output.is_file() and output.read_bytes()) == before
    assert cache.batches == []
    assert list(output.parent.iterdir()) == [output]


def test_images_of_the_same_name_are_refused(cache: Cache, images: list[Path], tmp_path: Path) -> None:
    """A post must never silently get another post's image."""
    with pytest.raises(ValueError, match=r"a\.png"):
        cache([images[0], tmp_path / "other" / "a.png"])


def test_a_folders_images_are_listed_by_name(images: list[Path]) -> None:
    (images[0].parent / "notes.txt").write_text("no photo", "utf-8")
    assert images_in(images[0].parent) == images


def test_cached_and_decoded_images_give_equal_logits(
    cache: Cache, images: list[Path], smner: SMNER, processor: SMNERProcessor
) -> None:
    posts = [LabeledPost("1", ("in", "Rome"), (), images[0]), LabeledPost("2", ("hi",), (), None)]
    with torch.no_grad():
        smner.image_projection.weight.mul_(1000)  # random trunks end in small values; trained ones do not
    cache(images)
    collator = Collator(processor, smner.config.label2id, smner.config.max_span_width)

    def logits(**source: Any) -> Tensor:
        data = PostDataset(posts, processor, **source)
        with torch.inference_mode():
            output: Tensor = smner(**collator.inputs([data[0], data[1]])).logits
        return output

    left, right, without = logits(features=cache.file()), logits(decode_images=True), logits()
    assert (left[0] - without[0]).abs().max() > 0.1
    torch.testing.assert_close(left, right, rtol=0, atol=0.001)
