"""Loads a text encoder's tokenizer so that it reads pre-split words as it reads running text."""

from tokenizers import normalizers
from transformers import AutoTokenizer, PreTrainedTokenizerFast


def load_tokenizer(source: str) -> PreTrainedTokenizerFast:
    """Load a tokenizer that reads each pre-split word as if a space preceded it.

    Byte-level tokenizers mark the start of a word with that space. RoBERTa's has an option that adds it; those
    published as a bare ``tokenizer.json``, such as ModernBERT's, ignore the option. Their own normalizer adds the space
    instead, so a checkpoint's ``tokenizer.json`` keeps it.

    Args:
        source: hub id or folder.

    Raises:
        ValueError: the source has no fast tokenizer.
    """
    tokenizer = AutoTokenizer.from_pretrained(source, add_prefix_space=True)
    if not tokenizer.is_fast:
        raise ValueError(
            f"{source}: {type(tokenizer).__name__} is not a fast tokenizer, and only fast ones map sub-tokens to "
            f"words; among the BERTweets, vinai/bertweet-large has one"
        )
    backend = tokenizer.backend_tokenizer
    if backend.encode("a a").ids != backend.encode(["a", "a"], is_pretokenized=True).ids:
        own = [] if backend.normalizer is None else [backend.normalizer]
        backend.normalizer = normalizers.Sequence([*own, normalizers.Prepend(" ")])
    fast: PreTrainedTokenizerFast = tokenizer
    return fast
