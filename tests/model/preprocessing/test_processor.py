from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from transformers import BertTokenizerFast

from model import SMNERProcessor
from model.errors import TextTooLong
from model.morphs import Morph
from model.preprocessing.images import ImageSettings
from model.preprocessing.tokenized_text import TokenizedText

POSTS = st.text(max_size=30) | st.lists(
    st.sampled_from(
        ["NBA", "#", " ", "\xa0", "\u200d", "\x01", "\x1f", "\ufe0f", "👩‍👩‍👧", "é", "e\u0301", "[SEP]", "&amp;"]
    ),
    max_size=10,
).map("".join)


def tokens_of(processor: SMNERProcessor, text: TokenizedText) -> list[str]:
    return list(processor.tokenizer.convert_ids_to_tokens(text.input_ids))


def test_words_know_their_first_and_last_sub_token(processor: SMNERProcessor) -> None:
    text = processor.tokenize("ab c")
    assert tokens_of(processor, text) == ["[CLS]", "a", "##b", "c", "[SEP]"]
    assert (text.word_starts, text.word_ends) == ([1, 3], [2, 3])


@given(text=POSTS)
def test_every_word_has_sub_tokens_in_order(processor: SMNERProcessor, text: str) -> None:
    tokenized = processor.tokenize(text)
    position = 1  # after [CLS]
    for start, end in zip(tokenized.word_starts, tokenized.word_ends, strict=True):
        assert position <= start <= end
        position = end + 1
    assert position == len(tokenized.input_ids) - 1  # before [SEP]


@pytest.mark.parametrize("dropped", ["\xa0", "\u3000", "\x01", "\x7f", "\u200d", "\u200b", "\ufeff", "\ufe0f", ""])
def test_a_word_the_tokenizer_drops_becomes_unknown(processor: SMNERProcessor, dropped: str) -> None:
    """Twitter-2015 valid has a token that is a no-break space; without sub-tokens it would have no span."""
    text = processor.tokenize_words(["a", dropped, "b"])
    assert tokens_of(processor, text) == ["[CLS]", "a", "[UNK]", "b", "[SEP]"]
    assert text.word_starts == [1, 2, 3]


def test_a_lone_surrogate_becomes_unknown(processor: SMNERProcessor) -> None:
    r"""JSON can spell one ("\ud83d"); the tokenizer's backend accepts none."""
    assert tokens_of(processor, processor.tokenize("a \ud83d b")) == ["[CLS]", "a", "[UNK]", "b", "[SEP]"]


def test_special_tokens_in_a_post_are_text(processor: SMNERProcessor) -> None:
    ids = processor.tokenize("a [SEP] b [CLS] [PAD] [MASK]").input_ids
    special = {processor.tokenizer.sep_token_id, processor.tokenizer.cls_token_id, processor.tokenizer.pad_token_id}
    assert [place for place, i in enumerate(ids) if i in special] == [0, len(ids) - 1]


def test_text_longer_than_max_tokens_is_refused(processor: SMNERProcessor) -> None:
    """126 words of one sub-token, [CLS] and [SEP] just fit."""
    assert len(processor.tokenize("a " * 126).input_ids) == processor.max_tokens == 128
    with pytest.raises(TextTooLong, match="129 sub-tokens, the model reads at most 128") as caught:
        processor.tokenize("a " * 127)
    assert (caught.value.tokens, caught.value.limit, caught.value.code) == (129, 128, "text_too_long")


def test_morphs_show_the_original_casing(processor: SMNERProcessor) -> None:
    """The tokenizer lower-cases."""
    text = processor.tokenize("NBA Nba nba nBa 23")
    assert text.input_ids[1:4] == text.input_ids[4:7] == text.input_ids[7:10] == text.input_ids[10:13]
    assert text.morphs == [Morph.UPPER, Morph.TITLE, Morph.LOWER, Morph.OTHER, Morph.DIGIT]


def test_split_text_is_not_split_again(processor: SMNERProcessor) -> None:
    text = processor.tokenize_words(["#NBA", "10,000"])
    assert [word[:3] for word in text.words] == [("#NBA", 0, 4), ("10,000", 5, 11)]
    assert (text.word_starts, text.word_ends) == ([1, 5], [4, 10])


def test_text_without_words_is_cls_and_sep(processor: SMNERProcessor) -> None:
    text = processor.tokenize(" \n\xa0")
    assert (text.words, len(text.input_ids)) == ([], 2)


def test_the_processor_is_thread_safe(processor: SMNERProcessor) -> None:
    """Setting truncation on a shared tokenizer once failed with "Already borrowed"."""
    texts = [f"#NBA {'ab ' * (i % 40)} \u200d {i} 👍🏽" for i in range(800)]
    alone = [processor.tokenize(text) for text in texts]
    with ThreadPoolExecutor(16) as pool:
        assert list(pool.map(processor.tokenize, texts)) == alone


def test_texts_are_padded_to_the_longest(processor: SMNERProcessor) -> None:
    batch = processor(["ab C", "d"])
    pad = processor.tokenizer.pad_token_id
    assert batch["input_ids"].shape == (2, 5)
    assert batch["input_ids"][1, 3:].tolist() == [pad, pad]
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]]
    assert batch["word_starts"].tolist() == [[1, 3], [1, 0]]
    assert batch["word_ends"].tolist() == [[2, 3], [1, 0]]
    assert batch["segments"].tolist() == [[1, 1], [1, 0]]
    assert batch["morphs"].tolist() == [[Morph.LOWER, Morph.UPPER], [Morph.LOWER, Morph.PADDING]]


@pytest.mark.parametrize("images", [None, [None, None]])
def test_a_batch_without_images_has_no_image_keys(processor: SMNERProcessor, images: list[None] | None) -> None:
    assert not {"image_mask", "pixel_values", "image_features"} & processor(["a", "b"], images).keys()


def test_pixels_are_in_the_rows_of_their_posts(processor: SMNERProcessor, image: Image.Image) -> None:
    batch = processor(["a", "b", "c"], [None, image, None])
    assert batch["image_mask"].tolist() == [False, True, False]
    assert torch.equal(batch["pixel_values"][1], processor.image_settings.normalize(processor.decode_image(image)))
    assert batch["pixel_values"][[0, 2]].eq(0).all()


def test_features_are_in_the_rows_of_their_posts(processor: SMNERProcessor) -> None:
    features = torch.randn(5, 24)
    batch = processor.collate([processor.tokenize(text) for text in "ab"], image_features=[features, None])
    assert torch.equal(batch["image_features"], torch.stack([features, torch.zeros(5, 24)]))
    assert batch["image_mask"].tolist() == [True, False]


def test_a_saved_processor_tokenizes_the_same(processor: SMNERProcessor, tmp_path: Path) -> None:
    processor.save_pretrained(tmp_path)
    loaded = SMNERProcessor.from_pretrained(tmp_path)
    assert (loaded.image_settings, loaded.max_tokens) == (processor.image_settings, processor.max_tokens)
    text = "RT @NBA_1: can't \u200d wait 👩‍👩‍👧 É"
    assert loaded.tokenize(text) == processor.tokenize(text)


def test_truncation_and_padding_are_switched_off(tokenizer: BertTokenizerFast) -> None:
    tokenizer.backend_tokenizer.enable_truncation(4)
    tokenizer.backend_tokenizer.enable_padding(length=64)
    processor = SMNERProcessor(tokenizer, ImageSettings(), max_tokens=128)
    assert len(processor.tokenize("a b c d e").input_ids) == 7


def test_a_segment_is_a_line_without_links(processor: SMNERProcessor) -> None:
    text = processor.tokenize("a b\nc http://x.y/z d")
    assert text.segments == [1, 1, 2, 0, 3]
    assert not processor.tokenize("http://x.y/z").may_have_entities


def test_the_network_sees_line_breaks(processor: SMNERProcessor) -> None:
    """As one sign between the words, which belongs to none."""
    text = processor.tokenize("a b\n\nc")
    assert [tokens_of(processor, text)[i] for i in (1, 2, 4)] == ["a", "b", "c"]
    assert (text.word_starts, text.word_ends, len(text.input_ids)) == ([1, 2, 4], [1, 2, 4], 6)
