from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from transformers import TrainerCallback

from model import SMNER
from training.data.dataset import Collator, Example, PostDataset
from training.data.posts import LabeledPost, TypedWords
from training.data.sampler import GroupedSampler
from training.data.sources import DataSource
from training.learning.network import build
from training.learning.objective import Objective
from training.learning.trainer import SMNERTrainer
from training.recipes.recipe import Recipe

TYPES = ["PER", "LOC"]
Make = Callable[..., SMNERTrainer]


@pytest.fixture
def make(recipe: Recipe, source: DataSource, tmp_path: Path) -> Make:
    """A trainer for the eight posts with changes to the recipe; four posts have images, decoded each time."""

    def trainer(*, valid: list[LabeledPost] | None = None, **changes: Any) -> SMNERTrainer:
        changed = recipe.model_copy(update=changes)
        model, processor = build(changed, TYPES)
        collator = Collator(processor, model.config.label2id, changed.max_span_width)
        return SMNERTrainer(
            Objective.of(model, changed),
            changed,
            collator,
            train={"eight": PostDataset(source.read("train"), processor, decode_images=True)},
            valid={"eight": PostDataset(valid, processor)} if valid else {},
            output=tmp_path / "checkpoints",
        )

    return trainer


def groups(trainer: SMNERTrainer) -> dict[str, tuple[float, float]]:
    """Learning rate and decay of each trained parameter."""
    optimizer = trainer.create_optimizer()
    names = {id(parameter): name for name, parameter in trainer.network.named_parameters()}
    return {
        names[id(parameter)]: (group["lr"], group["weight_decay"])
        for group in optimizer.param_groups
        for parameter in group["params"]
    }


RATES = {
    "encoder_learning_rate": 1e-3,
    "image_encoder_learning_rate": 2e-3,
    "head_learning_rate": 3e-3,
    "weight_decay": 0.1,
}


def test_learning_rates_of_encoders_and_heads(make: Make) -> None:
    own = groups(make(**RATES, fine_tune_image_encoder=True))
    parts = {"text_encoder": 1e-3, "image_encoder": 2e-3}
    assert {name: rate for name, (rate, _) in own.items()} == {
        name: parts.get(name.partition(".")[0], 3e-3) for name in own
    }
    assert own["bottleneck.image_posterior.head.weight"] == (3e-3, 0.1)
    assert own["image_projection.weight"] == (3e-3, 0.1)


@pytest.mark.skipif(torch.cuda.is_available(), reason="the GPU decides")
@pytest.mark.parametrize("there", [True, False])
def test_bfloat16_is_used_only_where_supported(
    make: Make, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], there: bool
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": there, "cpu_name": "bf16"})
    assert make(bf16=True).args.bf16 is there
    assert ("cpu has no bfloat16, so this trains in float32" in capsys.readouterr().out) is not there
    assert not make(bf16=False).args.bf16


def test_optimizer_has_every_trained_parameter_once(make: Make) -> None:
    trainer = make()
    trained = {name for name, parameter in trainer.network.named_parameters() if parameter.requires_grad}
    assert groups(trainer).keys() == trained
    assert not any(name.startswith("image_encoder.") for name in trained)


@pytest.mark.parametrize("norm", [nn.LayerNorm, nn.BatchNorm2d])
def test_biases_and_norms_do_not_decay(make: Make, norm: type[nn.Module]) -> None:
    trainer = make(**RATES, fine_tune_image_encoder=True)
    own, modules = groups(trainer), dict(trainer.network.named_modules())
    spared = [
        name for name in own
        if name.endswith("bias") or isinstance(modules[name.rpartition(".")[0]], norm)
    ]  # fmt: skip
    assert len(spared) > 20
    assert {name: own[name][1] for name in spared if own[name][1] != 0} == {}
    assert own["classifier.layers.1.weight"][1] == 0.1


def test_accumulated_batches_step_with_their_mean_gradient(make: Make) -> None:
    """Eight posts in batches of two are two steps of two batches each; nothing is random."""
    trainer = make(
        epochs=1, batch_size=2, gradient_accumulation=2, image_dropout=0.0, use_cmib=False, head_learning_rate=0.0
    )
    trainer.args.max_grad_norm = 0.0  # no clipping
    for module in trainer.model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    examples = [trainer.train_sets["eight"][i] for i in trainer._get_train_sampler()]
    losses = [trainer.compute_loss(trainer.model.train(), trainer.collator(examples[at : at + 2])) for at in (0, 2)]
    weight = trainer.network.classifier.layers[-1].weight
    (expected,) = torch.autograd.grad(sum(losses) / 2, weight)
    seen: list[torch.Tensor] = []

    class Watch(TrainerCallback):
        def on_pre_optimizer_step(self, *_: Any, **__: Any) -> None:
            seen.append(weight.grad.clone())

    trainer.add_callback(Watch())
    trainer.train()
    assert trainer.state.global_step == len(seen) == 2
    torch.testing.assert_close(seen[0], expected)


def test_each_term_of_the_loss_is_logged(make: Make) -> None:
    trainer = make(epochs=1)
    trainer.train()
    (logged,) = [entry for entry in trainer.state.log_history if "loss" in entry]
    assert logged.keys() >= {"loss", "loss_spans", "info_nce", "kl", "rank", "learning_rate", "grad_norm"}
    assert 1 <= logged["rank"] <= 4  # among a batch of four
    assert logged["loss_spans"] < logged["loss"]


def test_each_epoch_has_its_own_order(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = make(epochs=4, seed=3)
    seen: list[int] = []
    read = PostDataset.__getitem__

    def read_and_remember(dataset: PostDataset, index: int) -> Example:
        seen.append(index)
        return read(dataset, index)

    monkeypatch.setattr(PostDataset, "__getitem__", read_and_remember)
    trainer.train()
    sampler = GroupedSampler(
        [trainer.train_sets["eight"].length(i) for i in range(8)], [True, False] * 4, batch_size=4, seed=3
    )
    for epoch in range(4):
        sampler.set_epoch(epoch)
        assert seen[8 * epoch : 8 * epoch + 8] == list(sampler)
    assert len(seen) == 32


def test_learning_rate_warms_up_and_decays(make: Make) -> None:
    """20 steps with a warm-up of 0.1: two steps up, eighteen down."""
    trainer = make(epochs=10, head_learning_rate=1.0, warmup=0.1)
    rates: list[float] = []

    class Watch(TrainerCallback):
        def on_step_begin(self, *_: Any, optimizer: torch.optim.Optimizer, **__: Any) -> None:
            rates.append(max(group["lr"] for group in optimizer.param_groups))

    trainer.add_callback(Watch())
    trainer.train()
    assert rates == pytest.approx([0, 0.5, *(k / 18 for k in range(18, 0, -1))])


def test_evaluation_is_f1_per_split_and_mean(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    post = LabeledPost("1", ("Ann", "ran"), (TypedWords(0, 0, "PER"),))
    trainer = make(valid=[post])
    trainer.valid_sets = dict.fromkeys("ab", trainer.valid_sets["eight"])
    answers = iter([[(TypedWords(0, 0, "PER"),)], [(TypedWords(1, 1, "PER"),)]])
    monkeypatch.setattr("training.learning.trainer.predict", lambda *_, **__: next(answers))
    metrics = trainer.evaluate()
    assert (metrics["eval_a_f1"], metrics["eval_b_f1"], metrics["eval_f1"]) == (1.0, 0.0, 0.5)


def test_early_stopping_after_patience(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = make(valid=[LabeledPost("1", ("Ann",), (TypedWords(0, 0, "PER"),))], epochs=20, patience=2)
    nothing, right = (), (TypedWords(0, 0, "PER"),)
    answers = iter([nothing, nothing, nothing, *[right] * 17])
    monkeypatch.setattr("training.learning.trainer.predict", lambda *_, **__: [next(answers)])
    trainer.train()
    assert trainer.state.epoch == 6  # three without entities, one with F1 1, and two no better


def test_best_epochs_network_is_kept(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = make(valid=[LabeledPost("1", ("Ann",), (TypedWords(0, 0, "PER"),))], epochs=4, patience=0)
    right, nothing = [(TypedWords(0, 0, "PER"),)], [()]
    answers, weights = iter([nothing, right, nothing, nothing]), []

    def predict(model: SMNER, *_: Any, **__: Any) -> Any:
        weights.append(model.image_projection.weight.detach().clone())
        return next(answers)

    monkeypatch.setattr("training.learning.trainer.predict", predict)
    trainer.train()
    kept = trainer.network.image_projection.weight
    assert [torch.equal(kept, own) for own in weights] == [False, True, False, False]
