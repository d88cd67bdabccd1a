"""Posts to tensors: one processor for training, evaluation and serving.

The processor tokenizes texts (to integers) and decodes images (to pixels); the network encodes both (to vectors).
Notation: B posts, (1 + m, C) image features.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from model.errors import InvalidCheckpoint, TextTooLong
from model.morphs import Morph
from model.preprocessing.compounds import CompoundSplitter
from model.preprocessing.images import MAX_PIXELS, ImageSettings, ImageSource, read_image
from model.preprocessing.words import Word, join_words, split_words

IMAGE_SETTINGS_FILE = "preprocessor_config.json"
_SPLIT_COMPOUNDS = "split_compounds"  # in the tokenizer's configuration
_SURROGATE = re.compile("[\ud800-\udfff]")

Batch = dict[str, Tensor]


@dataclass(frozen=True, slots=True)
class TokenizedText:
    """A text's words and sub-tokens, and for each word its first and last sub-token and its morph."""

    words: list[Word]
    input_ids: list[int]
    word_starts: list[int]
    word_ends: list[int]
    morphs: list[int]


class SMNERProcessor:
    """Tokenizes texts, decodes images and pads both into the batch that :class:`model.SMNER` takes. Thread-safe.

    Args:
        tokenizer: a fast tokenizer; its truncation and padding are switched off.
        image_settings: what the image encoder expects.
        max_tokens: positions of the text encoder; longer texts are refused, never truncated.
        split_compounds: whether the tokenizer sees the parts of a compound as separate words; spans see one word.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerFast,
        image_settings: ImageSettings,
        *,
        max_tokens: int,
        split_compounds: bool = False,
    ) -> None:
        self.tokenizer = tokenizer
        self.image_settings = image_settings
        self.max_tokens = max_tokens
        # transformers sets truncation and padding on every call, which fails with "Already borrowed" when threads share
        # a tokenizer, so we call the backend directly.
        self._backend = tokenizer.backend_tokenizer
        self._backend.no_truncation()
        self._backend.no_padding()
        self._compounds = CompoundSplitter(self._backend.get_vocab()) if split_compounds else None

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> Self:
        """Read the tokenizer and the image settings from a checkpoint folder.

        Raises:
            InvalidCheckpoint: the image settings are malformed.
        """
        path = Path(folder) / IMAGE_SETTINGS_FILE
        try:
            settings = json.loads(path.read_text("utf-8"))
            image_settings = ImageSettings(
                size=settings["size"], mean=tuple(settings["mean"]), deviation=tuple(settings["deviation"])
            )
        except (ValueError, TypeError, KeyError) as error:
            raise InvalidCheckpoint(f"{path}: not image settings: {error!r}") from error
        # not AutoTokenizer, whose classes replace the normalizer that the file defines
        tokenizer = PreTrainedTokenizerFast.from_pretrained(folder, local_files_only=True)
        return cls(
            tokenizer,
            image_settings,
            max_tokens=tokenizer.model_max_length,
            split_compounds=tokenizer.init_kwargs.get(_SPLIT_COMPOUNDS, False),
        )

    def save_pretrained(self, folder: str | Path) -> None:
        """Write what :meth:`from_pretrained` reads."""
        self.tokenizer.model_max_length = self.max_tokens
        self.tokenizer.init_kwargs[_SPLIT_COMPOUNDS] = self._compounds is not None
        self.tokenizer.save_pretrained(folder)
        text = json.dumps(self.image_settings.to_dict(), indent=2)
        (Path(folder) / IMAGE_SETTINGS_FILE).write_text(text + "\n", "utf-8")

    def tokenize(self, text: str) -> TokenizedText:
        """Split raw text into words and these into sub-tokens.

        Raises:
            TextTooLong: the text has more than ``max_tokens`` sub-tokens.
        """
        return self._tokenize(split_words(text))

    def tokenize_words(self, words: Sequence[str]) -> TokenizedText:
        """Tokenize text that is already split, as :meth:`tokenize`; offsets count in ``" ".join(words)``."""
        return self._tokenize(join_words(words))

    def decode_image(self, image: ImageSource, *, max_pixels: int = MAX_PIXELS) -> Tensor:
        """Decode an image to pixels, (3, size, size) uint8; errors as :func:`model.preprocessing.images.read_image`."""
        return read_image(image, size=self.image_settings.size, max_pixels=max_pixels)

    def _tokenize(self, words: list[Word]) -> TokenizedText:
        # the backend accepts no surrogates
        parts, owners = self._split_compounds([_SURROGATE.sub("\ufffd", word.text) for word in words])
        encoding = self._backend.encode(parts, is_pretokenized=True)
        seen = {owners[part] for part in encoding.word_ids if part is not None}
        if len(seen) < len(words):
            # the tokenizer drops control characters and the like, but a word without sub-tokens would have no span
            unknown = self.tokenizer.unk_token
            parts = [part if owner in seen else unknown for part, owner in zip(parts, owners, strict=True)]
            encoding = self._backend.encode(parts, is_pretokenized=True)
        if len(encoding.ids) > self.max_tokens:
            raise TextTooLong(tokens=len(encoding.ids), limit=self.max_tokens)
        starts, ends = [-1] * len(words), [-1] * len(words)
        for position, part in enumerate(encoding.word_ids):
            if part is not None:
                word = owners[part]
                starts[word] = position if starts[word] < 0 else starts[word]
                ends[word] = position
        return TokenizedText(words, encoding.ids, starts, ends, [Morph.of(word.text) for word in words])

    def _split_compounds(self, words: list[str]) -> tuple[list[str], Sequence[int]]:
        """The parts of all words, and for each part the index of its word."""
        if self._compounds is None:
            return words, range(len(words))
        split = [self._compounds.split(word, before=before) for before, word in zip(("", *words), words, strict=False)]
        return [part for parts in split for part in parts], [i for i, parts in enumerate(split) for _ in parts]

    def collate(
        self,
        texts: Sequence[TokenizedText],
        *,
        pixels: Sequence[Tensor | None] | None = None,
        image_features: Sequence[Tensor | None] | None = None,
    ) -> Batch:
        """Pad texts, and decoded images or image features, into one batch.

        Args:
            texts: B texts with at least one word each.
            pixels: each post's decoded image, (3, size, size) uint8, or None.
            image_features: each post's image features, (1 + m, C) float, or None; instead of ``pixels``.

        Returns:
            The keyword arguments of :meth:`model.SMNER.forward`, with image keys only if some post has an image.
        """
        batch = {
            "input_ids": _pad([text.input_ids for text in texts], self.tokenizer.pad_token_id),
            "attention_mask": _pad([[1] * len(text.input_ids) for text in texts]),
            "word_starts": _pad([text.word_starts for text in texts]),
            "word_ends": _pad([text.word_ends for text in texts]),
            "morphs": _pad([text.morphs for text in texts]),
        }
        key, images = ("pixel_values", pixels) if image_features is None else ("image_features", image_features)
        present = [image for image in images or () if image is not None]
        if images and present:
            stacked = torch.stack(present)
            if key == "pixel_values":
                stacked = self.image_settings.normalize(stacked)
            batch["image_mask"] = torch.tensor([image is not None for image in images])
            batch[key] = stacked.new_zeros(len(images), *stacked.shape[1:])
            batch[key][batch["image_mask"]] = stacked
        return batch

    def __call__(self, texts: Sequence[str], images: Sequence[ImageSource | None] | None = None) -> Batch:
        """Turn raw texts and images into a batch, to call :class:`model.SMNER` directly."""
        pixels = [None if image is None else self.decode_image(image) for image in images or ()]
        return self.collate([self.tokenize(text) for text in texts], pixels=pixels or None)


def _pad(rows: Sequence[list[int]], value: int = 0) -> Tensor:
    """Pad rows to the longest with ``value``: (B, longest) int64."""
    longest = max(map(len, rows))
    return torch.tensor([row + [value] * (longest - len(row)) for row in rows], dtype=torch.int64)
