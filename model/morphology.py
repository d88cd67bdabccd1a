"""The shape of a word in its original casing, the input of the morph embedding (reading.md, "morph embedding").

Notation: B posts, T sub-tokens, n words, d width of the text encoder.
"""

from enum import IntEnum

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel


class Morph(IntEnum):
    """Class of a word's shape; ``PADDING`` marks positions behind a post's last word."""

    PADDING = 0
    UPPER = 1
    LOWER = 2
    TITLE = 3
    DIGIT = 4
    OTHER = 5


def morph(word: str) -> Morph:
    """Classify ``word`` by its casing. A single capital letter is upper, not title."""
    if word.isdigit():
        return Morph.DIGIT
    if word.isupper():
        return Morph.UPPER
    if word.islower():
        return Morph.LOWER
    if word.istitle():
        return Morph.TITLE
    return Morph.OTHER


class MorphInputs(nn.Module):
    """What tells an uncased text encoder how a word is written: an embedding of its morph, added to its sub-tokens'.

    Not in the paper, whose morphs reach the spans alone, where the encoder cannot weigh them against the context. It
    starts at zero, so that a pretrained encoder starts as it was trained.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(len(Morph), width, padding_idx=Morph.PADDING)

    def forward(self, embeddings: Tensor, word_starts: Tensor, word_ends: Tensor, morphs: Tensor) -> Tensor:
        """Add to the embeddings of each word's sub-tokens; those outside words (special tokens, padding) stay.

        Args:
            embeddings: (B, T, d) float, of sub-tokens.
            word_starts, word_ends, morphs: (B, n) int64, as :meth:`model.SMNER.forward` takes them.
        """
        position = torch.arange(embeddings.shape[1], device=morphs.device)  # (T,)
        inside = (word_starts[..., None] <= position) & (position <= word_ends[..., None])  # (B, n, T)
        of_token = (inside * morphs[..., None]).amax(1)  # (B, T); words do not share sub-tokens
        added: Tensor = embeddings + self.embedding(of_token)
        return added


def text_inputs(
    encoder: PreTrainedModel,
    morph_inputs: MorphInputs | None,
    input_ids: Tensor,
    word_starts: Tensor,
    word_ends: Tensor,
    morphs: Tensor,
) -> dict[str, Tensor]:
    """What a Hugging Face encoder is called with: its sub-tokens, as embeddings if it is told how words are written."""
    if morph_inputs is None:
        return {"input_ids": input_ids}
    embeddings = encoder.get_input_embeddings()(input_ids)
    return {"inputs_embeds": morph_inputs(embeddings, word_starts, word_ends, morphs)}
