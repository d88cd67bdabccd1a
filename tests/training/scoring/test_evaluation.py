import random
from pathlib import Path

import pytest
import torch
from seqeval.metrics import classification_report

from model import SMNER, Recognizer, SMNERProcessor
from training.data.dataset import Collator, PostDataset
from training.data.posts import LabelledPost, TypedWords
from training.data.readers import read_posts
from training.scoring.evaluation import (
    Predictions,
    Scores,
    mentions,
    predict,
    score,
    score_by_mention,
    score_by_type,
    score_by_width,
)

TYPES = ("PER", "LOC", "ORG", "MISC")


def post(words: str, *entities: tuple[int, int, str], tagged: bool = True) -> LabelledPost:
    typed = tuple(TypedWords(*entity) for entity in entities)
    return LabelledPost(words, tuple(words.split()), typed if tagged else None)


def found(*posts: list[tuple[int, int, str]]) -> Predictions:
    return [tuple(TypedWords(*entity) for entity in own) for own in posts]


def scores(correct: int, predicted: int, gold: int) -> Scores:
    return Scores(correct / predicted, correct / gold, 2 * correct / (predicted + gold), gold)


POSTS = [post("Ann Lee in Rome", (0, 1, "PER"), (3, 3, "LOC")), post("Rome and Oslo", (0, 0, "LOC"), (2, 2, "LOC"))]


def test_precision_recall_and_f1_by_hand() -> None:
    """Of 4 gold entities 2 are found; a third prediction has the wrong end, a fourth and a fifth the wrong type."""
    predicted = found([(0, 0, "PER"), (3, 3, "LOC")], [(0, 0, "LOC"), (2, 2, "ORG"), (1, 1, "ORG")])
    assert score(POSTS, predicted) == Scores(precision=2 / 5, recall=2 / 4, f1=4 / 9, support=4)


def test_everything_right_is_one_and_nothing_right_is_zero() -> None:
    assert score(POSTS, found([(0, 1, "PER"), (3, 3, "LOC")], [(0, 0, "LOC"), (2, 2, "LOC")])) == Scores(1, 1, 1, 4)
    assert score(POSTS, found([(1, 1, "PER")], [])) == Scores(0, 0, 0, 4)


@pytest.mark.parametrize(
    ("posts", "predicted", "support"),
    [([post("a")], found([]), 0), ([post("a")], found([(0, 0, "PER")]), 0), (POSTS, found([], []), 4)],
)
def test_a_score_without_a_denominator_is_zero(posts: list[LabelledPost], predicted: Predictions, support: int) -> None:
    assert score(posts, predicted) == Scores(0.0, 0.0, 0.0, support)


def test_the_same_words_in_another_post_are_another_entity() -> None:
    assert score([post("Rome", (0, 0, "LOC")), post("Rome")], found([], [(0, 0, "LOC")])).f1 == 0


def test_each_type_has_its_own_scores() -> None:
    predicted = found([(0, 1, "PER"), (3, 3, "PER")], [(0, 0, "LOC")])
    by_type = score_by_type(POSTS, predicted, TYPES)
    assert by_type["PER"] == scores(correct=1, predicted=2, gold=1)
    assert by_type["LOC"] == scores(correct=1, predicted=1, gold=3)
    assert by_type["ORG"] == Scores(0, 0, 0, 0)


def test_mentions_seen_in_training_are_scored_apart() -> None:
    """Rome is seen, in whatever casing; Ann Lee and Oslo are not, nor is the wrong guess "and"."""
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


def perturbed(posts: list[LabelledPost], seed: int) -> Predictions:
    """Gold with a fifth dropped, a fifth retyped, a fifth cut at the front, and false alarms between."""
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
def test_scores_on_real_posts_are_seqevals(shared_data: Path, dataset: str) -> None:
    posts = read_posts(shared_data / dataset / "valid.txt")
    predicted = perturbed(posts, seed=1)
    gold_tags = [tags(len(each.words), each.entities or ()) for each in posts]
    found_tags = [tags(len(each.words), own) for each, own in zip(posts, predicted, strict=True)]
    theirs = classification_report(gold_tags, found_tags, output_dict=True)
    ours = score_by_type(posts, predicted, TYPES) | {"micro avg": score(posts, predicted)}
    for name, own in ours.items():
        expected = [theirs[name][key] for key in ("precision", "recall", "f1-score", "support")]
        assert [own.precision, own.recall, own.f1, own.support] == pytest.approx(expected, abs=1e-12)
    assert 0.4 < ours["micro avg"].f1 < 0.9  # the perturbation left something of both kinds


def collator_of(model: SMNER, processor: SMNERProcessor) -> Collator:
    return Collator(processor, model.config.label2id, model.config.max_span_width)


TEXTS = ["Kawhi Leonard won it", "hi", "Game of Thrones in St . Louis", "@ NBA # Raptors 2019 final"]


def test_predictions_are_the_recognizers_in_the_order_of_the_posts(
    recognizer: Recognizer, processor: SMNERProcessor
) -> None:
    dataset = PostDataset([post(text, tagged=False) for text in TEXTS], processor)
    predicted = predict(recognizer.model, dataset, collator_of(recognizer.model, processor), batch_size=2)
    for text, own in zip(TEXTS, predicted, strict=True):
        words = text.split()
        ours = [(" ".join(words[entity.start : entity.end + 1]), entity.type) for entity in own]
        assert ours == [(entity.word, entity.entity_group) for entity in recognizer.recognize(text)]
    assert sum(map(len, predicted)) >= 4


def test_a_gold_entity_wider_than_the_widest_span_is_a_miss(smner: SMNER, processor: SMNERProcessor) -> None:
    """Five words, and the network looks at four: support counts it, nothing can find it."""
    with torch.no_grad():
        for parameter in smner.classifier.parameters():
            parameter.zero_()
        parameter.copy_(torch.tensor([0.0, 9.0, 0.0, 0.0, 0.0]))  # the last bias: every span is a PER
    dataset = PostDataset([post("a b c d e", (0, 4, "PER")), post("a b", (0, 0, "PER"), (1, 1, "PER"))], processor)
    predicted = predict(smner, dataset, collator_of(smner, processor))
    assert score(dataset.posts, predicted) == scores(correct=2, predicted=7, gold=3)


@pytest.mark.parametrize("training", [True, False])
def test_predicting_leaves_the_mode_as_it_was_and_draws_nothing(
    smner: SMNER, processor: SMNERProcessor, training: bool
) -> None:
    dataset = PostDataset([post(text) for text in TEXTS], processor)
    smner.train(training)
    first = predict(smner, dataset, collator_of(smner, processor))
    assert smner.training == training
    assert predict(smner, dataset, collator_of(smner, processor)) == first


def test_no_posts_have_no_predictions(smner: SMNER, processor: SMNERProcessor) -> None:
    assert predict(smner, PostDataset([], processor), collator_of(smner, processor)) == []
