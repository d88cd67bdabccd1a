"""The model card: what it says, and that nothing in somebody's data can break it."""

import io
from collections.abc import Iterable
from typing import Any

import pytest
from huggingface_hub import ModelCard
from PIL import Image

from model import SMNER
from training.cards.card import card_files, escape_markdown
from training.cards.measurement import Measurement
from training.cards.quality import SplitQuality
from training.cards.record import Source, TrainingRecord
from training.data.posts import LabeledPost, TypedWords
from training.recipes.recipe import Recipe
from training.scoring.scores import ScoredEntity, Scores
from training.scoring.speed import Speed

HALF, THIRD = Scores(0.5, 0.25, 1 / 3, 1324), Scores(0.6, 0.4, 0.48, 7)
SPEED = Speed("a CPU", True, 20, 8.25, 21.5, 16, 312.4)
ANNA = TypedWords(0, 0, "PER")


def quality(posts: Iterable[tuple[str, float]] = [("Anna", 0.9)] * 3) -> SplitQuality:
    """Posts of one word, a person that was found with this score."""
    named = [(LabeledPost("1", (word,), (ANNA,)), (ScoredEntity(ANNA, score),)) for word, score in posts]
    scores = {"as written": HALF, "lower": THIRD, "upper": HALF}
    by_type = {"PER": scores, "LOC": scores}
    return SplitQuality([post for post, _ in named], 2, [found for _, found in named], scores, by_type)


def record(recipe: Recipe, *names: str, **changes: Any) -> TrainingRecord:
    sources = [Source(name=name, posts=3373, images=1899, sha256="ab" * 32) for name in names or ("t17", "posts")]
    return TrainingRecord(**{"recipe": recipe, "sources": sources, "held_out": 500, **changes})


def card(record: TrainingRecord, network: SMNER, **splits: SplitQuality) -> str:
    measured = Measurement(splits, SPEED if splits else None, 61_900_000)
    return card_files(record, network, measured)["README.md"].decode()


def test_the_card_says_what_the_model_is(recipe: Recipe, smner: SMNER) -> None:
    text = card(record(recipe), smner)
    millions = sum(parameter.numel() for parameter in smner.parameters()) / 1e6
    assert "\n# tiny\n" in text
    assert f"with CMIB and CMA: {millions:.1f} million parameters, entity types PER, LOC, ORG, MISC." in text
    assert "image encoder `timm:test_efficientnet`." in text


def test_scores_stand_by_type_and_casing(recipe: Recipe, smner: SMNER) -> None:
    text = card(record(recipe), smner, t17=quality())
    assert "| t17 valid | precision | recall | F1 | F1 lower | F1 upper | entities |" in text
    assert "| all | 0.5000 | 0.2500 | 0.3333 | 0.4800 | 0.3333 | 1324 |" in text
    assert "| PER | 0.5000 | 0.2500 | 0.3333 | 0.4800 | 0.3333 | 1324 |" in text
    assert "3 posts, 2 of them with a photo." in text


def test_examples_are_names_of_several_posts(recipe: Recipe, smner: SMNER) -> None:
    """A name of a single post may be somebody's own."""
    found = [("Anna", 0.9)] * 3 + [("Bob", 0.9)] * 4 + [("Nobody Else", 0.9)] * 2
    text = card(record(recipe), smner, t17=quality(found))
    assert "| PER | people | Bob, Anna |" in text
    assert "| LOC | places |  |" in text
    assert "Nobody" not in text


def test_names_cannot_break_the_tables(recipe: Recipe, smner: SMNER) -> None:
    text = card(record(recipe, "a|b"), smner, t17=quality([("<b>|*\x1b[1m\n#", 0.9)] * 3))
    assert r"| PER | people | \<b\>\|\*␛\[1m \# |" in text
    assert r"| a\|b | 3373 |" in text
    assert escape_markdown("O'Neill & Sons") == r"O'Neill \& Sons"


def test_the_diagram_is_a_small_picture(recipe: Recipe, smner: SMNER) -> None:
    """Three right of three at 0.9: the score is off by 0.1."""
    files = card_files(record(recipe), smner, Measurement({"t17": quality()}, SPEED, 1))
    assert len(files["reliability.png"]) < 40_000
    assert min(Image.open(io.BytesIO(files["reliability.png"])).size) > 400
    text = files["README.md"].decode()
    assert "](reliability.png)" in text
    assert "a score is off by 10.0 points in the mean" in text


def test_without_a_valid_split_nothing_is_measured(recipe: Recipe, smner: SMNER) -> None:
    files = card_files(record(recipe), smner, Measurement({}, None, 1))
    assert files.keys() == {"README.md", "training.json"}
    text = files["README.md"].decode()
    assert "there is no valid split, so the last epoch was kept" in text
    assert "F1" not in text
    assert "fastest" not in text


def test_nothing_found_means_no_diagram(recipe: Recipe, smner: SMNER) -> None:
    nothing = SplitQuality([], 0, [], {"as written": HALF, "lower": HALF, "upper": HALF}, {})
    files = card_files(record(recipe), smner, Measurement({"t17": nothing}, SPEED, 1))
    assert "reliability.png" not in files
    assert "reliability" not in files["README.md"].decode()


def test_size_and_speed_say_how_measured(recipe: Recipe, smner: SMNER) -> None:
    text = card(record(recipe.model_copy(update={"weight_format": "float16"})), smner, t17=quality())
    assert "The weights take 62 MB on disk, in float16" in text
    assert "| on one core, a CPU | |" in text
    assert "| a post without a photo, alone | 8.2 ms |" in text
    assert "| a post with a photo, alone | 21.5 ms |" in text
    assert "| posts without photos, in batches of 16 | 312 a second |" in text
    assert "the fastest of 3 runs, in CPU time. The photo is a JPEG of 1200 × 900 pixels" in text


def test_training_data_and_remarks_are_named(recipe: Recipe, smner: SMNER) -> None:
    text = card(record(recipe, remarks=["Seen by hand."]), smner)
    assert f"| t17 | 3373 | 1899 | `{'ab' * 32}` |" in text
    assert "Seen by hand." in text
    assert "500 posts without tags were kept out of training" in text
    assert "kept out" not in card(record(recipe, held_out=0), smner)


def test_the_card_has_every_key_of_the_recipe(recipe: Recipe, smner: SMNER) -> None:
    text = card(record(recipe), smner)
    assert all(f"| {key} | {value} |" in text for key, value in recipe.model_dump().items())


def test_teacher_and_copies_are_owned_up_to(recipe: Recipe, smner: SMNER) -> None:
    changes = {"teacher": "compact-teacher", "casing_share": 0.1, "undo_no_entity_weight": True}
    taught = card(record(recipe.model_copy(update=changes)), smner)
    assert "`compact-teacher`, reading the text alone, taught the network" in taught
    assert "10% of the posts were also seen in small letters" in taught
    assert "“no entity” is raised by 0.69 after training, which undoes its weight of 0.5 in the loss" in taught
    assert not any(words in card(record(recipe), smner) for words in ("taught", "small letters, as many", "raised by"))


@pytest.mark.parametrize(
    ("cmib", "cma", "words"),
    [(True, False, "with CMIB:"), (False, True, "with CMA:"), (False, False, "with neither CMIB nor CMA:")],
)
def test_an_ablation_is_called_one(recipe: Recipe, smner: SMNER, cmib: bool, cma: bool, words: str) -> None:
    smner.config.use_cmib, smner.config.use_cma = cmib, cma
    assert words in card(record(recipe), smner)


def test_card_mentions_benchmarks_only_for_benchmarks(recipe: Recipe, smner: SMNER) -> None:
    """A model of Dutch invoices was described as one of English tweets of 2014 to 2017."""
    benchmark, other = card(record(recipe, "twitter2017"), smner), card(record(recipe), smner)
    for words in ("language: en\n", "license: apache-2.0", "English posts of 2014 to 2017", "politicians", "@handle"):
        assert words in benchmark
        assert words not in other


def test_the_hub_reads_card_as_written(recipe: Recipe, smner: SMNER) -> None:
    text = card(record(recipe, "twitter2017"), smner, twitter2017=quality())
    assert str(ModelCard(text)) == text
