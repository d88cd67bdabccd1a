"""Posts as examples, and examples as labeled batches."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.data import Dataset

from model.errors import InvalidPost, TextTooLong
from model.modeling.spans import Spans, enumerate_spans, span_index
from model.preprocessing.processor import Batch, SMNERProcessor
from model.preprocessing.tokenized_text import TokenizedText
from training.data.errors import UnusablePost
from training.data.posts import Casing, LabeledPost, TypedWords, UnusableImage, recased
from training.features.image_features import ImageFeatureFile, ImageFeatures, image_id

IGNORED = -100  # label of spans that do not count in the loss


@dataclass(frozen=True, slots=True)
class Example:
    """An encoded post with its entities, and its image as features or as uint8 pixels (3, size, size).

    ``teacher_logits`` is that of :class:`training.data.posts.LabeledPost`.
    """

    text: TokenizedText
    entities: tuple[TypedWords, ...] | None
    image: ImageFeatures | Tensor | None
    teacher_logits: Tensor | None = None


class PostDataset(Dataset[Example]):
    """Posts whose texts are encoded up front; an image is read when its example is asked for.

    Args:
        features: the file with the images' features.
        features_by_id: whether to look features up by image id for a post without an image file.
        decode_images: whether to decode image files; ignored if ``features`` is given.

    Raises:
        UnusablePost: a text does not fit into the text encoder.
    """

    def __init__(
        self,
        posts: Sequence[LabeledPost],
        processor: SMNERProcessor,
        *,
        features: ImageFeatureFile | None = None,
        features_by_id: bool = False,
        decode_images: bool = False,
    ) -> None:
        self.posts = posts
        self.texts = [_encoded(post, processor) for post in posts]
        self._processor = processor
        self._features = features
        self._features_by_id = features_by_id
        self._decode_images = decode_images
        self.broken: set[int] = set()  # posts whose image proved unreadable; they count as posts without one

    def __len__(self) -> int:
        return len(self.posts)

    def __getitem__(self, index: int) -> Example:
        post = self.posts[index]
        return Example(self.texts[index], post.entities, self._image(index), post.teacher_logits)

    def recased(self, casing: Casing) -> "PostDataset":
        """The same posts in small letters or in capitals, with the same images."""
        return PostDataset(
            [recased(post, casing) for post in self.posts],
            self._processor,
            features=self._features,
            features_by_id=self._features_by_id,
            decode_images=self._decode_images,
        )

    def has_image(self, index: int) -> bool:
        """Whether the post has an image that can be used."""
        return self._key(self.posts[index]) is not None

    def unusable_image(self, index: int) -> UnusableImage | None:
        """The image that the post should have but that cannot be used."""
        post = self.posts[index]
        if not self._features_by_id:
            return post.unusable_image
        if self.has_image(index):
            return None
        return UnusableImage(post.image_id or post.id if post.image is None else str(post.image), "without features")

    def images(self) -> int:
        """The number of posts with an image that can be used, as far as is known."""
        return sum(self.has_image(index) for index in range(len(self))) - len(self.broken)

    def length(self, index: int) -> int:
        """The number of sub-tokens in the post."""
        return len(self.texts[index].input_ids)

    def _key(self, post: LabeledPost) -> str | None:
        """The image's id, if its features or its file are available."""
        named = post.image_id or post.id if self._features_by_id else None
        key = named if post.image is None else image_id(post.image)
        if self._features is not None:
            return key if key in self._features else None
        return key if self._decode_images else None

    def _image(self, index: int) -> ImageFeatures | Tensor | None:
        post = self.posts[index]
        key = self._key(post)
        if key is None:
            return None
        if self._features is not None:
            return self._features[key]
        assert post.image is not None
        try:
            return self._processor.decode_image(post.image)
        except (InvalidPost, OSError):
            self.broken.add(index)
            return None


def _encoded(post: LabeledPost, processor: SMNERProcessor) -> TokenizedText:
    try:
        return processor.tokenize_words(post.words, post.line_starts)
    except TextTooLong as error:
        path, line = post.place or (None, None)
        raise UnusablePost(path, line, f"post {post.id}: {error}", error.tokens) from error


class Collator:
    """Turns examples into the batch of :meth:`model.SMNER.forward` plus ``labels``, (B, S) int64.

    Padding spans and all spans of untagged posts are labeled IGNORED. If a post has a teacher's logits, the batch also
    has ``teacher_logits`` (B, S, 1 + types) float and ``taught`` (B, S) bool, True where a span has them.
    """

    def __init__(self, processor: SMNERProcessor, label2id: Mapping[str, int], max_span_width: int) -> None:
        self._processor = processor
        self._label2id = label2id
        self._max_span_width = max_span_width

    def __call__(self, examples: Sequence[Example]) -> Batch:
        """Pad and label."""
        batch = self.inputs(examples)
        spans = enumerate_spans(batch["segments"], self._max_span_width)
        batch["labels"] = self._labels(examples, spans, words=batch["morphs"].shape[1])
        if any(example.teacher_logits is not None for example in examples):
            batch["teacher_logits"], batch["taught"] = self._teacher_logits(examples, spans)
        return batch

    def inputs(self, examples: Sequence[Example]) -> Batch:
        """The batch without labels."""
        ready = [example.image if isinstance(example.image, ImageFeatures) else None for example in examples]
        pixels = [example.image if isinstance(example.image, Tensor) else None for example in examples]
        features = [None if image is None else image.features.float() for image in ready]
        texts = [example.text for example in examples]
        if any(image is not None for image in pixels):
            return self._processor.collate(texts, pixels=pixels)
        batch = self._processor.collate(texts, image_features=features)
        masks = {row: image.mask for row, image in enumerate(ready) if image is not None and image.mask is not None}
        if masks:
            batch["image_feature_mask"] = torch.ones(batch["image_features"].shape[:2], dtype=torch.bool)
        for row, mask in masks.items():
            batch["image_feature_mask"][row] = mask
        return batch

    def _labels(self, examples: Sequence[Example], spans: Spans, *, words: int) -> Tensor:
        labels = torch.where(spans.mask, 0, IGNORED)
        for row, example in enumerate(examples):
            if example.entities is None:
                labels[row] = IGNORED
            for entity in example.entities or ():
                index = span_index(entity.start, entity.end, words=words, max_width=self._max_span_width)
                if index is not None and spans.mask[row, index]:  # else it cannot be learned; evaluation counts a miss
                    labels[row, index] = self._label2id[entity.type]
        return labels

    def _teacher_logits(self, examples: Sequence[Example], spans: Spans) -> tuple[Tensor, Tensor]:
        logits = torch.zeros(*spans.mask.shape, len(self._label2id))
        taught = torch.zeros_like(spans.mask)
        for row, example in enumerate(examples):
            if example.teacher_logits is not None:
                real = spans.mask[row]
                starts, ends = spans.starts[real], spans.ends[real]
                logits[row, real] = example.teacher_logits[starts, ends - starts].float()
                taught[row] = real
        return logits, taught
