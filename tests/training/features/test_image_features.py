import json
import tracemalloc
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor

from model import SMNER, SMNERProcessor
from model.preprocessing.images import ImageSettings
from training.data.dataset import Collator, PostDataset
from training.data.posts import LabelledPost
from training.features.image_feature_writer import ImageFeatureWriter
from training.features.image_features import ImageFeatureFile, cache_images, image_id, images_in
from training.learning.encoders import FrozenImageEncoder


def write(path: Path, tensors: dict[str, Tensor], ids: object = None) -> Path:
    metadata = {"encoder": "timm:some"} | ({} if ids is None else {"image_ids": json.dumps(ids)})
    save_file(tensors, path, metadata)
    return path


@pytest.fixture
def images(tmp_path: Path, image: Image.Image) -> list[Path]:
    """Two photos, the second upside down."""
    folder = tmp_path / "photos"
    folder.mkdir()
    small = image.resize((96, 96))
    small.save(folder / "a.png")
    small.rotate(180).save(folder / "b.jpg")
    return [folder / "a.png", folder / "b.jpg"]


@pytest.fixture
def encoder(smner: SMNER, processor: SMNERProcessor) -> FrozenImageEncoder:
    """The image encoder of the small network."""
    assert smner.image_encoder is not None
    return FrozenImageEncoder("timm:test_efficientnet", smner.image_encoder, processor.image_settings)


@pytest.mark.parametrize("shape", [(2, 50, 2048), (2, 5, 3), (2, 1, 7)])
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_features_of_any_width_and_any_number_of_regions_are_read(
    tmp_path: Path, shape: tuple[int, ...], dtype: torch.dtype
) -> None:
    features = torch.randn(shape).to(dtype)
    file = ImageFeatureFile(write(tmp_path / "f.safetensors", {"features": features}, ["a", "b"]))
    assert (len(file), file.feature_size, file.encoder) == (2, shape[2], "timm:some")
    torch.testing.assert_close(file["b"].features, features[1], rtol=0, atol=0)
    assert file["b"].mask is None


def test_each_image_has_its_own_mask(tmp_path: Path) -> None:
    mask = torch.tensor([[True, True, False], [True, False, True]])
    tensors = {"features": torch.randn(2, 3, 4), "mask": mask}
    file = ImageFeatureFile(write(tmp_path / "f.safetensors", tensors, ["a", "b"]))
    assert [file[name].mask for name in "ab"] == [pytest.approx(mask[0]), pytest.approx(mask[1])]


def test_ids_are_asked_for_as_text(tmp_path: Path) -> None:
    file = ImageFeatureFile(write(tmp_path / "f.safetensors", {"features": torch.zeros(2, 1, 1)}, [17, "18"]))
    assert "17" in file
    assert "18" in file
    assert "19" not in file


@pytest.mark.parametrize(
    ("tensors", "ids"), [({"features": torch.zeros(1, 2, 3)}, None), ({"other": torch.zeros(1, 2, 3)}, ["a"])]
)
def test_a_file_without_features_or_without_ids_is_refused(
    tmp_path: Path, tensors: dict[str, Tensor], ids: list[str] | None
) -> None:
    path = write(tmp_path / "f.safetensors", tensors, ids)
    with pytest.raises(ValueError, match=f"{path}: not an image-feature file: it needs features and the metadata"):
        ImageFeatureFile(path)


@pytest.mark.parametrize(("shape", "ids"), [((2, 3, 4), ["a"]), ((2, 3, 4), ["a", "a"]), ((2, 3), ["a", "b"])])
def test_features_that_do_not_fit_the_ids_are_refused(tmp_path: Path, shape: tuple[int, ...], ids: list[str]) -> None:
    path = write(tmp_path / "f.safetensors", {"features": torch.zeros(shape)}, ids)
    with pytest.raises(ValueError, match=f"{path}: features .* do not fit {len(set(ids))} distinct image ids"):
        ImageFeatureFile(path)


def test_a_mask_that_does_not_fit_the_features_is_refused(tmp_path: Path) -> None:
    tensors = {"features": torch.zeros(2, 3, 4), "mask": torch.ones(2, 4, dtype=torch.bool)}
    path = write(tmp_path / "f.safetensors", tensors, ["a", "b"])
    with pytest.raises(ValueError, match="mask"):
        ImageFeatureFile(path)


def test_a_file_that_is_not_safetensors_is_refused_with_its_name(tmp_path: Path) -> None:
    path = tmp_path / "f.safetensors"
    path.write_bytes(b"not safetensors at all")
    with pytest.raises(ValueError, match=r"f\.safetensors"):
        ImageFeatureFile(path)


def test_the_cache_is_the_encoders_output_in_half_precision(
    tmp_path: Path, images: list[Path], encoder: FrozenImageEncoder, processor: SMNERProcessor
) -> None:
    """Both photos in one batch, compared with each encoded by itself: rounding to float16 is 2⁻¹¹ of the value."""
    assert cache_images(images, tmp_path / "new" / "f.safetensors", encoder) == []
    file = ImageFeatureFile(tmp_path / "new" / "f.safetensors")
    for path in images:
        pixels = processor.image_settings.normalize(processor.decode_image(path)[None])
        with torch.inference_mode():
            expected = encoder.network(pixels)[0]
        assert file[image_id(path)].features.dtype == torch.float16
        torch.testing.assert_close(file[image_id(path)].features.float(), expected, rtol=2**-10, atol=1e-4)


def test_the_cache_has_the_ids_and_the_encoders_name_and_nothing_unfinished_beside_it(
    tmp_path: Path, images: list[Path], encoder: FrozenImageEncoder
) -> None:
    folder = tmp_path / "new"
    cache_images(images, folder / "f.safetensors", encoder)
    metadata = ImageFeatureFile(folder / "f.safetensors").metadata
    assert json.loads(metadata["image_ids"]) == ["a", "b"]
    assert metadata["encoder"] == "timm:test_efficientnet"
    assert metadata["fingerprint"] == encoder.fingerprint()
    assert [path.name for path in folder.iterdir()] == ["f.safetensors"]


def test_batches_do_not_change_the_cache(tmp_path: Path, images: list[Path], encoder: FrozenImageEncoder) -> None:
    for size in (1, 2):
        cache_images(images, tmp_path / f"{size}.safetensors", encoder, batch_size=size)
    one, two = (ImageFeatureFile(tmp_path / f"{size}.safetensors") for size in (1, 2))
    for name in "ab":
        torch.testing.assert_close(one[name].features, two[name].features, rtol=2**-10, atol=1e-3)


def test_broken_and_missing_images_are_left_out_and_reported(
    tmp_path: Path, images: list[Path], encoder: FrozenImageEncoder
) -> None:
    torn, missing = tmp_path / "torn.png", tmp_path / "missing.png"
    torn.write_bytes(images[0].read_bytes()[:200])
    assert cache_images([torn, *images, missing], tmp_path / "f.safetensors", encoder, batch_size=1) == [torn, missing]
    file = ImageFeatureFile(tmp_path / "f.safetensors")
    assert [name in file for name in ("a", "b", "torn", "missing")] == [True, True, False, False]


def test_of_broken_images_alone_there_is_no_file(tmp_path: Path, encoder: FrozenImageEncoder) -> None:
    missing = tmp_path / "missing.png"
    assert cache_images([missing], tmp_path / "f.safetensors", encoder) == [missing]
    assert list(tmp_path.glob("f.safetensors*")) == []


class Interrupted(FrozenImageEncoder):
    """Is killed at its second batch."""

    def encode(self, images: Tensor) -> Tensor:
        CALLS.append(len(images))
        if len(CALLS) == 2:
            raise KeyboardInterrupt
        return super().encode(images)


CALLS: list[int] = []


@pytest.fixture
def five(images: list[Path], image: Image.Image) -> list[Path]:
    """Five photos, the third of them broken."""
    for name in ("c", "d", "e"):
        image.rotate(ord(name)).resize((64, 64)).save(images[0].parent / f"{name}.png")
    (images[0].parent / "c.png").write_bytes(b"broken")
    return images_in(images[0].parent)


@pytest.fixture
def halfway(tmp_path: Path, five: list[Path], encoder: FrozenImageEncoder) -> Path:
    """Where a cache is that was killed with two of its five photos encoded."""
    CALLS.clear()
    with pytest.raises(KeyboardInterrupt):
        cache_images(
            five,
            tmp_path / "f.safetensors",
            Interrupted(encoder.name, encoder.network, encoder.image_settings),
            batch_size=2,
        )
    assert not (tmp_path / "f.safetensors").exists()
    return tmp_path / "f.safetensors"


@pytest.fixture
def batches(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Sizes of the batches that are encoded from now on."""
    sizes: list[int] = []
    encode = FrozenImageEncoder.encode

    def counted(encoder: FrozenImageEncoder, images: Tensor) -> Tensor:
        sizes.append(len(images))
        return encode(encoder, images)

    monkeypatch.setattr(FrozenImageEncoder, "encode", counted)
    return sizes


@pytest.mark.parametrize("torn", [False, True])
def test_a_killed_cache_goes_on_where_it_was_and_ends_with_the_same_bytes(
    halfway: Path, five: list[Path], encoder: FrozenImageEncoder, batches: list[int], torn: bool
) -> None:
    """Five photos in batches of two: [a, b], [c, d], [e]; torn is what a kill in the middle of writing leaves."""
    if torn:
        for name, rest in ((".part", b"half a row"), (".journal", b'{"names": ["d"], "bro')):
            with halfway.with_name(halfway.name + name).open("ab") as file:
                file.write(rest)
    assert [path.stem for path in cache_images(five, halfway, encoder, batch_size=2)] == ["c"]
    assert batches == [1, 1]  # d without the broken c, and e
    whole = halfway.with_name("whole.safetensors")
    cache_images(five, whole, encoder, batch_size=2)
    assert halfway.read_bytes() == whole.read_bytes()
    assert sorted(path.name for path in halfway.parent.glob("*.safetensors*")) == [halfway.name, whole.name]


def test_a_killed_cache_of_other_images_or_another_encoder_begins_anew(
    halfway: Path, five: list[Path], encoder: FrozenImageEncoder, batches: list[int]
) -> None:
    with torch.no_grad():
        next(encoder.network.parameters()).add_(1)
    cache_images(five, halfway, encoder, batch_size=2)
    assert batches == [2, 1, 1]


def test_what_was_encoded_is_not_encoded_again(
    tmp_path: Path, five: list[Path], encoder: FrozenImageEncoder, batches: list[int]
) -> None:
    assert [cache_images(five, tmp_path / "f.safetensors", encoder) for _ in range(2)] == [[five[2]]] * 2
    assert batches == [4]


def test_a_image_that_was_replaced_is_noticed(
    tmp_path: Path, five: list[Path], encoder: FrozenImageEncoder, batches: list[int]
) -> None:
    cache_images(five, tmp_path / "f.safetensors", encoder)
    five[2].write_bytes(five[0].read_bytes())
    assert cache_images(five, tmp_path / "f.safetensors", encoder) == []
    content = five[2].read_bytes()
    five[2].write_bytes(bytes(len(content)))  # of the same size
    assert cache_images(five, tmp_path / "f.safetensors", encoder) == [five[2]]
    assert batches == [4, 5, 4]


@pytest.mark.parametrize("kind", ["text", "folder", "features of another program"])
def test_nothing_of_anybody_else_is_written_over(
    tmp_path: Path, images: list[Path], encoder: FrozenImageEncoder, batches: list[int], kind: str
) -> None:
    output = tmp_path / "precious"
    if kind == "folder":
        output.mkdir()
    elif kind == "text":
        output.write_text("precious", "utf-8")
    else:
        write(output, {"features": torch.zeros(1, 2, 3)}, ["a"])
    before = output.is_file() and output.read_bytes()
    with pytest.raises(FileExistsError, match=r"precious is there and .*: choose another name"):
        cache_images(images, output, encoder)
    assert (output.is_file() and output.read_bytes()) == before
    assert batches == []
    assert list(tmp_path.glob("precious.*")) == []


def test_the_writer_holds_one_batch_at_a_time(tmp_path: Path) -> None:
    """Forty batches of 1 MB: all of them together were in memory before, twice."""
    ids = [str(i) for i in range(400)]
    writer = ImageFeatureWriter(tmp_path / "f.safetensors", ids, {"encoder": "timm:some"})
    features = torch.ones(10, 50, 1024, dtype=torch.float16)
    tracemalloc.start()
    for first in range(0, 400, 10):
        writer.add(ids[first : first + 10], [], features)
    writer.finish()
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 4 * features.nbytes
    assert len(ImageFeatureFile(tmp_path / "f.safetensors")) == 400
    assert torch.equal(load_file(tmp_path / "f.safetensors")["features"], features.repeat(40, 1, 1))


def test_features_of_other_weights_or_image_settings_are_refused_with_what_differs(
    tmp_path: Path, images: list[Path], encoder: FrozenImageEncoder
) -> None:
    cache_images(images, tmp_path / "f.safetensors", encoder)
    file = ImageFeatureFile(tmp_path / "f.safetensors")
    file.check(encoder)
    with pytest.raises(ValueError, match=r"f\.safetensors: made by .* \(size 64, not 96\)"):
        file.check(FrozenImageEncoder(encoder.name, encoder.network, ImageSettings(size=96)))
    with pytest.raises(ValueError, match=r"features of timm:test_efficientnet, not of timm:other"):
        file.check(FrozenImageEncoder("timm:other", encoder.network, encoder.image_settings))
    with torch.no_grad():
        next(encoder.network.parameters()).mul_(2)
    with pytest.raises(ValueError, match=r"\(weights [0-9a-f]{64}, not [0-9a-f]{64}\)"):
        file.check(encoder)


def test_an_encoder_and_its_half_precision_copy_are_one(
    tmp_path: Path, images: list[Path], encoder: FrozenImageEncoder
) -> None:
    """A checkpoint in half precision could not be evaluated on the features that it was trained with."""
    cache_images(images, tmp_path / "f.safetensors", encoder)
    encoder.network.half().float()
    ImageFeatureFile(tmp_path / "f.safetensors").check(encoder)


def test_features_that_do_not_say_what_made_them_are_believed(tmp_path: Path, encoder: FrozenImageEncoder) -> None:
    metadata = {"image_ids": '["a"]', "encoder": encoder.name}
    save_file({"features": torch.zeros(1, 2, 256)}, tmp_path / "f.safetensors", metadata)
    ImageFeatureFile(tmp_path / "f.safetensors").check(encoder)


def test_a_image_named_twice_is_encoded_once(tmp_path: Path, images: list[Path], encoder: FrozenImageEncoder) -> None:
    cache_images([*images, images[0]], tmp_path / "f.safetensors", encoder)
    assert len(ImageFeatureFile(tmp_path / "f.safetensors")) == 2


def test_images_of_the_same_name_in_two_folders_are_not_taken_for_each_other(
    tmp_path: Path, images: list[Path], encoder: FrozenImageEncoder
) -> None:
    """Never silently another post's picture: refuse, or keep both apart."""
    twin = tmp_path / "other" / "a.png"
    twin.parent.mkdir()
    twin.write_bytes(images[1].read_bytes())
    with pytest.raises(ValueError, match=r"a\.png"):
        cache_images([images[0], twin], tmp_path / "f.safetensors", encoder)


def test_a_folders_images_are_listed_by_name_and_nothing_else(images: list[Path]) -> None:
    (images[0].parent / "notes.txt").write_text("no photo", "utf-8")
    assert images_in(images[0].parent) == images


def test_cached_features_and_the_decoded_image_give_nearly_the_same_logits(
    tmp_path: Path, images: list[Path], encoder: FrozenImageEncoder, smner: SMNER, processor: SMNERProcessor
) -> None:
    posts = [LabelledPost("1", ("in", "Rome"), (), images[0]), LabelledPost("2", ("hi",), (), None)]
    with torch.no_grad():
        smner.image_projection.weight.mul_(1000)  # random trunks end in small values; trained ones do not
    cache_images(images, tmp_path / "f.safetensors", encoder)
    ready = PostDataset(posts, processor, features=ImageFeatureFile(tmp_path / "f.safetensors"))
    decoded = PostDataset(posts, processor, decode_images=True)
    collator = Collator(processor, smner.config.label2id, smner.config.max_span_width)
    with torch.inference_mode():
        left, right = (smner(**collator.inputs([data[0], data[1]])).logits for data in (ready, decoded))
        without = smner(**processor.collate(ready.texts)).logits
    assert (left[0] - without[0]).abs().max() > 0.1
    torch.testing.assert_close(left, right, rtol=0, atol=0.001)


@pytest.mark.parametrize("ids", ["not JSON", "2", "null"])
def test_image_ids_that_are_no_list_are_refused_with_the_file(tmp_path: Path, ids: str) -> None:
    path = tmp_path / "f.safetensors"
    save_file({"features": torch.randn(1, 4, 8)}, path, {"image_ids": ids, "encoder": "other"})
    with pytest.raises(ValueError, match=r"f\.safetensors: expected image_ids to be a JSON list, found"):
        ImageFeatureFile(path)
