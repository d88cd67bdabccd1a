"""The tokenizer of a text encoder, made fit for split text and for tweets.

What is added lies in the tokenizer's own normaliser, so that a checkpoint's ``tokenizer.json`` has it.
"""

from typing import Any

from tokenizers import Regex, normalizers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

# What stands behind a shortened link's scheme says nothing, and takes a dozen sub-tokens or more to say it.
_URL = Regex(r"https?://\S*")


def load_tokenizer(source: str, *, shorten_urls: bool = False) -> PreTrainedTokenizerFast:
    """The tokenizer of an encoder, made to read each word of a split text as it reads that word behind a space.

    Byte-level tokenizers tell the start of a word by the space before it. RoBERTa's can be told to add one; those that
    come as a bare ``tokenizer.json``, as ModernBERT's does, ignore that.

    Args:
        source: hub id or folder.
        shorten_urls: see :class:`training.recipes.recipe.Recipe`.

    Raises:
        ValueError: there is no fast one.
    """
    tokenizer = AutoTokenizer.from_pretrained(source, add_prefix_space=True)
    if not tokenizer.is_fast:
        raise ValueError(
            f"{source}: {type(tokenizer).__name__} is not a fast tokenizer, and only those say which sub-tokens are a "
            f"word's; of the BERTweets, vinai/bertweet-large has one"
        )
    backend = tokenizer.backend_tokenizer
    own = [] if backend.normalizer is None else [backend.normalizer]
    first: list[Any] = [normalizers.Replace(_URL, "http")] if shorten_urls else []
    reads_alike = backend.encode("a a").ids == backend.encode(["a", "a"], is_pretokenized=True).ids
    last: list[Any] = [] if reads_alike else [normalizers.Prepend(" ")]
    if first or last:
        backend.normalizer = normalizers.Sequence([*first, *own, *last])
    fast: PreTrainedTokenizerFast = tokenizer
    return fast
