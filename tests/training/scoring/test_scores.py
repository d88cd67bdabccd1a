import random
from pathlib import Path

import pytest
from seqeval.metrics import classification_report

from training.data.posts import LabeledPost, TypedWords
from training.data.readers import read_posts
from training.scoring.scores import (
    Predictions,
    Scores,
    mentions,
    score,
    score_by_mention,
    score_by_type,
    score_by_width,
)

TYPES = ("PER", "LOC", "ORG", "MISC")


def post(words: str, *entities: tuple[int, int, str], tagged: bool = True) -> LabeledPost:
    typed = tuple(TypedWords(*entity) for entity in entities)
    return LabeledPost(words, tuple(words.split()), typed if tagged else None)


def found(*posts: list[tuple[int, int, str]]) -> Predictions:
    return [tuple(TypedWords(*entity) for entity in own) for own in posts]


def scores(correct: int, predicted: int, gold: int) -> Scores:
    return Scores(correct / predicted, correct / gold, 2 * correct / (predicted + gold), gold)


POSTS = [post("Ann Lee in Rome", (0, 1, "PER"), (3, 3, "LOC")), post("Rome and Oslo", (0, 0, "LOC"), (2, 2, "LOC"))]


def test_precision_recall_f1_by_hand() -> None:
    """Of 4 gold entities 2 are found; a third prediction has the wrong end, a fourth and a fifth the wrong type."""
    predicted = found([(0, 0, "PER"), (3, 3, "LOC")], [(0, 0, "LOC"), (2, 2, "ORG"), (1, 1, "ORG")])
    assert score(POSTS, predicted) == Scores(precision=2 / 5, recall=2 / 4, f1=4 / 9, support=4)


def test_all_right_is_one_and_none_zero() -> None:
    assert score(POSTS, found([(0, 1, "PER"), (3, 3, "LOC")], [(0, 0, "LOC"), (2, 2, "LOC")])) == Scores(1, 1, 1, 4)
    assert score(POSTS, found([(1, 1, "PER")], [])) == Scores(0, 0, 0, 4)


@pytest.mark.parametrize(
    ("posts", "predicted", "support"),
    [([post("a")], found([]), 0), ([post("a")], found([(0, 0, "PER")]), 0), (POSTS, found([], []), 4)],
)
def test_a_score_without_a_denominator_is_zero(posts: list[LabeledPost], predicted: Predictions, support: int) -> None:
    assert score(posts, predicted) == Scores(0.0, 0.0, 0.0, support)


def test_entities_of_different_posts_do_not_match() -> None:
    assert score([post("Rome", (0, 0, "LOC")), post("Rome")], found([], [(0, 0, "LOC")])).f1 == 0


def test_each_type_has_its_own_scores() -> None:
    predicted = found([(0, 1, "PER"), (3, 3, "PER")], [(0, 0, "LOC")])
    by_type = score_by_type(POSTS, predicted, TYPES)
    assert by_type["PER"] == scores(correct=1, predicted=2, gold=1)
    assert by_type["LOC"] == scores(correct=1, predicted=1, gold=3)
    assert by_type["ORG"] == Scores(0, 0, 0, 0)


def test_seen_mentions_are_scored_apart() -> None:
    """Rome is seen, in any case; Ann Lee and Oslo are not, nor is the wrong guess "and"."""
    seen = mentions([post("ROME wins", (0, 0, "ORG")), post("Ann", tagged=False)])
    assert seen == {"rome"}
    predicted = found([(0, 1, "PER")], [(0, 0, "LOC"), (1, 1, "LOC")])
    assert score_by_mention(POSTS, predicted, seen) == (
        scores(correct=1, predicted=1, gold=2),  # of two Romes one is found
        scores(correct=1, predicted=2, gold=2),  # Ann Lee found, Oslo missed
    )


def test_each_width_has_its_own_scores() -> None:
    """Ann Lee is found as Ann: a miss of two words and a false alarm of one; of three single words one is found."""
    predicted = found([(0, 0, "PER"), (3, 3, "LOC")], [(0, 2, "LOC")])
    assert score_by_width(POSTS, predicted) == {
        1: scores(correct=1, predicted=2, gold=3),
        2: Scores(0, 0, 0, 1),
        3: Scores(0, 0, 0, 0),
    }


def perturbed(posts: list[LabeledPost], seed: int) -> Predictions:
    """Gold with a fifth dropped, a fifth retyped, a fifth cut at the front, and false alarms in between."""
    random_ = random.Random(seed)
    predictions: Predictions = []
    for each in posts:
        own, free = [], set(range(len(each.words)))
        for entity in each.entities or ():
            free -= set(range(entity.start, entity.end + 1))
            chance = random_.random()
            if chance < 0.2:
                continue
            changed = entity._replace(type=random_.choice(TYPES)) if chance < 0.4 else entity
            own.append(changed._replace(start=random_.randint(changed.start, changed.end)) if chance > 0.8 else changed)
        own += [TypedWords(i, i, random_.choice(TYPES)) for i in free if random_.random() < 0.02]
        predictions.append(tuple(own))
    return predictions


def tags(words: int, entities: tuple[TypedWords, ...]) -> list[str]:
    """Entities as IOB2 tags."""
    own = ["O"] * words
    for entity in entities:
        own[entity.start : entity.end + 1] = [f"I-{entity.type}"] * (entity.end - entity.start + 1)
        own[entity.start] = f"B-{entity.type}"
    return own


@pytest.mark.parametrize("dataset", ["twitter2015", "twitter2017"])
def test_scores_equal_seqevals_on_real_posts(shared_data: Path, dataset: str) -> None:
    posts = read_posts(shared_data / dataset / "valid.txt")
    predicted = perturbed(posts, seed=1)
    gold_tags = [tags(len(each.words), each.entities or ()) for each in posts]
    found_tags = [tags(len(each.words), own) for each, own in zip(posts, predicted, strict=True)]
    theirs = classification_report(gold_tags, found_tags, output_dict=True)
    ours = score_by_type(posts, predicted, TYPES) | {"micro avg": score(posts, predicted)}
    for name, own in ours.items():
        expected = [theirs[name][key] for key in ("precision", "recall", "f1-score", "support")]
        assert [own.precision, own.recall, own.f1, own.support] == pytest.approx(expected, abs=1e-12)
    assert 0.4 < ours["micro avg"].f1 < 0.9  # the perturbation left some right and some wrong
