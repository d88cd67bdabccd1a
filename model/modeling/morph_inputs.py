"""Tells an uncased text encoder how each word is written.

Notation: B posts, T sub-tokens, n words, d width of the text encoder.
"""

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from model.morphs import Morph


class MorphInputs(nn.Module):
    """Adds an embedding of each word's morph to its sub-tokens', to tell an uncased encoder its casing.

    Not in the paper, whose morphs reach only the spans, where the encoder cannot weigh them against the context. Starts
    at zero, so that a pretrained encoder is unchanged at first.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(len(Morph), width, padding_idx=Morph.PADDING)

    def forward(self, embeddings: Tensor, word_starts: Tensor, word_ends: Tensor, morphs: Tensor) -> Tensor:
        """Add each word's morph to its sub-tokens' embeddings; special tokens and padding stay unchanged.

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
    """The keyword arguments for a Hugging Face encoder: its sub-tokens, or their embeddings with the morphs added."""
    if morph_inputs is None:
        return {"input_ids": input_ids}
    embeddings = encoder.get_input_embeddings()(input_ids)
    return {"inputs_embeds": morph_inputs(embeddings, word_starts, word_ends, morphs).to(embeddings.dtype)}
