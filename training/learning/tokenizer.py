"""Loads the tokenizer of a text encoder so that it reads the words of a split text as it reads running text."""

from tokenizers import normalizers
from transformers import AutoTokenizer, PreTrainedTokenizerFast


def load_tokenizer(source: str) -> PreTrainedTokenizerFast:
    """Load a tokenizer that reads each word of a split text as if a space came before it.

    Byte-level tokenizers mark the start of a word by that space. RoBERTa's can be told to add one; those published as a
    bare ``tokenizer.json``, such as ModernBERT's, ignore that. For them the space goes into the tokenizer's own
    normalizer, so that a checkpoint's ``tokenizer.json`` has it too.

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
