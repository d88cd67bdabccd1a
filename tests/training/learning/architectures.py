"""A tiny random text encoder of each supported architecture, with the kind of tokenizer that it comes with.

Vocabularies are complete here, so each tokenization of WORDS can be checked by hand.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    AutoModel,
    BertConfig,
    BertTokenizerFast,
    DebertaV2Config,
    DebertaV2Tokenizer,
    ModernBertConfig,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaTokenizer,
    XLMRobertaConfig,
    XLMRobertaTokenizer,
)

WORDS = ["Kawhi", "\xa0", "NBA", "😀", "Kawhi"]  # the second, a no-break space, is a token of Twitter-2015
MAX_TOKENS = 128

_SIZE = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}
_LETTERS = [chr(code) for code in range(ord("!"), 127)]

# as byte-level BPE spells bytes: Ġ is the space; no-break space is C2 A0, the emoji is F0 9F 98 80
_MERGES = [("a", "w"), ("h", "i"), ("B", "A"), ("Ġ", "K"), ("Ġ", "N")]
_KAWHI, _NBSP, _NBA, _EMOJI = ["ĠK", "aw", "hi"], ["Ġ", "Â", "ł"], ["ĠN", "BA"], ["Ġ", "ð", "Ł", "ĺ", "Ģ"]
BYTES = [_KAWHI, _NBSP, _NBA, _EMOJI, _KAWHI]


class Architecture(NamedTuple):
    """Builds a tiny encoder; ``pieces`` are the sub-tokens of each of WORDS."""

    tokenizer: Callable[[Path], Any]
    config: Callable[[int], Any]
    pieces: list[list[str]]

    def save(self, folder: Path, *, half: bool = False) -> Any:
        """Write configuration, random weights and tokenizer as published; return the network."""
        tokenizer = self.tokenizer(folder)
        tokenizer.save_pretrained(folder)
        network = AutoModel.from_config(self.config(len(tokenizer)))
        (network.half() if half else network).save_pretrained(folder)
        return network


def _word_piece(folder: Path) -> Any:
    file = folder / "words.txt"
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    file.write_text("\n".join([*special, "ka", "##whi", "nb", *_LETTERS, *(f"##{c}" for c in _LETTERS)]), "utf-8")
    return BertTokenizerFast(str(file), do_lower_case=True)


def _byte_vocabulary(special: list[str]) -> dict[str, int]:
    pieces = [*special, *sorted(pre_tokenizers.ByteLevel.alphabet()), *(left + right for left, right in _MERGES)]
    return {piece: number for number, piece in enumerate(pieces)}


def _roberta(_: Path) -> Any:
    return RobertaTokenizer(vocab=_byte_vocabulary(["<s>", "<pad>", "</s>", "<unk>", "<mask>"]), merges=_MERGES)


def _modern_bert(_: Path) -> Any:
    special = ["[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]"]
    backend = Tokenizer(models.BPE(_byte_vocabulary(special), _MERGES))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.post_processor = processors.TemplateProcessing("[CLS] $A [SEP]", None, [("[CLS]", 1), ("[SEP]", 2)])
    names = {f"{name[1:-1].lower()}_token": name for name in special}
    return PreTrainedTokenizerFast(tokenizer_object=backend, **names)


def _unigram(special: list[str]) -> list[tuple[str, float]]:
    scores = {"▁Ka": -2.0, "whi": -2.0, "▁NBA": -2.0, "▁": -3.0, "😀": -3.0} | dict.fromkeys(_LETTERS, -5.0)
    return [*((name, 0.0) for name in special), *scores.items()]


def _sentence_pieces(unknown: str) -> list[list[str]]:
    return [["▁Ka", "whi"], [unknown], ["▁NBA"], ["▁", "😀"], ["▁Ka", "whi"]]


def _xlm_roberta(_: Path) -> Any:
    return XLMRobertaTokenizer(vocab=_unigram(["<s>", "<pad>", "</s>", "<unk>", "<mask>"]))


def _deberta(_: Path) -> Any:
    return DebertaV2Tokenizer(vocab=_unigram(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]))


def _modern_bert_config(size: int) -> Any:
    """Layers alternate between all positions and the nearest eight."""
    special = {"pad_token_id": 3, "cls_token_id": 1, "sep_token_id": 2, "bos_token_id": 1, "eos_token_id": 2}
    window: dict[str, Any] = {"local_attention": 8, "global_attn_every_n_layers": 2}
    return ModernBertConfig(vocab_size=size, max_position_embeddings=MAX_TOKENS, **special, **window, **_SIZE)


def _deberta_config(size: int) -> Any:
    """Like microsoft/deberta-v3: relative positions only, in buckets that share the content's keys."""
    return DebertaV2Config(
        vocab_size=size,
        max_position_embeddings=MAX_TOKENS,
        relative_attention=True,
        position_buckets=8,
        norm_rel_ebd="layer_norm",
        share_att_key=True,
        pos_att_type=["p2c", "c2p"],
        position_biased_input=False,
        type_vocab_size=0,
        **_SIZE,
    )


# RoBERTa's positions begin after its padding token's id, 1: of 130, 128 remain. vinai/bertweet-large is a RoBERTa
# with RoBERTa's tokenizer (https://github.com/VinAIResearch/BERTweet/issues/42).
ARCHITECTURES = {
    "bert": Architecture(
        _word_piece,
        lambda size: BertConfig(vocab_size=size, max_position_embeddings=MAX_TOKENS, **_SIZE),
        [["ka", "##whi"], ["[UNK]"], ["nb", "##a"], ["[UNK]"], ["ka", "##whi"]],
    ),
    "roberta": Architecture(
        _roberta, lambda size: RobertaConfig(vocab_size=size, max_position_embeddings=2 + MAX_TOKENS, **_SIZE), BYTES
    ),
    "xlm-roberta": Architecture(
        _xlm_roberta,
        lambda size: XLMRobertaConfig(vocab_size=size, max_position_embeddings=2 + MAX_TOKENS, **_SIZE),
        _sentence_pieces("<unk>"),
    ),
    "deberta-v3": Architecture(_deberta, _deberta_config, _sentence_pieces("[UNK]")),
    "modernbert": Architecture(_modern_bert, _modern_bert_config, BYTES),
}
