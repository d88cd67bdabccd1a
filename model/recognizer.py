"""Inference: a loaded checkpoint that turns posts into entities."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Self

import torch
from torch import Tensor

from model.argument_checks import as_list, check_batch_size, check_text, naming
from model.checkpoint import checkpoint_folder, load_model, verify_checkpoint
from model.decoding import find_candidates
from model.device import Precision, allow_tf32, choose_arithmetic, choose_device
from model.entities import Answer, Entity
from model.errors import NotFinite
from model.explanations import DECIMALS, explain_candidates
from model.merging import WindowOutput, merge_windows
from model.modeling.image_encoder import fold_for_inference
from model.modeling.smner import SMNER
from model.posts import Post, Row, plan_passes
from model.preprocessing.images import MAX_PIXELS, ImageSource
from model.preprocessing.processor import SMNERProcessor

_ON_CPU = ("segments", "image_mask")  # SMNER.forward asks for their values


class Recognizer:
    """Recognizes named entities in posts. Thread-safe.

    Args:
        model: the network; it is moved to ``device`` and put into evaluation mode, but keeps its weights as they are.
        processor: the processor it was trained with.
        device: ``auto`` (CUDA if available), ``cpu``, ``cuda``, ``cuda:N`` or another that torch was built for.
        precision: of the encoders, see :func:`model.device.choose_arithmetic`. Depending on the batch, scores vary in
            the second decimal with ``bfloat16``, in the third with ``auto`` if there is an image, and in the fifth
            with ``float32``. On CUDA it also decides for the whole process whether TF32 is allowed.
        name, revision: identify the checkpoint.
        batch_size: posts that :meth:`recognize_batch` runs at once.
    """

    def __init__(
        self,
        model: SMNER,
        processor: SMNERProcessor,
        *,
        device: str = "auto",
        precision: Precision = "auto",
        name: str = "smner",
        revision: str = "unknown",
        batch_size: int = 16,
    ) -> None:
        check_batch_size(batch_size)
        self.device = choose_device(device)
        arithmetic = choose_arithmetic(precision, self.device)
        if self.device.type == "cuda":
            allow_tf32(allowed=arithmetic.tf32)
        self.model = model.to(self.device).eval().with_encoders_in(text=arithmetic.text, images=arithmetic.images)
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
        precision: Precision = "auto",
        batch_size: int = 16,
        fold: bool = True,
    ) -> Self:
        """Load a checkpoint.

        Args:
            folder: a folder, or the name of a checkpoint that comes along; ``smner-compact`` by default.
            fold: whether to make the image encoder faster without changing its answers; the model can then no longer
                be saved, as with any precision but float32. See
                :func:`model.modeling.image_encoder.fold_for_inference`.

        Raises:
            InvalidCheckpoint: a file is missing, changed or incompatible; the message names it.
            ValueError: there is no such device, or it lacks the precision.
        """
        choose_arithmetic(precision, choose_device(device))  # fail before the slow loading
        path = checkpoint_folder(folder)
        revision = verify_checkpoint(path)
        model, processor = load_model(path), SMNERProcessor.from_pretrained(path)
        if fold and model.image_encoder is not None:  # on the CPU: GPU convolutions are too coarse to compare
            fold_for_inference(model.image_encoder, size=processor.image_settings.size)
        name = path.resolve().name
        return cls(
            model, processor, device=device, precision=precision, name=name, revision=revision, batch_size=batch_size
        )

    def recognize(self, text: str, image: ImageSource | None = None) -> list[Entity]:
        """Recognize the entities of one post, in text order; a text without words has none.

        A notebook shows them marked in the text.

        Raises:
            InvalidPost: the image cannot be read.
            OSError: the image's path cannot be read.
            TypeError: the text is no text, or the image none of those that are read.
        """
        return self.run([self.prepare(text, image)])[0]

    def recognize_batch(
        self, texts: Iterable[str], images: Iterable[ImageSource | None] | None = None
    ) -> list[list[Entity]]:
        """Recognize the entities of many posts, in their order; each is answered as if it were alone.

        Raises:
            ValueError: ``images`` and ``texts`` differ in length.
            TypeError: ``texts`` or ``images`` is not a list.
            InvalidPost, OSError, TypeError: as :meth:`recognize`; the message begins with the item, like ``texts[1]:``.
        """
        texts = as_list(texts, "texts")
        images = [None] * len(texts) if images is None else as_list(images, "images")
        if len(images) != len(texts):
            raise ValueError(f"{len(texts)} texts but {len(images)} images")
        return self.run_batches(
            [self._prepare_item(i, *post) for i, post in enumerate(zip(texts, images, strict=True))]
        )

    def run_batches(self, posts: Sequence[Post]) -> list[list[Entity]]:
        """Recognize the entities of posts from :meth:`prepare`, in batches of similar length."""
        by_length = sorted(range(len(posts)), key=lambda i: posts[i].tokens)
        answers: list[list[Entity]] = [[] for _ in posts]
        for first in range(0, len(posts), self.batch_size):
            chosen = by_length[first : first + self.batch_size]
            for i, entities in zip(chosen, self.run([posts[i] for i in chosen]), strict=True):
                answers[i] = entities
        return answers

    def prepare(self, text: str, image: ImageSource | None = None, *, max_pixels: int = MAX_PIXELS) -> Post:
        """Tokenize the text and decode the image; errors as for :meth:`recognize`."""
        check_text(text)
        windows = self.processor.tokenize_windows(text)
        pixels = None if image is None else self.processor.decode_image(image, max_pixels=max_pixels)
        return Post(text, windows, pixels)

    def _prepare_item(self, i: int, text: str, image: ImageSource | None) -> Post:
        with naming(f"texts[{i}]"):
            post = self.prepare(text)
        with naming(f"images[{i}]"):
            return post if image is None else replace(post, pixels=self.processor.decode_image(image))

    @torch.inference_mode()
    def encode_images(self, images: Sequence[Tensor]) -> list[Tensor]:
        """Run the image encoder: decoded images (3, size, size) uint8 → features (1 + m, C), on the device."""
        padding = [torch.zeros_like(images[0])] * (self.image_batch_size(len(images)) - len(images))
        stacked = self._copied(torch.stack([*images, *padding]))
        pixels = self.processor.image_settings.normalize(stacked)
        features = self.model.encode_images(pixels.contiguous(memory_format=torch.channels_last))
        return list(features[: len(images)].unbind())

    def image_batch_size(self, images: int) -> int:
        """How many images the encoder runs for ``images``: on CUDA, padded to the next power of two.

        The first batch of each size takes seconds there, probably because cuDNN plans every convolution again
        (docs/lab/serving.md).
        """
        return 1 << (images - 1).bit_length() if self.device.type == "cuda" else images

    @torch.inference_mode()
    def run(self, posts: Sequence[Post], *, explain: bool = False) -> list[list[Entity]]:
        """Recognize the entities of ``posts``, in one pass of the network unless they have many windows.

        Args:
            posts: posts from :meth:`prepare`; all are padded to the longest.
            explain: whether to add the scores of all types to the entities and, in posts with an image, attention.

        Raises:
            NotFinite: a value exceeded the range of the precision.
        """
        features = self._image_features(posts)
        outputs: list[dict[int, WindowOutput]] = [{} for _ in posts]
        for rows in plan_passes(posts):
            found = self._run_pass(rows, [features[row.post] for row in rows], explained=explain)
            for row, output in zip(rows, found, strict=True):
                outputs[row.post][row.number] = output
        return [Answer(post.source, self._entities(post, own)) for post, own in zip(posts, outputs, strict=True)]

    def _run_pass(
        self, rows: Sequence[Row], image_features: Sequence[Tensor | None], *, explained: bool
    ) -> list[WindowOutput]:
        """One pass of the network over windows with their posts' images, (1 + m, C) float each."""
        batch = self.processor.collate([row.window for row in rows], image_features=image_features)
        inputs = {key: tensor if key in _ON_CPU else self._copied(tensor) for key, tensor in batch.items()}
        output = self.model(**inputs, output_attentions=explained)
        candidates = find_candidates(output.logits, output.spans, temperature=self.model.config.score_temperature)
        if not output.logits.isfinite().all():  # asked last, since it waits for the device
            raise NotFinite
        if not explained:
            return [WindowOutput(own, {}) for own in candidates]
        weights = [None] * len(rows) if output.attentions is None else list(output.attentions)
        return [
            WindowOutput(own, explain_candidates(own, logits, None if image is None else weight))
            for own, logits, weight, image in zip(candidates, output.logits, weights, image_features, strict=True)
        ]

    def _copied(self, tensor: Tensor) -> Tensor:
        """Copy to the device; only from pinned memory does CUDA copy while this thread goes on."""
        pinned = tensor.pin_memory() if self.device.type == "cuda" and tensor.device.type == "cpu" else tensor
        return pinned.to(self.device, non_blocking=True)

    def _entities(self, post: Post, outputs: Mapping[int, WindowOutput]) -> list[Entity]:
        config = self.model.config
        entities = []
        for span, start, end, explanation in merge_windows(post.windows, outputs):
            score = max(round(span.score, DECIMALS), 10**-DECIMALS)
            entity = Entity(config.label(span.label), post.source[start:end], start, end, score)
            if explanation is not None:
                scores = explanation.scores(config.entity_types, config.score_temperature)
                entity = replace(entity, attention=explanation.regions(), scores=scores)
            entities.append(entity)
        return entities

    def _image_features(self, posts: Sequence[Post]) -> list[Tensor | None]:
        features = [post.image_features for post in posts]
        new = {i: post.pixels for i, post in enumerate(posts) if post.pixels is not None and features[i] is None}
        if new:
            for i, encoded in zip(new, self.encode_images(list(new.values())), strict=True):
                features[i] = encoded
        return features
