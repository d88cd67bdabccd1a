"""Posts to tensors: one processor for training, evaluation and serving.

The processor tokenizes texts (to integers) and decodes images (to pixels); the network encodes both (to vectors).
Notation: B posts, (1 + m, C) image features.
"""

import json
import re
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, Self

import torch
from huggingface_hub import snapshot_download
from torch import Tensor
from transformers import PreTrainedTokenizerFast
from transformers.utils import PushToHubMixin

from model.errors import InvalidCheckpoint, TextTooLong
from model.morphs import Morph
from model.preprocessing.compounds import CompoundSplitter
from model.preprocessing.images import MAX_PIXELS, ImageSettings, ImageSource, read_image
from model.preprocessing.tokenized_text import TokenizedText, number_segments
from model.preprocessing.windows import WINDOW_TOKENS, split_windows
from model.preprocessing.words import Word, join_words, split_words

IMAGE_SETTINGS_FILE = "preprocessor_config.json"
_SPLIT_COMPOUNDS = "split_compounds"  # in the tokenizer's configuration
# What the network sees of a line break. It knows the sign from posts of a single line, which separate titles by it.
_LINE_BREAK = "|"
_SURROGATE = re.compile("[\ud800-\udfff]")

Batch = dict[str, Tensor]


class SMNERProcessor(PushToHubMixin):
    """Tokenizes texts, decodes images and pads both into the batch that :class:`model.SMNER` takes. Thread-safe.

    Args:
        tokenizer: a fast tokenizer; its truncation and padding are switched off.
        image_settings: what the image encoder expects.
        max_tokens: positions of the text encoder; longer texts are refused or read in windows, never truncated.
        split_compounds: whether the tokenizer sees the parts of a compound as separate words; spans see one word.
        window_tokens: size of the windows in which longer texts are read.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerFast,
        image_settings: ImageSettings,
        *,
        max_tokens: int,
        split_compounds: bool = False,
        window_tokens: int = WINDOW_TOKENS,
    ) -> None:
        self.tokenizer = tokenizer
        self.image_settings = image_settings
        self.max_tokens = max_tokens
        self.window_tokens = min(window_tokens, max_tokens)
        # transformers sets truncation and padding on every call, which fails with "Already borrowed" when threads share
        # a tokenizer, so we call the backend directly.
        self._backend = tokenizer.backend_tokenizer
        self._backend.no_truncation()
        self._backend.no_padding()
        self._compounds = CompoundSplitter(self._backend.get_vocab()) if split_compounds else None

    @classmethod
    def from_pretrained(cls, name: str | Path, *, revision: str | None = None) -> Self:
        """Read the tokenizer and the image settings from a checkpoint's folder, or from its repository on the hub.

        Raises:
            InvalidCheckpoint: the image settings are malformed.
            OSError: there is neither a folder nor a repository of this name.
        """
        folder = Path(name)
        if not folder.is_dir():
            folder = Path(snapshot_download(str(name), revision=revision, allow_patterns=["*.json"]))
        path = folder / IMAGE_SETTINGS_FILE
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

    def save_pretrained(self, folder: str | Path, **_: Any) -> None:
        """Write what :meth:`from_pretrained` reads; ``push_to_hub`` has options for weights, which are ignored."""
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
        return self._checked(self._tokenize(split_words(text)))

    def tokenize_words(self, words: Sequence[str], line_starts: Collection[int] = ()) -> TokenizedText:
        """Tokenize text that is already split, as :meth:`tokenize`; offsets count in ``" ".join(words)``.

        ``line_starts`` are the positions of words that begin a new line.
        """
        return self._checked(self._tokenize(join_words(words, line_starts)))

    def tokenize_windows(self, text: str) -> list[TokenizedText]:
        """Tokenize raw text of any length, in windows if it has more than ``max_tokens`` sub-tokens."""
        whole = self._tokenize(split_words(text))
        return [whole] if len(whole.input_ids) <= self.max_tokens else split_windows(whole, self.window_tokens)

    def decode_image(self, image: ImageSource, *, max_pixels: int = MAX_PIXELS) -> Tensor:
        """Decode an image to pixels, (3, size, size) uint8; errors as :func:`model.preprocessing.images.read_image`."""
        return read_image(image, size=self.image_settings.size, max_pixels=max_pixels)

    def _tokenize(self, words: list[Word]) -> TokenizedText:
        parts, owners = self._parts(words)
        encoding = self._backend.encode(parts, is_pretokenized=True)
        seen = {owners[part] for part in encoding.word_ids if part is not None}
        if not seen.issuperset(range(len(words))):
            # the tokenizer drops control characters and the like, but a word without sub-tokens would have no span
            unknown = self.tokenizer.unk_token
            parts = [part if owner in seen else unknown for part, owner in zip(parts, owners, strict=True)]
            encoding = self._backend.encode(parts, is_pretokenized=True)
        starts, ends = [-1] * len(words), [-1] * len(words)
        for position, part in enumerate(encoding.word_ids):
            if part is not None and (word := owners[part]) is not None:
                starts[word] = position if starts[word] < 0 else starts[word]
                ends[word] = position
        morphs: list[int] = [Morph.of(word.visible) for word in words]
        return TokenizedText(words, encoding.ids, starts, ends, morphs, number_segments(words))

    def _parts(self, words: Sequence[Word]) -> tuple[list[str], list[int | None]]:
        """What the tokenizer is to see, and the index of the word that each part is of; line breaks are of none."""
        parts: list[str] = []
        owners: list[int | None] = []
        before = ""
        for index, word in enumerate(words):
            if index and word.line != words[index - 1].line:
                parts.append(_LINE_BREAK)
                owners.append(None)
            text = _SURROGATE.sub("\ufffd", word.visible)  # the backend accepts none
            own = [text] if self._compounds is None else self._compounds.split(text, before=before)
            parts += own
            owners += [index] * len(own)
            before = text
        return parts, owners

    def _checked(self, text: TokenizedText) -> TokenizedText:
        if len(text.input_ids) > self.max_tokens:
            raise TextTooLong(tokens=len(text.input_ids), limit=self.max_tokens)
        return text

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
            "segments": _pad([text.segments for text in texts]),
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
