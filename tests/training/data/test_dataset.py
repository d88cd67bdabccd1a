import json
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from model import Recognizer, SMNERProcessor
from model.modeling.spans import enumerate_spans
from training.data.dataset import IGNORED, Collator, Example, PostDataset
from training.data.posts import LabeledPost, TypedWords, UnusableImage
from training.data.readers import read_posts
from training.features.image_features import ImageFeatureFile, ImageFeatures

LABELS = {"O": 0, "PER": 1, "LOC": 2}
RAW = "RT @Ann: can't wait for the 2nd game in St. Louis 👍🏽 http://t.co/aB9"


def post(words: str, *entities: tuple[int, int, str], tagged: bool = True, image: Path | None = None) -> LabeledPost:
    typed = tuple(TypedWords(*entity) for entity in entities)
    return LabeledPost(words, tuple(words.split()), typed if tagged else None, image)


def labels(processor: SMNERProcessor, posts: list[LabeledPost], *, max_span_width: int) -> list[list[int]]:
    dataset = PostDataset(posts, processor)
    batch = Collator(processor, LABELS, max_span_width)([dataset[i] for i in range(len(posts))])
    assert batch["labels"].dtype == torch.int64
    rows: list[list[int]] = batch["labels"].tolist()
    return rows


def test_a_batch_of_different_lengths_is_labeled(processor: SMNERProcessor) -> None:
    """Words 0 1 2 and 0 1. The spans, by width and then by first word, are 0 1 2 | 01 12."""
    long = post("Ann Lee ran", (0, 1, "PER"))
    short = post("in Rome", (1, 1, "LOC"))
    assert labels(processor, [long, short], max_span_width=2) == [
        [0, 0, 0, 1, 0],
        [0, 2, IGNORED, 0, IGNORED],
    ]


def test_an_entity_beyond_max_span_width_is_unlabeled(processor: SMNERProcessor) -> None:
    wide = post("Ann van Lee", (0, 2, "PER"))
    assert labels(processor, [wide], max_span_width=2) == [[0, 0, 0, 0, 0]]
    assert labels(processor, [wide], max_span_width=3) == [[0, 0, 0, 0, 0, 1]]


def test_only_untagged_posts_are_ignored(processor: SMNERProcessor) -> None:
    untagged, empty = post("a b", tagged=False), post("a b")
    assert labels(processor, [untagged, empty], max_span_width=4) == [[IGNORED] * 3, [0, 0, 0]]


@pytest.mark.parametrize("max_span_width", [1, 2, 4, 9])
def test_labels_cover_the_networks_real_spans(processor: SMNERProcessor, max_span_width: int) -> None:
    dataset = PostDataset([post("a " * length) for length in (1, 3, 6)], processor)
    batch = Collator(processor, LABELS, max_span_width)([dataset[i] for i in range(3)])
    spans = enumerate_spans(batch["morphs"] != 0, max_span_width)
    assert torch.equal(batch["labels"] != IGNORED, spans.mask)


def test_labels_stand_at_the_networks_span_index(processor: SMNERProcessor) -> None:
    tagged = post("a b c d e f g", (1, 1, "PER"), (3, 5, "LOC"), (6, 6, "PER"))
    dataset = PostDataset([tagged, post("a b c d e f g h")], processor)
    batch = Collator(processor, LABELS, 4)([dataset[0], dataset[1]])
    spans = enumerate_spans(batch["morphs"] != 0, 4)
    found = [(int(spans.starts[i]), int(spans.ends[i])) for i in batch["labels"][0].gt(0).nonzero()[:, 0]]
    assert found == [(1, 1), (6, 6), (3, 5)]


def test_training_reads_text_as_serving_does(processor: SMNERProcessor, recognizer: Recognizer) -> None:
    """A data file has words, a request raw text; ids, word positions and morphs are equal."""
    (served,) = recognizer.prepare(RAW).windows
    trained = PostDataset([LabeledPost("1", tuple(word.text for word in served.words), None)], processor).texts[0]
    for field in ("input_ids", "word_starts", "word_ends", "morphs", "segments"):
        assert getattr(trained, field) == getattr(served, field)
    assert len(trained.input_ids) > 40


def test_training_reads_images_as_serving_does(
    processor: SMNERProcessor, recognizer: Recognizer, tmp_path: Path, jpeg: bytes
) -> None:
    (tmp_path / "1.jpg").write_bytes(jpeg)
    dataset = PostDataset([post("hi", image=tmp_path / "1.jpg")], processor, decode_images=True)
    trained, served = dataset[0].image, recognizer.prepare("hi", jpeg).pixels
    assert isinstance(trained, torch.Tensor)
    assert served is not None
    assert trained.dtype == torch.uint8
    assert torch.equal(trained, served)


def test_training_batches_posts_as_serving_does(processor: SMNERProcessor, tmp_path: Path, image: Image.Image) -> None:
    image.save(tmp_path / "1.png")
    words = processor.tokenize(RAW).words
    own = LabeledPost("1", tuple(word.text for word in words), None, tmp_path / "1.png")
    dataset = PostDataset([own, post("hi")], processor, decode_images=True)
    trained, served = (
        Collator(processor, LABELS, 4).inputs([dataset[0], dataset[1]]),
        processor([RAW, "hi"], [image, None]),
    )
    assert trained.keys() == served.keys()
    assert all(torch.equal(trained[key], served[key]) for key in served)


def test_images_are_not_decoded_unless_asked_for(processor: SMNERProcessor, tmp_path: Path) -> None:
    dataset = PostDataset([post("hi", image=tmp_path / "absent.png")], processor)
    assert not dataset.has_image(0)
    assert dataset[0].image is None


def test_a_broken_image_is_dropped_and_remembered(processor: SMNERProcessor, tmp_path: Path) -> None:
    (tmp_path / "1.jpg").write_bytes(b"\xff\xd8\xff")
    dataset = PostDataset([post("hi", image=tmp_path / "1.jpg")], processor, decode_images=True)
    assert dataset[0].image is None
    assert dataset.broken == {0}


@pytest.fixture
def ready(tmp_path: Path) -> ImageFeatureFile:
    """Features of the images 0 and 2: all zeros and all twos."""
    features = torch.stack([torch.zeros(3, 2), torch.full((3, 2), 2.0)])
    save_file({"features": features}, tmp_path / "f.safetensors", {"image_ids": json.dumps(["0", "2"])})
    return ImageFeatureFile(tmp_path / "f.safetensors")


def test_features_follow_the_image_a_post_names(
    processor: SMNERProcessor, tmp_path: Path, ready: ImageFeatureFile
) -> None:
    """Post 2 used to get image 2's features, whichever it named; post 77 got none."""
    names = [{"id": "2", "image": "0.png"}, {"id": "77", "image": "2.png"}, {"id": "0", "image": "9.png"}, {"id": "0"}]
    (tmp_path / "train.jsonl").write_text("".join(json.dumps({**own, "text": "hi"}) + "\n" for own in names), "utf-8")
    (tmp_path / "train.txt").write_text("IMGID:2\nhi\tO\n\nIMGID:9\nhi\tO\n", "utf-8")
    posts = [post for name in ("train.jsonl", "train.txt") for post in read_posts(tmp_path / name)]
    dataset = PostDataset(posts, processor, features=ready, features_by_id=True)
    images = [dataset[index].image for index in range(len(dataset))]
    assert [int(image.features[0, 0]) if isinstance(image, ImageFeatures) else None for image in images] == [
        *(0, 2, None, 0),
        *(2, None),
    ]
    nine = UnusableImage("9", "without features")
    assert [dataset.unusable_image(index) for index in range(len(dataset))] == [None, None, nine, None, None, nine]


def test_length_counts_sub_tokens(processor: SMNERProcessor) -> None:
    dataset = PostDataset([post("ab c"), post("a")], processor)
    assert [dataset.length(i) for i in range(len(dataset))] == [5, 3]  # a letter each, [CLS] and [SEP]


def test_feature_masks_stand_in_their_posts_rows(processor: SMNERProcessor) -> None:
    texts = [processor.tokenize(text) for text in ("a", "b", "c")]
    images = [ImageFeatures(torch.ones(3, 2).half(), torch.tensor([True, False, True])), None]
    examples = [Example(text, None, image) for text, image in zip(texts, [*images, images[0]], strict=True)]
    batch = Collator(processor, LABELS, 4).inputs(examples)
    assert batch["image_mask"].tolist() == [True, False, True]
    assert batch["image_features"].dtype == torch.float32
    assert batch["image_feature_mask"][[0, 2]].tolist() == [[True, False, True]] * 2


def test_features_with_and_without_mask_share_batches(processor: SMNERProcessor) -> None:
    """Each source may have its own file, and the mask is optional in each."""
    masked = ImageFeatures(torch.ones(3, 2), torch.tensor([True, False, True]))
    whole = ImageFeatures(torch.ones(3, 2), None)
    examples = [Example(processor.tokenize("a"), None, image) for image in (whole, masked)]
    batch = Collator(processor, LABELS, 4).inputs(examples)
    assert batch["image_feature_mask"].tolist() == [[True] * 3, [True, False, True]]


def test_no_span_of_a_post_crosses_its_lines(processor: SMNERProcessor) -> None:
    dataset = PostDataset([LabeledPost("1", ("a", "b", "c"), (), line_starts=(1,))], processor)
    labels = Collator(processor, LABELS, 3)([dataset[0]])["labels"]
    spans = enumerate_spans(torch.ones(1, 3, dtype=torch.bool), 3)
    real = [(int(s), int(e)) for s, e in zip(spans.starts, spans.ends, strict=True)]
    assert [span for span, label in zip(real, labels[0], strict=True) if label == 0] == [(0, 0), (1, 1), (2, 2), (1, 2)]
