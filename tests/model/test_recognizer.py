import random
import re
from dataclasses import replace
from io import BytesIO
from itertools import chain, pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import load_file

from model import Entity, Recognizer
from model.device import has_bfloat16
from model.errors import NotFinite, UnsupportedImage
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
Images = list[Image.Image | bytes | None]


@pytest.fixture
def images(image: Image.Image, jpeg: bytes) -> Images:
    return [image, None, jpeg, image, image.rotate(90), None, jpeg]


def same(left: list[Entity], right: list[Entity]) -> bool:
    """The same entities, with scores within 1e-4."""
    places = [[(entity.entity_group, entity.word, entity.start, entity.end) for entity in one] for one in (left, right)]
    scores = [pytest.approx(entity.score, abs=1e-4) for entity in right]
    return places[0] == places[1] and [entity.score for entity in left] == scores


POSTS = st.text(max_size=60) | st.lists(
    st.sampled_from([TEXTS[0], TEXTS[4], TEXTS[5], " ", "\x01", "\xa0"]), max_size=2
).map("".join)


@given(text=POSTS)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_an_entitys_word_is_a_text_slice(recognizer: Recognizer, text: str) -> None:
    for entity in recognizer.recognize(text):
        assert entity.word
        assert text[entity.start : entity.end] == entity.word
        assert 0 < entity.score <= 1
        assert entity.entity_group in ("PER", "LOC", "ORG", "MISC")


def test_the_tiny_network_finds_entities(recognizer: Recognizer, images: Images) -> None:
    """Without them, the tests in this file would compare nothing."""
    assert sum(map(len, recognizer.recognize_batch(TEXTS, images))) >= 10


@pytest.mark.parametrize("batch_size", [1, 2, 3, 16])
def test_a_batch_gives_each_posts_own_answer(recognizer: Recognizer, images: Images, batch_size: int) -> None:
    alone = [recognizer.recognize(text, image) for text, image in zip(TEXTS, images, strict=True)]
    recognizer.batch_size = batch_size
    together = recognizer.recognize_batch(TEXTS, images)
    assert all(map(same, together, alone))


@pytest.mark.parametrize("order", range(5))
def test_neighbors_do_not_change_an_answer(recognizer: Recognizer, images: Images, order: int) -> None:
    posts = list(zip(TEXTS, images, strict=True))
    alone = [recognizer.recognize(*post) for post in posts]
    chosen = random.Random(order).choices(range(len(posts)), k=6)
    answers = recognizer.run([recognizer.prepare(*posts[i]) for i in chosen])
    assert all(same(answer, alone[i]) for i, answer in zip(chosen, answers, strict=True))


def test_a_loaded_recognizer_gives_the_same_answers(
    recognizer: Recognizer, tiny_checkpoint: Path, images: Images
) -> None:
    """Its image encoder is folded, which in bfloat16 rounds elsewhere."""
    recognizer = Recognizer(recognizer.model, recognizer.processor, device="cpu", precision="float32")
    loaded = Recognizer.from_pretrained(tiny_checkpoint, device="cpu", precision="float32", batch_size=2)
    assert loaded.name == "tiny"
    assert len(loaded.revision) == 64
    assert all(map(same, loaded.recognize_batch(TEXTS, images), recognizer.recognize_batch(TEXTS, images)))


def test_a_folded_model_cannot_be_saved(tiny_checkpoint: Path) -> None:
    """Only the folded image encoder stays in memory."""
    model = Recognizer.from_pretrained(tiny_checkpoint, device="cpu").model
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in model.modules())
    with pytest.raises(ValueError, match="folded or rounded for inference"):
        model.save_pretrained(tiny_checkpoint)


def test_an_unfolded_model_can_be_saved(tiny_checkpoint: Path, tmp_path: Path) -> None:
    unchanged = Recognizer.from_pretrained(tiny_checkpoint, device="cpu", precision="float32", fold=False)
    unchanged.model.save_pretrained(tmp_path)
    stored, saved = (load_file(folder / "model.safetensors") for folder in (tiny_checkpoint, tmp_path))
    assert stored.keys() == saved.keys()
    assert all(torch.equal(stored[name].float(), saved[name].float()) for name in stored)


@pytest.mark.skipif(not has_bfloat16(torch.device("cpu")), reason="needs bfloat16")
def test_bfloat16_gives_nearly_the_same_entities(recognizer: Recognizer, images: Images) -> None:
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
    assert recognizer.model.text_encoder.dtype == torch.float32  # it shares the network with the coarse one
    with pytest.raises(ValueError, match="folded or rounded for inference"):
        coarse.model.state_dict()
    differences = [abs(exact[key].score - found[key].score) for key in both]
    assert 1e-4 < max(differences) < 0.05


@pytest.mark.skipif(not has_bfloat16(torch.device("cpu")), reason="needs bfloat16")
def test_auto_encodes_images_alone_in_bfloat16(recognizer: Recognizer, images: Images) -> None:
    exact = Recognizer(recognizer.model, recognizer.processor, device="cpu", precision="float32")
    post = recognizer.prepare("hi", images[0])
    assert post.pixels is not None
    assert [it.encode_images([post.pixels])[0].dtype for it in (recognizer, exact)] == [torch.bfloat16, torch.float32]
    assert recognizer.recognize_batch(TEXTS) == exact.recognize_batch(TEXTS)


@pytest.mark.parametrize("value", [float("inf"), float("nan")])
def test_overflow_is_no_answer_without_entities(recognizer: Recognizer, image: Image.Image, value: float) -> None:
    """Comparisons with NaN are false, so no span was an entity."""
    fine, overflown = recognizer.prepare("Kawhi Leonard"), recognizer.prepare("Kawhi Leonard", image)
    assert overflown.pixels is not None
    features = torch.full_like(recognizer.encode_images([overflown.pixels])[0], value)
    assert recognizer.run([fine])[0]
    with pytest.raises(NotFinite, match="use float32"):
        recognizer.run([fine, replace(overflown, image_features=features)])


def test_answers_keep_the_order_of_the_posts(recognizer: Recognizer) -> None:
    """Batches are sorted by length."""
    recognizer.batch_size = 2
    texts = [f"{'Ab ' * length}end" for length in (20, 1, 15, 3, 9)]
    answers = recognizer.recognize_batch(texts)
    assert all(map(same, answers, [recognizer.recognize(text) for text in texts]))


def test_entities_are_in_order_without_overlap(recognizer: Recognizer) -> None:
    entities = recognizer.recognize(TEXTS[2])
    assert all(left.end <= right.start for left, right in pairwise(entities))


def test_the_image_changes_scores(recognizer: Recognizer, image: Image.Image) -> None:
    with_image, without = recognizer.recognize(TEXTS[0], image), recognizer.recognize(TEXTS[0])
    assert [entity.score for entity in with_image] != [entity.score for entity in without]


def test_bytes_path_and_image_get_the_same_answer(recognizer: Recognizer, image: Image.Image, tmp_path: Path) -> None:
    path = tmp_path / "photo.png"
    image.save(path)
    expected = recognizer.recognize(TEXTS[0], image)
    assert recognizer.recognize(TEXTS[0], path) == expected
    assert recognizer.recognize(TEXTS[0], path.read_bytes()) == expected


@pytest.mark.parametrize("text", ["", " ", "\n\t\xa0\u3000"])
def test_text_without_words_has_no_entities(recognizer: Recognizer, image: Image.Image, text: str) -> None:
    assert recognizer.recognize(text) == []
    assert recognizer.recognize(text, image) == []


def test_no_posts_have_no_answers(recognizer: Recognizer) -> None:
    assert recognizer.recognize_batch([]) == []
    assert recognizer.run([]) == []


def test_images_must_match_texts_in_number(recognizer: Recognizer) -> None:
    with pytest.raises(ValueError, match="2 texts but 1 images"):
        recognizer.recognize_batch(["a", "b"], [None])
    with pytest.raises(ValueError, match="1 texts but 0 images"):
        recognizer.recognize_batch(["a"], [])


def test_an_invalid_post_is_refused(recognizer: Recognizer) -> None:
    with pytest.raises(UnsupportedImage):
        recognizer.recognize("hi", b"no photo")


@pytest.mark.parametrize(("text", "name"), [(None, "NoneType"), (5, "int"), (b"Oslo", "bytes"), (["Oslo"], "list")])
def test_what_is_no_text_is_named(recognizer: Recognizer, text: str, name: str) -> None:
    with pytest.raises(TypeError, match=f"^a text is a str, not {name}$"):
        recognizer.recognize(text)
    with pytest.raises(TypeError, match=rf"^texts\[1\]: a text is a str, not {name}$"):
        recognizer.recognize_batch(["Oslo", text])


@pytest.mark.parametrize(
    ("image", "name"),
    [
        (5, "int"),
        (True, "bool"),
        ([b"a"], "list"),
        (np.zeros((4, 4, 3)), "numpy.ndarray"),
        (torch.zeros(3, 4, 4), "torch.Tensor"),
        (BytesIO, "type"),
    ],
)
def test_what_is_no_image_is_named(recognizer: Recognizer, image: bytes, name: str) -> None:
    message = (
        f"expected a photo as a PIL image, bytes, a path or a file opened for reading bytes, found {re.escape(name)}$"
    )
    with pytest.raises(TypeError, match=f"^{message}"):
        recognizer.recognize("Oslo", image)
    with pytest.raises(TypeError, match=rf"^images\[1\]: {message}"):
        recognizer.recognize_batch(["Oslo", "Rome"], [None, image])


def test_a_file_object_is_read(recognizer: Recognizer, jpeg: bytes) -> None:
    expected = recognizer.recognize(TEXTS[0], jpeg)
    assert recognizer.recognize(TEXTS[0], BytesIO(jpeg)) == expected
    assert recognizer.recognize_batch(TEXTS[:1], [BytesIO(jpeg)]) == [expected]


@pytest.mark.parametrize(
    ("posts", "name"),
    [
        ("Oslo", "str"),
        (b"Oslo", "bytes"),
        ({"Oslo": 1}, "dict"),
        ({"Oslo"}, "set"),
        (5, "int"),
        (None, "NoneType"),
        (BytesIO(b"Oslo"), "_io.BytesIO"),
    ],
)
def test_a_batch_is_a_list(recognizer: Recognizer, posts: list[str], name: str) -> None:
    """A single text was once read as a list of letters."""
    with pytest.raises(TypeError, match=f"^texts is a list with one item for each post, not {name}$"):
        recognizer.recognize_batch(posts)
    if posts is not None:
        with pytest.raises(TypeError, match=f"^images is a list with one item for each post, not {name}$"):
            recognizer.recognize_batch(["Oslo"] * 4, posts)


def test_a_single_image_is_no_list(recognizer: Recognizer, image: Image.Image) -> None:
    with pytest.raises(TypeError, match=r"^images is a list .*, not PIL\.Image\.Image$"):
        recognizer.recognize_batch(["Oslo"], image)  # type: ignore[arg-type]


def test_texts_may_be_any_iterable(recognizer: Recognizer, images: Images) -> None:
    expected = recognizer.recognize_batch(TEXTS, images)
    assert recognizer.recognize_batch(iter(TEXTS), iter(images)) == expected
    assert recognizer.recognize_batch(tuple(TEXTS), tuple(images)) == expected
    assert all(map(same, recognizer.recognize_batch(dict.fromkeys(TEXTS).keys()), recognizer.recognize_batch(TEXTS)))


def test_a_batch_names_its_bad_item(recognizer: Recognizer, tmp_path: Path) -> None:
    """The error keeps its class and attributes."""
    with pytest.raises(UnsupportedImage, match=r"^images\[1\]: the photo is plain text"):
        recognizer.recognize_batch(["Oslo", "Rome"], [None, b"no photo"])
    with pytest.raises(FileNotFoundError, match=r"images\[0\]: No such file .*missing.jpg"):
        recognizer.recognize_batch(["Oslo"], [tmp_path / "missing.jpg"])
    with pytest.raises(UnicodeEncodeError, match=r"images\[0\]: surrogates not allowed"):
        recognizer.recognize_batch(["Oslo"], ["\ud83d"])
    with pytest.raises(ValueError, match=r"^images\[0\]: embedded null byte"):
        recognizer.recognize_batch(["Oslo"], ["\0"])


def test_attention_is_the_spans_mean_over_heads(recognizer: Recognizer, image: Image.Image) -> None:
    """The span is found by its offsets, independently of the decoding."""
    recognizer = Recognizer(recognizer.model, recognizer.processor, device="cpu", precision="float32")
    (entities,) = recognizer.run([recognizer.prepare(TEXTS[0], image)], explain=True)
    with torch.no_grad():
        attentions = recognizer.model(**recognizer.processor(TEXTS[:1], [image]), output_attentions=True).attentions
    words = split_words(TEXTS[0])
    assert entities
    for entity in entities:
        (first,) = (i for i, word in enumerate(words) if word.start == entity.start)
        (last,) = (i for i, word in enumerate(words) if word.end == entity.end)
        place = span_index(first, last, words=len(words), max_width=4)
        assert entity.attention is not None
        assert [len(row) for row in entity.attention.regions] == [2, 2]
        weights = [entity.attention.overall, *chain(*entity.attention.regions)]
        assert weights == pytest.approx(attentions[0, :, place].mean(0).tolist(), abs=5e-5)
        assert sum(weights) == pytest.approx(1, abs=5e-4)
        assert all(round(weight, 4) == weight for weight in weights)


def test_only_posts_with_an_image_have_attention(recognizer: Recognizer, image: Image.Image) -> None:
    posts = [recognizer.prepare(TEXTS[0], image), recognizer.prepare(TEXTS[0])]
    explained, without_image = recognizer.run(posts, explain=True)
    assert all(entity.attention is not None for entity in explained)
    assert all(entity.attention is None for entity in without_image)
    assert all(entity.attention is None for entity in recognizer.run(posts)[0])
    assert same(explained, recognizer.run(posts)[0])
    recognizer.model.cross_modal_attention = None
    assert all(entity.attention is None for entity in recognizer.run(posts, explain=True)[0])


@pytest.mark.parametrize(
    ("batch_size", "error", "message"),
    [
        (0, ValueError, "at least 1, not 0"),
        (-1, ValueError, "at least 1, not -1"),
        (True, TypeError, "an int, not bool"),
        (2.0, TypeError, "an int, not float"),
    ],
)
def test_a_wrong_batch_size_is_refused(
    recognizer: Recognizer, batch_size: int, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        Recognizer(recognizer.model, recognizer.processor, device="cpu", batch_size=batch_size)


def test_scores_use_the_checkpoints_temperature(recognizer: Recognizer) -> None:
    """The entities stay the same; at a high temperature all five classes are nearly equally likely."""
    plain = recognizer.recognize("Kawhi Leonard won it")
    recognizer.model.config.score_temperature = 1000.0
    scaled = recognizer.recognize("Kawhi Leonard won it")
    assert [(e.word, e.entity_group) for e in scaled] == [(e.word, e.entity_group) for e in plain]
    assert [e.score for e in scaled] == pytest.approx([1 / 5] * len(plain), abs=0.01)
    assert plain


def test_padding_images_do_not_change_features(
    recognizer: Recognizer, image: Image.Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded = [recognizer.prepare("hi", turned).pixels for turned in (image, image.rotate(90), image.rotate(180))]
    images = [one for one in decoded if one is not None]
    expected = recognizer.encode_images(images)
    monkeypatch.setattr(recognizer, "image_batch_size", lambda _: 8)
    padded = recognizer.encode_images(images)
    assert len(padded) == len(expected) == 3
    for ours, theirs in zip(padded, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def test_scores_have_four_decimals(recognizer: Recognizer) -> None:
    entities = recognizer.recognize(TEXTS[0])
    assert entities
    assert all(round(entity.score, 4) == entity.score for entity in entities)


def test_explained_entities_have_scores_of_all_types(recognizer: Recognizer) -> None:
    """With or without a photo."""
    (entities,) = recognizer.run([recognizer.prepare(TEXTS[0])], explain=True)
    assert entities
    for entity in entities:
        assert entity.scores is not None
        assert list(entity.scores) == ["PER", "LOC", "ORG", "MISC"]
        assert entity.scores[entity.entity_group] == entity.score == max(entity.scores.values())
        assert sum(entity.scores.values()) < 1  # the rest is that it is none
    assert all(entity.scores is None for entity in recognizer.recognize(TEXTS[0]))


@pytest.mark.parametrize("separator", ["\n", "\r\n", "\u2028", "\n\n"])
def test_no_entity_crosses_a_line_break(recognizer: Recognizer, separator: str) -> None:
    text = separator.join(["Kawhi Leonard won it", "Game of Thrones"] * 20)
    for one in (text, separator.join(["Ab", "Cd", "Ef"])):
        assert all(len(entity.word.splitlines()) == 1 for entity in recognizer.recognize(one))


def test_a_link_is_not_part_of_entities(recognizer: Recognizer) -> None:
    text = "Kawhi paris.fr Leonard http://x.y/z jane@nasa.gov won it all pic.twitter.com/AbC"
    found = [entity.word for entity in recognizer.recognize(text)]
    assert found
    assert not any("." in word for word in found)
    assert recognizer.recognize("http://x.y/z") == []


def test_lines_of_a_long_text_are_read_alone(recognizer: Recognizer) -> None:
    lines = [TEXTS[0], TEXTS[2], "Game of Thrones"] * 10
    alone = recognizer.recognize_batch(lines)
    entities = recognizer.recognize("\n".join(lines))
    starts = [sum(len(line) + 1 for line in lines[:i]) for i in range(len(lines))]
    expected = [
        (e.start + start, e.end + start, e.entity_group) for start, own in zip(starts, alone, strict=True) for e in own
    ]
    assert [(e.start, e.end, e.entity_group) for e in entities] == expected


def test_a_text_of_any_length_is_answered(recognizer: Recognizer, image: Image.Image) -> None:
    text = "Kawhi Leonard won it all with the #Raptors " * 100
    post = recognizer.prepare(text, image)
    assert len(post.windows) > 2 * recognizer.batch_size
    (entities,) = recognizer.run([post], explain=True)
    assert entities[-1].end > len(text) - 60
    assert all(entity.attention is not None for entity in entities)
    assert all(text[entity.start : entity.end] == entity.word for entity in entities)
    assert all(left.end <= right.start for left, right in pairwise(entities))


def test_long_and_short_posts_share_a_batch(recognizer: Recognizer) -> None:
    texts = ["Game of Thrones", TEXTS[2] * 12, "", TEXTS[0]]
    assert all(map(same, recognizer.recognize_batch(texts), [recognizer.recognize(text) for text in texts]))
