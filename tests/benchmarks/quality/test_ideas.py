from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from transformers import set_seed

from model.modeling.spans import enumerate_spans, span_index
from tests.benchmarks.quality.command import COMPARISONS, main
from tests.benchmarks.quality.data import QualityData
from tests.benchmarks.quality.ideas import (
    BASELINE,
    IDEAS,
    SoftenedObjective,
    pretrain_on_tweets,
    smooth_boundaries,
    smooth_labels,
)
from training.learning.encoders import build
from training.learning.trainer import SMNERTrainer
from training.recipes.recipe import Recipe, parse_override
from training.scoring.evaluation import score

SPANS = enumerate_spans(torch.ones(1, 4, dtype=torch.bool), 3)  # four words, up to three a span
NONE, PER, LOC = 0, 1, 2


def place(start: int, end: int) -> int:
    index = span_index(start, end, words=4, max_width=3)
    assert index is not None
    return index


def classes(**entities: int) -> torch.Tensor:
    """One-hot (1, S, 3); ``s1_2=PER`` is a PER of words 1 and 2."""
    labels = torch.zeros(1, len(SPANS.starts), dtype=torch.int64)
    for span, kind in entities.items():
        labels[0, place(*map(int, span[1:].split("_")))] = kind
    return F.one_hot(labels, 3).float()


def test_smoothed_labels_by_hand() -> None:
    """0.06 shared by three classes is 0.02 for each; what was one keeps 0.94 besides."""
    soft = smooth_labels(SPANS, classes(s1_2=PER), share=0.06)
    assert soft[0, place(1, 2)].tolist() == pytest.approx([0.02, 0.96, 0.02])
    assert soft[0, place(0, 0)].tolist() == pytest.approx([0.96, 0.02, 0.02])


def test_smoothed_boundaries_by_hand() -> None:
    """Words 1 to 2 give a quarter of 0.2 each to 0–2, 2–2, 1–1 and 1–3; a span can be two things."""
    soft = smooth_boundaries(SPANS, classes(s1_2=PER), share=0.2)
    assert soft[0, place(1, 2)].tolist() == pytest.approx([0.2, 0.8, 0])
    for near in ((0, 2), (2, 2), (1, 1), (1, 3)):
        assert soft[0, place(*near)].tolist() == pytest.approx([0.95, 0.05, 0])
    assert soft[0, place(2, 3)].tolist() == [1, 0, 0]
    both = smooth_boundaries(SPANS, classes(s1_2=PER, s1_1=LOC), share=0.2)
    assert both[0, place(1, 1)].tolist() == pytest.approx([0.15, 0.05, 0.8])


def test_a_boundary_at_the_edge_of_the_text_has_fewer_neighbours() -> None:
    soft = smooth_boundaries(SPANS, classes(s0_0=LOC), share=0.2)
    assert [place for place, own in enumerate(soft[0, :, LOC].tolist()) if own > 0] == [place(0, 0), place(0, 1)]


def trainer(name: str, recipe: Recipe, data: QualityData, output: Path) -> SMNERTrainer:
    set_seed(0)
    return IDEAS[name].trainer(IDEAS[name].recipe(recipe, 0), data, output)


@pytest.mark.parametrize("name", ["label-smoothing", "boundary-smoothing", "biaffine"])
def test_with_ideas_that_change_the_network_or_its_loss_eight_posts_are_learnt_by_heart(
    name: str, recipe: Recipe, data: QualityData, tmp_path: Path
) -> None:
    own = trainer(name, recipe.model_copy(update={"max_steps": 150, "patience": 0}), data, tmp_path)
    (dataset,) = own.valid.values()
    assert score(dataset.posts, own.entities(dataset)).f1 < 0.6
    own.train()
    assert score(dataset.posts, own.entities(dataset)).f1 > 0.9


def rates(own: SMNERTrainer) -> dict[str, float]:
    """Of the parameters that are trained."""
    names = {id(parameter): name for name, parameter in own.model.named_parameters()}
    groups = own.create_optimizer().param_groups
    return {names[id(parameter)]: group["lr"] for group in groups for parameter in group["params"]}


def test_towards_classes_as_they_are_the_loss_is_the_recipes(recipe: Recipe, data: QualityData, tmp_path: Path) -> None:
    own = trainer(BASELINE, recipe, data, tmp_path)
    batch = own.collator([own.parts[0][i] for i in range(4)])
    labels = batch.pop("labels")
    output = own.model.eval()(**batch)
    softened = SoftenedObjective(**asdict(own.objective), soften=lambda _, classes: classes)
    assert softened(output, labels).total.item() == pytest.approx(own.objective(output, labels).total.item())
    smoothed = SoftenedObjective(**asdict(own.objective), soften=smooth_labels)
    assert smoothed(output, labels).total.item() != pytest.approx(own.objective(output, labels).total.item())


def test_an_idea_is_tried_with_two_passes_a_step_too(recipe: Recipe, data: QualityData, tmp_path: Path) -> None:
    own = trainer(
        "label-smoothing", recipe.model_copy(update={"consistency_weight": 1.0, "max_steps": 2}), data, tmp_path
    )
    own.train()
    assert own.state.global_step == 2


def test_a_biaffine_score_begins_at_zero(recipe: Recipe, data: QualityData, tmp_path: Path) -> None:
    plain, biaffine = (trainer(name, recipe, data, tmp_path) for name in (BASELINE, "biaffine"))
    biaffine.model.load_state_dict(plain.model.state_dict(), strict=False)
    batch = plain.collator.inputs([plain.parts[0][i] for i in range(4)])
    with torch.no_grad():
        expected = plain.model.eval()(**batch).logits
        assert torch.equal(biaffine.model.eval()(**batch).logits, expected)
        torch.nn.init.normal_(biaffine.model.biaffine)
        assert not torch.allclose(biaffine.model(**batch).logits, expected)


def test_a_biaffine_score_is_learnt(recipe: Recipe, data: QualityData, tmp_path: Path) -> None:
    own = trainer("biaffine", recipe.model_copy(update={"max_steps": 2}), data, tmp_path)
    own.train()
    assert own.model.biaffine.abs().max() > 0


def test_layer_wise_decay_slows_the_lower_layers(recipe: Recipe, data: QualityData, tmp_path: Path) -> None:
    """Two layers: the upper one as the recipe says, the lower 0.85 times, the embeddings 0.85² times."""
    plain, decayed = (rates(trainer(name, recipe, data, tmp_path)) for name in (BASELINE, "layer-wise-decay"))
    ratios = {name: rate / plain[name] for name, rate in decayed.items()}
    assert ratios["text_encoder.encoder.layer.1.output.dense.weight"] == 1
    assert ratios["text_encoder.encoder.layer.0.output.dense.weight"] == pytest.approx(0.85)
    assert ratios["text_encoder.embeddings.word_embeddings.weight"] == pytest.approx(0.7225)
    assert {ratio for name, ratio in ratios.items() if not name.startswith("text_encoder")} == {1}


def test_frozen_word_embeddings_alone_are_not_trained(recipe: Recipe, data: QualityData, tmp_path: Path) -> None:
    plain, frozen = (rates(trainer(name, recipe, data, tmp_path)) for name in (BASELINE, "frozen-embeddings"))
    assert plain.keys() - frozen.keys() == {"text_encoder.embeddings.word_embeddings.weight"}


def test_an_encoder_learns_the_tweets_at_hand(recipe: Recipe, data: QualityData, tmp_path: Path) -> None:
    """Before the spans are learnt, which begin with it; the pooler has no part in it."""
    set_seed(0)
    smner, processor = build(recipe, data.types, image_feature_size=data.feature_size)
    before = {name: tensor.clone() for name, tensor in smner.text_encoder.state_dict().items()}
    pretrain_on_tweets(smner.text_encoder, processor, data.train(processor), recipe, tmp_path, epochs=2)
    after = smner.text_encoder.state_dict()
    unchanged = {name for name, tensor in before.items() if torch.equal(tensor, after[name])}
    assert {name for name in unchanged if tensor_is_learnt(name)} == set()
    assert any(name.startswith("pooler") for name in unchanged)


def tensor_is_learnt(name: str) -> bool:
    return not name.startswith(("pooler", "embeddings.position_ids", "embeddings.token_type_ids"))


def test_the_teachers_tags_are_left_out_but_for_the_idea_to_have_them(
    recipe: Recipe, data: QualityData, tmp_path: Path
) -> None:
    """Here the last two of the eight training posts are as a teacher has tagged them."""
    taught = replace(data, gold=[data.gold[0][:-2]])
    plain, teachers = (trainer(name, recipe, taught, tmp_path) for name in (BASELINE, "teachers-tags"))
    assert [len(part) for part in (*plain.parts, *teachers.parts)] == [6, 8]
    assert plain.valid.keys() == teachers.valid.keys()


def test_a_source_that_people_have_not_tagged_is_no_hindrance(
    recipe: Recipe, data: QualityData, tmp_path: Path
) -> None:
    twice = replace(data, parts=data.parts * 2, features=data.features * 2, gold=[data.gold[0], []])
    own = trainer(BASELINE, recipe.model_copy(update={"max_steps": 1}), twice, tmp_path)
    own.train()
    assert [len(part) for part in own.parts] == [8, 0]


def test_a_system_of_the_other_comparison_is_refused_before_anything_is_read(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit):
        main(["--compare", "ideas", "--systems", "smner", "biaffine"])
    assert "--systems: no smner among as-it-is, " in capsys.readouterr().err


@pytest.mark.parametrize("name", [name for name, idea in IDEAS.items() if idea.changes])
def test_with_the_settings_of_its_comparison_no_idea_is_what_the_recipe_has_already(name: str) -> None:
    """`compact` has R-Drop and eight epochs by itself."""
    plain = Recipe.load("compact", dict(map(parse_override, COMPARISONS["ideas"].settings)))
    assert IDEAS[name].recipe(plain, 0) != IDEAS[BASELINE].recipe(plain, 0)
