"""The one door for inference: a loaded checkpoint that turns posts into entities."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import torch
from torch import Tensor

from model.checkpoint import embedded_checkpoint, load_model, verify_checkpoint
from model.decoding import TypedSpan, decode
from model.device import Precision, check_precision, choose_device
from model.entities import Attention, Entity
from model.modeling.image_encoder import fold_for_inference
from model.modeling.smner import SMNER
from model.preprocessing.images import MAX_PIXELS, ImageSource
from model.preprocessing.processor import EncodedText, SMNERProcessor


@dataclass(frozen=True, slots=True)
class Post:
    """A post ready for the network.

    Attributes:
        source: the text as it came.
        text: its words and sub-tokens.
        pixels: the decoded image, (3, size, size) uint8, or
        image_features: what the image encoder has made of it, (1 + m, C) float; both None without a photo.
    """

    source: str
    text: EncodedText
    pixels: Tensor | None = None
    image_features: Tensor | None = None

    @property
    def has_image(self) -> bool:
        """Whether the post has a photo, decoded or encoded."""
        return self.pixels is not None or self.image_features is not None


class Recognizer:
    """Recognises named entities in posts.

    May be used from several threads at the same time.

    Args:
        model: the network, moved to ``device`` and put into evaluation mode.
        processor: the one it was trained with.
        device: ``auto`` (CUDA if there is any), ``cpu``, ``cuda`` or ``cuda:N``.
        precision: of matrix products and convolutions; the weights stay float32. With bfloat16 a score depends on the
            batch in its second decimal, with float32 in its fifth.
        name, revision: what the checkpoint is called and which one it is.
        batch_size: posts that :meth:`recognize_batch` runs at once.
    """

    def __init__(
        self,
        model: SMNER,
        processor: SMNERProcessor,
        *,
        device: str = "auto",
        precision: Precision = "float32",
        name: str = "smner",
        revision: str = "unknown",
        batch_size: int = 16,
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, not {batch_size}")
        self.device = choose_device(device)
        check_precision(precision, self.device)
        self.precision = precision
        self.model = model.to(self.device).eval()
        self.processor = processor
        self.name = name
        self.revision = revision
        self.batch_size = batch_size

    @classmethod
    def from_pretrained(
        cls,
        folder: str | Path | None = None,
        *,
        device: str = "auto",
        precision: Precision = "float32",
        batch_size: int = 16,
        fold: bool = True,
    ) -> Self:
        """Load a checkpoint folder, or the embedded one.

        Args:
            fold: whether to make the image encoder faster, with the same answers, at the price that ``model`` cannot be
                saved any more; see :func:`model.modeling.image_encoder.fold_for_inference`.

        Raises:
            InvalidCheckpoint: a file is missing, changed or does not fit; the message names it.
            ValueError: there is no such device, or it lacks the precision.
        """
        check_precision(precision, choose_device(device))  # before the seconds that loading takes
        path = embedded_checkpoint() if folder is None else Path(folder)
        revision = verify_checkpoint(path)
        model, processor = load_model(path), SMNERProcessor.from_pretrained(path)
        if fold and model.image_encoder is not None:  # on the CPU: a GPU's convolutions are too coarse to compare
            fold_for_inference(model.image_encoder, size=processor.image_settings.size)
        return cls(
            model,
            processor,
            device=device,
            precision=precision,
            name=path.resolve().name,
            revision=revision,
            batch_size=batch_size,
        )

    def recognize(self, text: str, image: ImageSource | None = None) -> list[Entity]:
        """Entities of one post, by position; a text without words has none.

        Raises:
            InvalidPost: the text is too long or the photo cannot be read.
        """
        return self.run([self.prepare(text, image)])[0]

    def recognize_batch(
        self, texts: Sequence[str], images: Sequence[ImageSource | None] | None = None
    ) -> list[list[Entity]]:
        """Entities of many posts, in their order; each is the same as if it were asked alone."""
        if images is not None and len(images) != len(texts):
            raise ValueError(f"{len(texts)} texts but {len(images)} images")
        posts = [self.prepare(*post) for post in zip(texts, images or [None] * len(texts), strict=True)]
        by_length = sorted(range(len(posts)), key=lambda i: len(posts[i].text.input_ids))
        answers: list[list[Entity]] = [[] for _ in posts]
        for first in range(0, len(posts), self.batch_size):
            chosen = by_length[first : first + self.batch_size]
            for i, entities in zip(chosen, self.run([posts[i] for i in chosen]), strict=True):
                answers[i] = entities
        return answers

    def prepare(self, text: str, image: ImageSource | None = None, *, max_pixels: int = MAX_PIXELS) -> Post:
        """Split and tokenise the text and decode the photo; raises :class:`model.errors.InvalidPost`."""
        encoded = self.processor.encode_text(text)
        pixels = None if image is None else self.processor.decode_image(image, max_pixels=max_pixels)
        return Post(text, encoded, pixels)

    @torch.inference_mode()
    def encode_images(self, images: Sequence[Tensor]) -> list[Tensor]:
        """Decoded photos, (3, size, size) uint8 each → their features, (1 + m, C) float each, on the device."""
        padding = [torch.zeros_like(images[0])] * (self.image_batch_size(len(images)) - len(images))
        stacked = torch.stack([*images, *padding]).to(self.device)
        pixels = self.processor.image_settings.normalise(stacked).to(self.model.dtype)
        with self._autocast():
            features = self.model.encode_images(pixels.contiguous(memory_format=torch.channels_last))
        return list(features[: len(images)].unbind())

    def image_batch_size(self, images: int) -> int:
        """How many photos the image encoder is given for ``images``; on CUDA the next power of two.

        Batches of a new size took seconds there, most probably since cuDNN plans each convolution for each size anew
        (docs/lab/serving.md).
        """
        return 1 << (images - 1).bit_length() if self.device.type == "cuda" else images

    @torch.inference_mode()
    def run(self, posts: Sequence[Post], *, explain: bool = False) -> list[list[Entity]]:
        """One pass of the network over all of ``posts``.

        Args:
            posts: prepared posts; the longest sets the size of the batch.
            explain: whether entities of posts with a photo tell where they looked.
        """
        answers: list[list[Entity]] = [[] for _ in posts]
        worded = [i for i, post in enumerate(posts) if post.text.words]
        if not worded:
            return answers
        batch = self.processor.collate(
            [posts[i].text for i in worded], image_features=self._image_features([posts[i] for i in worded])
        )
        inputs = {key: tensor.to(self.device) for key, tensor in batch.items()}
        with self._autocast():
            output = self.model(**inputs, output_attentions=explain)
        decoded = decode(output.logits, output.spans, temperature=self.model.config.score_temperature)
        for row, (i, found) in enumerate(zip(worded, decoded, strict=True)):
            looked = output.attentions if explain and posts[i].has_image else None
            answers[i] = [_entity(posts[i], span, self.model.config.label(span.label), looked, row) for span in found]
        return answers

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bfloat16")

    def _image_features(self, posts: Sequence[Post]) -> list[Tensor | None]:
        features = [post.image_features for post in posts]
        unseen = [i for i, post in enumerate(posts) if post.pixels is not None and post.image_features is None]
        if unseen:
            pixels = [own for i in unseen if (own := posts[i].pixels) is not None]
            for i, encoded in zip(unseen, self.encode_images(pixels), strict=True):
                features[i] = encoded
        return features


def _entity(post: Post, span: TypedSpan, label: str, attentions: Tensor | None, row: int) -> Entity:
    start, end = post.text.words[span.start].start, post.text.words[span.end].end
    attention = None if attentions is None else _attention(attentions[row, :, span.index])
    return Entity(label, post.source[start:end], start, end, span.score, attention)


def _attention(weights: Tensor) -> Attention:
    """(heads, 1 + m) → the mean over heads, regions as a square grid."""
    mean = weights.mean(0)
    side = round((len(mean) - 1) ** 0.5)
    return Attention(float(mean[0]), mean[1:].view(side, side).tolist())
