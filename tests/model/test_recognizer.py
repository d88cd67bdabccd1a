import random
from itertools import chain, pairwise
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import load_file

from model import Entity, Recognizer
from model.device import has_bfloat16
from model.errors import TextTooLong, UnsupportedImage
from model.modeling.spans import span_index
from model.preprocessing.words import split_words

TEXTS = [
    "Kawhi Leonard won it all with the #Raptors 👍🏽",
    "hi",
    "RT @NBA_1: can't wait for the 2nd game in St. Louis, see http://t.co/aB9 !",
    "",
    "e\u0301tat 🇫🇷 \u200d &amp; שָׁלוֹם 10,000",
    "Game of Thrones",
    "a " * 60,
]


@pytest.fixture
def images(image: Image.Image, jpeg: bytes) -> list[Image.Image | bytes | None]:
    return [image, None, jpeg, image, image.rotate(90), None, jpeg]


def same(left: list[Entity], right: list[Entity]) -> bool:
    """The same entities, scores to 1e-4."""

    def places(entities: list[Entity]) -> list[tuple[str, str, int, int]]:
        return [(entity.entity_group, entity.word, entity.start, entity.end) for entity in entities]

    scores = [pytest.approx(entity.score, abs=1e-4) for entity in right]
    return places(left) == places(right) and [entity.score for entity in left] == scores


POSTS = st.text(max_size=60) | st.lists(
    st.sampled_from([TEXTS[0], TEXTS[4], TEXTS[5], " ", "\x01", "\xa0"]), max_size=2
).map("".join)


@given(text=POSTS)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_an_entitys_word_is_the_slice_of_the_text_that_its_offsets_say(recognizer: Recognizer, text: str) -> None:
    for entity in recognizer.recognize(text):
        assert entity.word
        assert text[entity.start : entity.end] == entity.word
        assert 0 < entity.score <= 1
        assert entity.entity_group in ("PER", "LOC", "ORG", "MISC")


def test_the_tiny_network_finds_entities_so_that_these_tests_have_something_to_compare(
    recognizer: Recognizer, images: list[Image.Image | bytes | None]
) -> None:
    assert sum(map(len, recognizer.recognize_batch(TEXTS, images))) >= 10


@pytest.mark.parametrize("batch_size", [1, 2, 3, 16])
def test_a_batch_answers_as_if_each_post_were_asked_alone(
    recognizer: Recognizer, images: list[Image.Image | bytes | None], batch_size: int
) -> None:
    alone = [recognizer.recognize(text, image) for text, image in zip(TEXTS, images, strict=True)]
    recognizer.batch_size = batch_size
    together = recognizer.recognize_batch(TEXTS, images)
    assert all(map(same, together, alone))


@pytest.mark.parametrize("order", range(5))
def test_neighbours_do_not_change_an_answer(
    recognizer: Recognizer, images: list[Image.Image | bytes | None], order: int
) -> None:
    posts = list(zip(TEXTS, images, strict=True))
    alone = [recognizer.recognize(*post) for post in posts]
    chosen = random.Random(order).choices(range(len(posts)), k=6)
    answers = recognizer.run([recognizer.prepare(*posts[i]) for i in chosen])
    assert all(same(answer, alone[i]) for i, answer in zip(chosen, answers, strict=True))


def test_a_saved_and_loaded_recognizer_gives_the_same_answers(
    recognizer: Recognizer, tiny_checkpoint: Path, images: list[Image.Image | bytes | None]
) -> None:
    loaded = Recognizer.from_pretrained(tiny_checkpoint, device="cpu", batch_size=2)
    assert loaded.name == "tiny"
    assert len(loaded.revision) == 64
    assert all(map(same, loaded.recognize_batch(TEXTS, images), recognizer.recognize_batch(TEXTS, images)))


def test_a_loaded_recognizer_keeps_one_image_encoder_which_is_the_folded_one(tiny_checkpoint: Path) -> None:
    model = Recognizer.from_pretrained(tiny_checkpoint, device="cpu").model
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in model.modules())
    with pytest.raises(ValueError, match="folded for inference"):
        model.save_pretrained(tiny_checkpoint)


def test_an_unfolded_one_can_be_saved(tiny_checkpoint: Path, tmp_path: Path) -> None:
    Recognizer.from_pretrained(tiny_checkpoint, device="cpu", fold=False).model.save_pretrained(tmp_path)
    stored, saved = (load_file(folder / "model.safetensors") for folder in (tiny_checkpoint, tmp_path))
    assert stored.keys() == saved.keys()
    assert all(torch.equal(stored[name].float(), saved[name].float()) for name in stored)


@pytest.mark.skipif(not has_bfloat16(torch.device("cpu")), reason="the processor has no bfloat16")
def test_bfloat16_gives_coarser_scores_and_nearly_the_same_entities(
    recognizer: Recognizer, images: list[Image.Image | bytes | None]
) -> None:
    coarse = Recognizer(recognizer.model, recognizer.processor, device="cpu", precision="bfloat16")
    image = recognizer.prepare("hi", images[0]).pixels
    assert image is not None
    assert coarse.encode_images([image])[0].dtype == torch.bfloat16
    exact, found = (
        {(i, e.start, e.end): e for i, answer in enumerate(it.recognize_batch(TEXTS, images)) for e in answer}
        for it in (recognizer, coarse)
    )
    both = exact.keys() & found.keys()
    assert len(both) >= 0.8 * max(len(exact), len(found))
    differences = [abs(exact[key].score - found[key].score) for key in both]
    assert 1e-4 < max(differences) < 0.05


def test_answers_come_in_the_order_of_the_posts_though_batches_are_sorted_by_length(recognizer: Recognizer) -> None:
    recognizer.batch_size = 2
    texts = [f"{'Ab ' * length}end" for length in (20, 1, 15, 3, 9)]
    answers = recognizer.recognize_batch(texts)
    assert all(map(same, answers, [recognizer.recognize(text) for text in texts]))


def test_entities_stand_by_position_without_overlap(recognizer: Recognizer) -> None:
    entities = recognizer.recognize(TEXTS[2])
    assert all(left.end <= right.start for left, right in pairwise(entities))


def test_a_image_matters(recognizer: Recognizer, image: Image.Image) -> None:
    with_image, without = recognizer.recognize(TEXTS[0], image), recognizer.recognize(TEXTS[0])
    assert [entity.score for entity in with_image] != [entity.score for entity in without]


def test_bytes_path_and_image_get_the_same_answer(recognizer: Recognizer, image: Image.Image, tmp_path: Path) -> None:
    path = tmp_path / "photo.png"
    image.save(path)
    expected = recognizer.recognize(TEXTS[0], image)
    assert recognizer.recognize(TEXTS[0], path) == expected
    assert recognizer.recognize(TEXTS[0], path.read_bytes()) == expected


@pytest.mark.parametrize("text", ["", " ", "\n\t\xa0\u3000"])
def test_a_text_without_words_has_no_entities(recognizer: Recognizer, image: Image.Image, text: str) -> None:
    assert recognizer.recognize(text) == []
    assert recognizer.recognize(text, image) == []


def test_no_posts_have_no_answers(recognizer: Recognizer) -> None:
    assert recognizer.recognize_batch([]) == []
    assert recognizer.run([]) == []


def test_as_many_images_as_texts_are_wanted(recognizer: Recognizer) -> None:
    with pytest.raises(ValueError, match="2 texts but 1 images"):
        recognizer.recognize_batch(["a", "b"], [None])
    with pytest.raises(ValueError, match="1 texts but 0 images"):
        recognizer.recognize_batch(["a"], [])


def test_an_invalid_post_is_refused(recognizer: Recognizer) -> None:
    with pytest.raises(TextTooLong, match="202 sub-tokens, the model reads at most 128"):
        recognizer.recognize("a " * 200)
    with pytest.raises(UnsupportedImage):
        recognizer.recognize("hi", b"no photo")


def test_explanations_sum_to_one_over_the_whole_image_and_its_grid(recognizer: Recognizer, image: Image.Image) -> None:
    (entities,) = recognizer.run([recognizer.prepare(TEXTS[0], image)], explain=True)
    assert entities
    for entity in entities:
        assert entity.attention is not None
        assert [len(row) for row in entity.attention.regions] == [2, 2]
        total = entity.attention.overall + sum(map(sum, entity.attention.regions))
        assert total == pytest.approx(1, abs=1e-5)


def test_an_explanation_is_the_mean_over_heads_of_the_entitys_own_span(
    recognizer: Recognizer, image: Image.Image
) -> None:
    """The span is found again by its offsets, independently of the decoding."""
    (entities,) = recognizer.run([recognizer.prepare(TEXTS[0], image)], explain=True)
    with torch.no_grad():
        attentions = recognizer.model(**recognizer.processor(TEXTS[:1], [image]), output_attentions=True).attentions
    words = split_words(TEXTS[0])
    for entity in entities:
        (first,) = (i for i, word in enumerate(words) if word.start == entity.start)
        (last,) = (i for i, word in enumerate(words) if word.end == entity.end)
        place = span_index(first, last, words=len(words), max_width=4)
        assert entity.attention is not None
        shown = [entity.attention.overall, *chain(*entity.attention.regions)]
        assert shown == pytest.approx(attentions[0, :, place].mean(0).tolist(), abs=1e-5)


def test_only_posts_with_a_image_are_explained_and_only_when_asked(recognizer: Recognizer, image: Image.Image) -> None:
    posts = [recognizer.prepare(TEXTS[0], image), recognizer.prepare(TEXTS[0])]
    explained, without_image = recognizer.run(posts, explain=True)
    assert all(entity.attention is not None for entity in explained)
    assert all(entity.attention is None for entity in without_image)
    assert all(entity.attention is None for entity in recognizer.run(posts)[0])


def test_explaining_does_not_change_the_answer(recognizer: Recognizer, image: Image.Image) -> None:
    posts = [recognizer.prepare(TEXTS[2], image)]
    assert same(recognizer.run(posts, explain=True)[0], recognizer.run(posts)[0])


def test_a_batch_size_below_one_is_refused(recognizer: Recognizer) -> None:
    with pytest.raises(ValueError, match="at least 1, not 0"):
        Recognizer(recognizer.model, recognizer.processor, device="cpu", batch_size=0)


def test_scores_are_taken_at_the_checkpoints_temperature(recognizer: Recognizer) -> None:
    """At any temperature the same entities; at a high one the five classes come close to each other."""
    plain = recognizer.recognize("Kawhi Leonard won it")
    recognizer.model.config.score_temperature = 1000.0
    heated = recognizer.recognize("Kawhi Leonard won it")
    assert [(e.word, e.entity_group) for e in heated] == [(e.word, e.entity_group) for e in plain]
    assert [e.score for e in heated] == pytest.approx([1 / 5] * len(plain), abs=0.01)
    assert plain


def test_images_that_fill_up_a_batch_change_nothing(
    recognizer: Recognizer, image: Image.Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded = [recognizer.prepare("hi", turned).pixels for turned in (image, image.rotate(90), image.rotate(180))]
    images = [one for one in decoded if one is not None]
    expected = recognizer.encode_images(images)
    monkeypatch.setattr(recognizer, "image_batch_size", lambda _: 8)
    given = recognizer.encode_images(images)
    assert len(given) == len(expected) == 3
    for ours, theirs in zip(given, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
