import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import training.cards.quality
from model import SMNER, Recognizer
from model.checkpoint import CHECKSUM_FILE, load_model
from model.weights import WEIGHTS_FILE
from tests.training.learning.tiny_runs import logged, part_of, small
from tests.training.tiny_run import BY_HEART
from training.data.errors import DatasetError
from training.data.sources import DataSource
from training.learning.run import RunResult, train
from training.learning.trainer import SMNERTrainer
from training.recipes.recipe import Recipe
from training.scoring.prediction import predict_scored
from training.scoring.scores import ScoredPredictions

CHECKPOINT_FILES = {
    "config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "preprocessor_config.json",
    "README.md", "reliability.png", "training.json",
}  # fmt: skip


def test_a_run_learns_eight_posts_by_heart(overfitted: tuple[RunResult, DataSource]) -> None:
    result, _ = overfitted
    assert result.f1["eight"] > 0.9
    assert next(entry["eval_f1"] for entry in logged(result.checkpoint) if "eval_f1" in entry) < 0.5


def test_the_checkpoint_answers_as_the_trainer_measured(overfitted: tuple[RunResult, DataSource]) -> None:
    """Recognizer reads raw text and image files, the trainer words and cached features."""
    result, source = overfitted
    recognizer = Recognizer.from_pretrained(result.checkpoint, device="cpu")
    posts = source.read("valid")
    answers = recognizer.recognize_batch([" ".join(post.words) for post in posts], [post.image for post in posts])
    gold = [[(post.mention(entity), entity.type) for entity in post.entities or ()] for post in posts]
    found = [[(entity.word.lower(), entity.entity_group) for entity in own] for own in answers]
    right = sum(len(set(a) & set(b)) for a, b in zip(gold, found, strict=True))
    f1 = 2 * right / (sum(map(len, gold)) + sum(map(len, found)))
    assert f1 == pytest.approx(result.f1["eight"])


def test_scores_are_written_to_file_and_card(overfitted: tuple[RunResult, DataSource]) -> None:
    result, _ = overfitted
    scores = json.loads((result.checkpoint / "run" / "scores.json").read_text("utf-8"))
    assert scores["eight"]["f1"] == result.f1["eight"]
    assert scores["eight"]["support"] == 16
    card = (result.checkpoint / "README.md").read_text("utf-8")
    assert "| eight | 8 | 4 |" in card  # posts, and those with a photo


def test_run_folder_has_recipe_data_and_metrics(overfitted: tuple[RunResult, DataSource], recipe: Recipe) -> None:
    run = overfitted[0].checkpoint / "run"
    record = json.loads((run / "recipe.json").read_text("utf-8"))
    assert Recipe(**record["recipe"]) == small(recipe, **BY_HEART)
    assert record["versions"]["torch"] == torch.__version__.partition("+")[0]
    assert record["data"].keys() == {"eight train", "eight valid", "eight images"}
    assert list((run / "checkpoints").rglob("events.out.tfevents.*"))


def test_scores_and_losses_are_logged_each_epoch(overfitted: tuple[RunResult, DataSource]) -> None:
    """However few steps it has."""
    entries = logged(overfitted[0].checkpoint)
    epochs = list(range(1, BY_HEART["epochs"] + 1))
    assert [entry["epoch"] for entry in entries if "eval_f1" in entry] == epochs
    assert [entry["epoch"] for entry in entries if entry.keys() >= {"loss", "loss_spans", "info_nce"}] == epochs


def test_checkpoint_loads_without_the_run_folder(overfitted: tuple[RunResult, DataSource], tmp_path: Path) -> None:
    """Real feature caches take gigabytes; leaving them behind must not break the checkpoint."""
    for name in [*CHECKPOINT_FILES, CHECKSUM_FILE]:
        shutil.copy(overfitted[0].checkpoint / name, tmp_path)
    Recognizer.from_pretrained(tmp_path, device="cpu")


def test_the_final_weights_are_the_best_epochs(overfitted: tuple[RunResult, DataSource]) -> None:
    checkpoint, last = overfitted[0].checkpoint, 2 * BY_HEART["epochs"]
    state = json.loads((checkpoint / f"run/checkpoints/checkpoint-{last}/trainer_state.json").read_text("utf-8"))
    assert not state["best_model_checkpoint"].endswith(f"-{last}")
    stored, kept = load_file(checkpoint / WEIGHTS_FILE), load_file(Path(state["best_model_checkpoint"], WEIGHTS_FILE))
    assert {f"network.{name}" for name in stored} == kept.keys()
    assert all(torch.equal(stored[name], kept[f"network.{name}"]) for name in stored)


def test_half_precision_is_measured_as_stored(
    recipe: Recipe, source: DataSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured: list[dict[str, torch.Tensor]] = []

    def keep_weights(model: SMNER, *arguments: Any, **options: Any) -> ScoredPredictions:
        measured.append({name: tensor.clone() for name, tensor in model.state_dict().items()})
        return predict_scored(model, *arguments, **options)

    monkeypatch.setattr(training.cards.quality, "predict_scored", keep_weights)
    train(small(recipe, weight_format="float16"), [source], tmp_path / "run")
    stored = load_file(tmp_path / "run" / WEIGHTS_FILE)
    assert {tensor.dtype for tensor in stored.values() if tensor.is_floating_point()} == {torch.float16}
    loaded = load_model(tmp_path / "run").state_dict()
    assert {tensor.dtype for tensor in loaded.values() if tensor.is_floating_point()} == {torch.float32}
    assert all(torch.equal(loaded[name], tensor) for name, tensor in measured[0].items())


def test_the_weight_of_no_entity_can_be_undone(recipe: Recipe, source: DataSource, tmp_path: Path) -> None:
    """A weight of 1/4 makes the log-odds of "no entity" ln 4 too low."""
    weighted = small(recipe, max_steps=1, no_entity_weight=0.25, weight_format="float32")
    for undo in (False, True):
        train(weighted.model_copy(update={"undo_no_entity_weight": undo}), [source], tmp_path / str(undo))
    kept, undone = (load_model(tmp_path / str(undo)).classifier.state_dict() for undo in (False, True))
    bias = max(name for name in kept if name.endswith("bias"))
    shift = torch.tensor([math.log(4), *[0.0] * (len(kept[bias]) - 1)])
    torch.testing.assert_close(undone.pop(bias), kept.pop(bias) + shift)
    assert all(torch.equal(undone[name], kept[name]) for name in kept)


def test_seed_decides_the_weights(recipe: Recipe, source: DataSource, tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        train(small(recipe, max_steps=2, seed=seed), [source], tmp_path / name)
    a, b, c = (load_file(tmp_path / name / WEIGHTS_FILE) for name in "abc")
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert not torch.equal(a["image_projection.weight"], c["image_projection.weight"])


def test_without_valid_data_the_last_epoch_is_kept(recipe: Recipe, source: DataSource, tmp_path: Path) -> None:
    (source.path / "valid.txt").unlink()
    result = train(recipe, [source], tmp_path / "run")
    assert result.f1 == {}
    assert Recognizer.from_pretrained(tmp_path / "run", device="cpu").recognize("hi") is not None


def test_the_recipe_says_which_trackers_are_reported_to(recipe: Recipe, source: DataSource, tmp_path: Path) -> None:
    train(small(recipe, max_steps=1, report_to=None), [source], tmp_path / "run")
    assert not list(tmp_path.rglob("events.out.tfevents.*"))


def test_weights_that_are_no_numbers_are_not_stored(recipe: Recipe, source: DataSource, tmp_path: Path) -> None:
    """The loss is logged as NaN; Trainer would replace it with the mean so far."""
    with pytest.raises(ValueError, match="the training has diverged"):
        train(small(recipe, epochs=1, head_learning_rate=1e38, warmup=0), [source], tmp_path / "run")
    assert not (tmp_path / "run" / WEIGHTS_FILE).exists()
    assert [entry["loss"] != entry["loss"] for entry in logged(tmp_path / "run") if "loss" in entry] == [True]


def test_two_sources_of_one_name_are_told_apart(
    recipe: Recipe, write_dataset: Callable[[Path], DataSource], tmp_path: Path
) -> None:
    sources = [write_dataset(tmp_path / place / "eight") for place in ("a", "b")]
    result = train(small(recipe, max_steps=1), sources, tmp_path / "run")
    assert result.f1.keys() == {"eight-0", "eight-1"}


@pytest.mark.parametrize("changes", [{"use_cmib": False}, {"use_cma": False}, {"use_cmib": False, "use_cma": False}])
def test_the_ablations_train(recipe: Recipe, source: DataSource, tmp_path: Path, changes: dict[str, bool]) -> None:
    train(small(recipe, max_steps=2, **changes), [source], tmp_path / "run")
    Recognizer.from_pretrained(tmp_path / "run", device="cpu").recognize("hi")


def test_too_long_post_is_named_before_encoding(recipe: Recipe, source: DataSource, tmp_path: Path) -> None:
    """The tiny encoder has 128 positions; [CLS] and [SEP] take two, each letter one."""
    path = source.path / "train.txt"
    long = path.read_text("utf-8") + "\nIMGID:long-one\n" + "a\tO\n" * 127
    path.write_text(long, "utf-8")
    line = long.splitlines().index("IMGID:long-one") + 2  # the first word's
    with pytest.raises(DatasetError, match=f"{path}:{line}: post long-one: "):
        train(recipe, [source], tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_split_retweets_changes_training_posts_only(
    recipe: Recipe, source: DataSource, tmp_path: Path, trainers: list[SMNERTrainer]
) -> None:
    for split in ("train", "valid"):
        (source.path / f"{split}.txt").write_text("IMGID:1\nRT\tO\n@nasa\tO\nAnna\tB-PER\n", "utf-8")
    for flag in (True, False):
        train(small(recipe, max_steps=1, split_retweets=flag), [source], tmp_path / f"run-{flag}")
    assert [part_of(trainer, 0).posts[0].words for trainer in trainers] == [
        ("RT", "@", "nasa", "Anna"),
        ("RT", "@nasa", "Anna"),
    ]
    assert [next(iter(trainer.valid_sets.values())).posts[0].words for trainer in trainers] == [
        ("RT", "@nasa", "Anna")
    ] * 2


def test_mistakes_are_found_before_claiming_the_folder(
    recipe: Recipe, source: DataSource, untagged: DataSource, tmp_path: Path
) -> None:
    """Otherwise the folder holds another run and the corrected command is refused."""
    with pytest.raises(FileNotFoundError, match="no recipe 'typo'"):
        train(small(recipe, teacher="typo"), [source, untagged], tmp_path / "run")
    with pytest.raises(ValueError, match="timm has no model called 'nope'"):
        train(small(recipe, image_encoder="timm:nope"), [source], tmp_path / "run")
    twins = tmp_path / "twins.jsonl"
    twins.write_text('{"text": "a", "image": "x/a.png"}\n{"text": "a", "image": "y/a.png"}\n', "utf-8")
    for folder in ("x", "y"):
        (tmp_path / folder).mkdir()
        shutil.copy(source.path / "images" / "0.png", tmp_path / folder / "a.png")
    with pytest.raises(ValueError, match="have the same name, so their features cannot be told apart"):
        train(recipe, [source, DataSource(twins)], tmp_path / "run")
    with pytest.raises(ValueError, match=r"report_to: absent is not installed; installed are .*tensorboard"):
        train(small(recipe, report_to="absent"), [source], tmp_path / "run")
    assert not (tmp_path / "run").exists()
