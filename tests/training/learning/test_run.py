import json
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import TrainerCallback

import training.learning.images
import training.learning.run
from model import SMNER, Recognizer
from model.checkpoint import CHECKSUM_FILE, WEIGHTS_FILE, load_model
from training.data.dataset import PostDataset
from training.data.errors import DatasetError
from training.data.posts import LabeledPost
from training.data.sources import DataSource
from training.data.training_data import TrainingData, held_out_posts
from training.features.image_features import ImageFeatureFile
from training.learning.run import RunResult, train
from training.learning.trainer import SMNERTrainer
from training.recipes.recipe import Recipe
from training.scoring.prediction import predict
from training.scoring.report import evaluate
from training.scoring.scores import Predictions, Scores

CHECKPOINT_FILES = {
    "config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "preprocessor_config.json",
    "README.md",
}  # fmt: skip


@pytest.fixture
def trainers(monkeypatch: pytest.MonkeyPatch) -> list[SMNERTrainer]:
    """The trainers of the runs of this test, in their order."""
    made: list[SMNERTrainer] = []

    class Kept(SMNERTrainer):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            made.append(self)

    monkeypatch.setattr(training.learning.run, "SMNERTrainer", Kept)
    return made


def part_of(trainer: SMNERTrainer, place: int) -> PostDataset:
    """The training data of a trainer's first, second, … source."""
    return list(trainer.train_sets.values())[place]


class Killed(BaseException):
    """What ends a run from outside."""


@contextmanager
def killed_after_first_epoch() -> Iterator[None]:
    """Runs are killed when their first checkpoint has been written."""

    class Kill(TrainerCallback):
        def on_save(self, *_: Any, **__: Any) -> None:
            raise Killed

    class Doomed(SMNERTrainer):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self.add_callback(Kill())

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training.learning.run, "SMNERTrainer", Doomed)
        yield


@pytest.fixture
def untagged(source: DataSource, tmp_path: Path) -> DataSource:
    """The eight texts without tags, the first four with a photo."""
    records = [{"id": f"u{i}", "tokens": post.words} for i, post in enumerate(source.read("train"))]
    for i, record in enumerate(records[:4]):
        record["image"] = f"eight/images/{2 * i}.png"
    path = tmp_path / "untagged.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records), "utf-8")
    return DataSource(path)


def small(recipe: Recipe, **changes: Any) -> Recipe:
    return recipe.model_copy(update=changes)


def ready_features(
    path: Path, *, width: int, regions: int, encoder: str = "torchvision:resnet152", **more: str
) -> Path:
    """Random features for the posts 0, 2, 4 and 6, with the last region of each masked."""
    mask = torch.ones(4, 1 + regions, dtype=torch.bool)
    mask[:, -1] = False
    metadata = {"image_ids": json.dumps(["0", "2", "4", "6"]), "encoder": encoder, **more}
    save_file({"features": torch.randn(4, 1 + regions, width).half(), "mask": mask}, path, metadata)
    return path


def test_a_run_learns_eight_posts_by_heart(overfitted: tuple[RunResult, DataSource]) -> None:
    result, _ = overfitted
    assert result.f1["eight"] > 0.9
    history = json.loads(next(result.checkpoint.glob("run/checkpoints/*/trainer_state.json")).read_text("utf-8"))[
        "log_history"
    ]
    assert next(entry["eval_f1"] for entry in history if "eval_f1" in entry) < 0.5


def test_the_checkpoint_answers_as_the_trainer_measured(overfitted: tuple[RunResult, DataSource]) -> None:
    """Through the other door: raw text and photo files instead of words and cached features."""
    result, source = overfitted
    recognizer = Recognizer.from_pretrained(result.checkpoint, device="cpu")
    posts = source.read("valid")
    answers = recognizer.recognize_batch([" ".join(post.words) for post in posts], [post.image for post in posts])
    gold = [[(post.mention(entity), entity.type) for entity in post.entities or ()] for post in posts]
    found = [[(entity.word.lower(), entity.entity_group) for entity in own] for own in answers]
    right = sum(len(set(a) & set(b)) for a, b in zip(gold, found, strict=True))
    f1 = 2 * right / (sum(map(len, gold)) + sum(map(len, found)))
    assert f1 == pytest.approx(result.f1["eight"])


def test_its_scores_stand_in_the_scores_file_and_in_the_model_card(overfitted: tuple[RunResult, DataSource]) -> None:
    result, _ = overfitted
    scores = json.loads((result.checkpoint / "run" / "scores.json").read_text("utf-8"))
    assert scores["eight"]["f1"] == result.f1["eight"]
    assert scores["eight"]["support"] == 16
    card = (result.checkpoint / "README.md").read_text("utf-8")
    assert "| eight | 8 | 4 |" in card  # posts, and those with a photo


def test_the_recipe_is_kept_with_the_run(overfitted: tuple[RunResult, DataSource], recipe: Recipe) -> None:
    kept = json.loads((overfitted[0].checkpoint / "run" / "recipe.json").read_text("utf-8"))
    assert Recipe(**kept["recipe"]) == small(recipe, epochs=40, patience=0)


def test_the_checkpoint_is_whole_without_what_the_run_left_beside_it(
    overfitted: tuple[RunResult, DataSource], tmp_path: Path
) -> None:
    """The feature cache is gigabytes with real data; whoever copies or tidies the folder must not break it."""
    for name in [*CHECKPOINT_FILES, CHECKSUM_FILE]:
        shutil.copy(overfitted[0].checkpoint / name, tmp_path)
    Recognizer.from_pretrained(tmp_path, device="cpu")


def test_the_final_weights_are_the_best_epochs(
    recipe: Recipe, source: DataSource, tmp_path: Path, trainers: list[SMNERTrainer]
) -> None:
    train(small(recipe, epochs=3), [source], tmp_path / "run")
    best = trainers[0].state.best_model_checkpoint
    assert best is not None
    stored, kept = load_file(tmp_path / "run" / WEIGHTS_FILE), load_file(Path(best) / WEIGHTS_FILE)
    assert {f"network.{name}" for name in stored} == kept.keys()
    assert all(torch.equal(stored[name], kept[f"network.{name}"]) for name in stored)


def test_half_precision_is_stored_and_what_was_measured_is_what_is_stored(
    recipe: Recipe, source: DataSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured: list[dict[str, torch.Tensor]] = []

    def keep_weights(model: SMNER, *arguments: Any) -> Predictions:
        measured.append({name: tensor.clone() for name, tensor in model.state_dict().items()})
        return predict(model, *arguments)

    monkeypatch.setattr(training.learning.run, "predict", keep_weights)
    train(small(recipe, half_precision=True), [source], tmp_path / "run")
    stored = load_file(tmp_path / "run" / WEIGHTS_FILE)
    assert {tensor.dtype for tensor in stored.values() if tensor.is_floating_point()} == {torch.float16}
    loaded = load_model(tmp_path / "run").state_dict()
    assert {tensor.dtype for tensor in loaded.values() if tensor.is_floating_point()} == {torch.float32}
    assert all(torch.equal(loaded[name], tensor) for name, tensor in measured[0].items())


def test_a_folder_that_is_not_empty_is_refused(recipe: Recipe, source: DataSource, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "precious").write_text("data", "utf-8")
    with pytest.raises(FileExistsError, match=r"run is not empty: choose another folder"):
        train(recipe, [source], tmp_path / "run")
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["precious"]


def test_a_killed_and_resumed_run_ends_as_one_that_was_not(
    recipe: Recipe, source: DataSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Order of posts, dropped photos, dropout, sampled z, optimiser and schedule all go on where they stopped."""
    (source.path / "valid.txt").unlink()  # with it, the first of three equally bad epochs is kept
    longer = small(recipe, epochs=3, image_dropout=0.3)
    train(longer, [source], tmp_path / "whole")
    with killed_after_first_epoch(), pytest.raises(Killed):
        train(longer, [source], tmp_path / "killed")
    assert [path.name for path in (tmp_path / "killed" / "run" / "checkpoints").glob("checkpoint-*")] == [
        "checkpoint-2"
    ]
    assert not (tmp_path / "killed" / WEIGHTS_FILE).exists()

    steps: list[bool] = []
    loss = SMNERTrainer.compute_loss

    def counted_loss(*given: Any, **more: Any) -> Any:
        steps.append(True)
        return loss(*given, **more)

    monkeypatch.setattr(SMNERTrainer, "compute_loss", counted_loss)
    train(longer, [source], tmp_path / "killed", resume=True)
    assert len(steps) == 4  # two epochs of two batches; the first is not run again
    whole, resumed = (load_file(tmp_path / name / WEIGHTS_FILE) for name in ("whole", "killed"))
    assert [name for name in whole if not torch.equal(whole[name], resumed[name])] == []


def test_resuming_what_never_began_begins(recipe: Recipe, source: DataSource, tmp_path: Path) -> None:
    assert train(small(recipe, max_steps=1), [source], tmp_path / "run", resume=True).checkpoint.is_dir()


def test_the_same_seed_gives_the_same_weights_and_another_does_not(
    recipe: Recipe, source: DataSource, tmp_path: Path
) -> None:
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


def test_posts_without_tags_train_the_bottleneck(
    recipe: Recipe, source: DataSource, untagged: DataSource, tmp_path: Path, trainers: list[SMNERTrainer]
) -> None:
    """The tagged posts have no photo here, so all that reaches the posteriors comes from the untagged ones."""
    weights: dict[str, torch.Tensor] = {}
    for name, sources in (("without", [DataSource(source.path)]), ("with", [DataSource(source.path), untagged])):
        train(small(recipe, epochs=1, image_dropout=0), sources, tmp_path / name)
        weights[name] = load_file(tmp_path / name / WEIGHTS_FILE)["bottleneck.image_posterior.head.weight"]
    assert [part.has_image(0) for part in trainers[1].train_sets.values()] == [False, True]
    assert not torch.equal(weights["with"], weights["without"])


def test_untagged_posts_of_a_valid_split_are_not_measured(
    recipe: Recipe, source: DataSource, tmp_path: Path, trainers: list[SMNERTrainer]
) -> None:
    """Nobody knows what is in them: a prediction there is no mistake, as in smner-evaluate."""
    (source.path / "valid.txt").unlink()
    lines = ['{"tokens": ["Rome"], "tags": ["B-LOC"]}', '{"tokens": ["Rome"]}']
    (source.path / "valid.jsonl").write_text("\n".join(lines), "utf-8")
    train(small(recipe, max_steps=1), [source], tmp_path / "run")
    (measured,) = trainers[0].valid_sets.values()
    assert [post.entities is not None for post in measured.posts] == [True]


def test_a_run_does_not_go_on_with_another_recipe(recipe: Recipe, source: DataSource, tmp_path: Path) -> None:
    train(small(recipe, max_steps=1), [source], tmp_path / "run")
    changed = small(recipe, max_steps=1, max_span_width=6)
    with pytest.raises(ValueError, match="began with, but: max_span_width 4 → 6"):
        train(changed, [source], tmp_path / "run", resume=True)


def test_a_run_does_not_go_on_with_other_data(recipe: Recipe, source: DataSource, tmp_path: Path) -> None:
    train(small(recipe, max_steps=1), [source], tmp_path / "run")
    with (source.path / "train.txt").open("a") as file:
        file.write("IMGID:9\nParis\tB-LOC\n\n")
    with pytest.raises(ValueError, match="began with, but: eight "):
        train(small(recipe, max_steps=1), [source], tmp_path / "run", resume=True)


def test_a_run_does_not_go_on_with_other_images(recipe: Recipe, source: DataSource, tmp_path: Path) -> None:
    """Left out, replaced by one of the same size, or gone: each gave other weights without a word."""
    assert source.images is not None
    image, short = source.images / "0.png", small(recipe, max_steps=1)
    train(short, [source], tmp_path / "run")
    before = image.read_bytes()
    with pytest.raises(ValueError, match=r"began with, but: eight images [0-9a-f]{64} → None"):
        train(short, [DataSource(source.path)], tmp_path / "run", resume=True)
    image.write_bytes(bytes([*before[:-1], before[-1] ^ 1]))
    with pytest.raises(ValueError, match="began with, but: eight images "):
        train(short, [source], tmp_path / "run", resume=True)
    image.unlink()
    with pytest.raises(ValueError, match="began with, but: eight images "):
        train(short, [source], tmp_path / "run", resume=True)
    image.write_bytes(before)
    train(short, [source], tmp_path / "run", resume=True)


def test_a_checkpoint_that_was_cut_off_is_passed_over(recipe: Recipe, source: DataSource, tmp_path: Path) -> None:
    """A run killed while the trainer saved could not be resumed, though the checkpoint before was whole."""
    train(small(recipe, max_steps=1), [source], tmp_path / "run")
    (tmp_path / "run" / "run" / "checkpoints" / "checkpoint-2").mkdir()
    train(small(recipe, max_steps=1), [source], tmp_path / "run", resume=True)


def test_a_run_that_could_not_begin_does_not_stand_in_the_way(
    recipe: Recipe, source: DataSource, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="timm has no model called 'nope'"):
        train(small(recipe, image_encoder="timm:nope"), [source], tmp_path / "run")
    train(small(recipe, max_steps=1), [source], tmp_path / "run")


def test_images_beside_foreign_features_are_not_dropped_in_silence(
    recipe: Recipe, source: DataSource, tmp_path: Path
) -> None:
    file = ready_features(tmp_path / "f.safetensors", width=7, regions=3, encoder="foreign")
    with pytest.raises(ValueError, match="would not be used"):
        train(recipe, [DataSource(source.path, image_features=file), source], tmp_path / "run")


def test_an_image_encoder_cannot_be_fine_tuned_on_features(recipe: Recipe, source: DataSource, tmp_path: Path) -> None:
    file = ready_features(tmp_path / "f.safetensors", width=7, regions=3, encoder="foreign")
    with pytest.raises(ValueError, match="fine_tune_image_encoder needs images"):
        train(
            small(recipe, fine_tune_image_encoder=True),
            [DataSource(source.path, image_features=file)],
            tmp_path / "run",
        )


def test_features_of_the_same_encoder_with_other_weights_are_refused(
    recipe: Recipe, source: DataSource, tmp_path: Path
) -> None:
    train(small(recipe, max_steps=1), [source], tmp_path / "first")
    made = tmp_path / "first" / "run" / "image-features-eight.safetensors"
    other = small(recipe, max_steps=1, seed=1)
    with pytest.raises(ValueError, match="with other weights or photo settings"):
        train(other, [DataSource(source.path, image_features=made)], tmp_path / "second")


def test_features_of_another_encoder_are_refused_where_it_can_be_had(
    recipe: Recipe, source: DataSource, tmp_path: Path
) -> None:
    """Made by smner-cache-images with its default; the checkpoint could not be served, since it reads no photos."""
    file = ready_features(tmp_path / "f.safetensors", width=7, regions=3, fingerprint="{}")
    ready = DataSource(source.path, image_features=file)
    with pytest.raises(ValueError, match=r"f\.safetensors: features of torchvision:resnet152, not of timm:test_eff"):
        train(recipe, [ready], tmp_path / "run")
    train(small(recipe, max_steps=1, image_encoder=None), [ready], tmp_path / "run")


def test_the_run_folder_has_what_the_run_was_made_of_and_how_it_went(
    recipe: Recipe, source: DataSource, tmp_path: Path
) -> None:
    train(small(recipe, epochs=25, patience=0), [source], tmp_path / "run")
    run = tmp_path / "run" / "run"
    record = json.loads((run / "recipe.json").read_text("utf-8"))
    assert record["recipe"]["seed"] == 0
    assert record["versions"]["torch"] == torch.__version__.partition("+")[0]
    assert record["data"].keys() == {"eight train", "eight valid", "eight images"}
    logged = [json.loads(line) for line in (run / "metrics.jsonl").read_text("utf-8").splitlines()]
    assert [entry["epoch"] for entry in logged if "eval_f1" in entry] == list(range(1, 26))
    assert any(entry.keys() >= {"loss", "info_nce"} for entry in logged)
    assert list((run / "checkpoints").rglob("events.out.tfevents.*"))


def test_the_recipe_says_which_trackers_are_reported_to(recipe: Recipe, source: DataSource, tmp_path: Path) -> None:
    train(small(recipe, max_steps=1, report_to=None), [source], tmp_path / "run")
    assert not list(tmp_path.rglob("events.out.tfevents.*"))


def test_a_tracker_that_is_not_there_is_refused_before_anything_is_done(
    recipe: Recipe, source: DataSource, tmp_path: Path
) -> None:
    """It was a traceback, after all photos had been encoded."""
    with pytest.raises(ValueError, match=r"report_to: absent is not installed; installed are .*tensorboard"):
        train(small(recipe, report_to="absent"), [source], tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_weights_that_are_no_numbers_are_not_stored(recipe: Recipe, source: DataSource, tmp_path: Path) -> None:
    """And the loss is logged as it is, where Trainer would put the mean so far in its place."""
    with pytest.raises(ValueError, match="the training has diverged"):
        train(small(recipe, epochs=1, head_learning_rate=1e38, warmup=0), [source], tmp_path / "run")
    assert not (tmp_path / "run" / WEIGHTS_FILE).exists()
    logged = [json.loads(line) for line in (tmp_path / "run/run/metrics.jsonl").read_text("utf-8").splitlines()]
    assert [entry["loss"] != entry["loss"] for entry in logged if "loss" in entry] == [True]


def test_the_loss_of_each_epoch_is_logged_however_few_its_steps(
    recipe: Recipe, source: DataSource, tmp_path: Path
) -> None:
    train(recipe, [source], tmp_path / "run")
    logged = [json.loads(line) for line in (tmp_path / "run/run/metrics.jsonl").read_text("utf-8").splitlines()]
    assert [entry["epoch"] for entry in logged if "loss_spans" in entry] == [1, 2]


def test_a_run_does_not_go_on_with_other_image_features(recipe: Recipe, source: DataSource, tmp_path: Path) -> None:
    for i in range(2):
        file = ready_features(tmp_path / "f.safetensors", width=7 + i, regions=3)
        ready, only = DataSource(source.path, image_features=file), small(recipe, max_steps=1)
        if i == 0:
            train(only, [ready], tmp_path / "run")
    with pytest.raises(ValueError, match="began with, but: eight image features "):
        train(only, [ready], tmp_path / "run", resume=True)


def test_lost_images_are_counted_and_listed(
    recipe: Recipe, source: DataSource, tmp_path: Path, capsys: pytest.CaptureFixture[str], trainers: list[SMNERTrainer]
) -> None:
    """Posts 0, 2, 4 and 6 have a photo; 2's breaks, 4's goes, and the four others never had theirs.

    What is said is said of training posts, what is listed is all: valid's one post, 9, has none either.
    """
    assert source.images is not None
    (source.path / "valid.txt").write_text("IMGID:9\nRome\tB-LOC\n", "utf-8")
    (source.images / "2.png").write_bytes(b"\x89PNG")
    (source.images / "4.png").unlink()
    train(small(recipe, max_steps=1), [source], tmp_path / "run")
    file = tmp_path / "run" / "run" / "unusable-images.tsv"
    said = f"eight: 2 training posts have an image; not used: 5 missing, 1 unreadable, listed in {file}\n"
    assert said in capsys.readouterr().out
    header, *rows = [line.split("\t") for line in file.read_text("utf-8").splitlines()]
    assert header == ["source", "post", "reason", "image"]
    unreadable = ["eight", "2", "unreadable", str(source.images / "2.png")]
    assert sorted(rows) == sorted([unreadable, *(["eight", name, "missing", name] for name in "134579")])
    assert [part_of(trainers[0], 0).has_image(i) for i in range(8)] == [True, *[False] * 5, True, False]


def test_posts_without_features_are_listed_too(recipe: Recipe, source: DataSource, tmp_path: Path) -> None:
    file = ready_features(tmp_path / "f.safetensors", width=7, regions=3)
    (source.path / "valid.txt").unlink()
    train(small(recipe, max_steps=1), [DataSource(source.path, image_features=file)], tmp_path / "run")
    rows = (tmp_path / "run" / "run" / "unusable-images.tsv").read_text("utf-8").splitlines()[1:]
    assert rows == [f"eight\t{name}\twithout features\t{name}" for name in "1357"]


def test_held_out_posts_are_the_same_whatever_their_order() -> None:
    posts = [LabeledPost(str(i), ("a",), None) for i in range(100)]
    kept_out = held_out_posts(posts, 10)
    assert len(kept_out) == 10
    assert held_out_posts(reversed(posts), 10) == kept_out[::-1]
    assert [post for post in held_out_posts(posts, 20) if post in kept_out] == kept_out
    assert held_out_posts(posts, 200) == posts


def test_held_out_posts_are_written_down_and_not_trained_on(
    recipe: Recipe, source: DataSource, untagged: DataSource, tmp_path: Path, trainers: list[SMNERTrainer]
) -> None:
    train(small(recipe, max_steps=1, held_out=3), [source, untagged], tmp_path / "run")
    kept_out = (tmp_path / "run" / "run" / "held_out.txt").read_text("utf-8").split()
    assert kept_out == sorted(post.id for post in held_out_posts(untagged.read("train"), 3))
    assert [len(part) for part in trainers[0].train_sets.values()] == [8, 5]
    assert not {post.id for post in part_of(trainers[0], 1).posts} & set(kept_out)


@pytest.fixture
def teacher(recipe: Recipe, tmp_path: Path) -> str:
    """A recipe file for the teacher, which learns the eight posts by heart."""
    keys = small(recipe, epochs=40, patience=0).model_dump(exclude={"name"}, exclude_none=True)
    lines = [f"{key} = {json.dumps(value)}\n" for key, value in keys.items()]
    (tmp_path / "teacher.toml").write_text("".join(lines), "utf-8")
    return str(tmp_path / "teacher.toml")


def test_a_teacher_tags_the_untagged_posts(
    recipe: Recipe, source: DataSource, untagged: DataSource, teacher: str, tmp_path: Path, trainers: list[SMNERTrainer]
) -> None:
    """The untagged posts are the tagged ones' texts, so what it should say is known."""
    train(small(recipe, max_steps=1, held_out=2, teacher=teacher), [source, untagged], tmp_path / "run")
    gold = {post.words: post.entities for post in source.read("train")}
    silver = part_of(trainers[-1], 1).posts
    assert len(silver) == 6
    assert sum(post.entities == gold[post.words] for post in silver) >= 5
    assert [post.entities for post in part_of(trainers[-1], 0).posts] == list(gold.values())
    card = (tmp_path / "run" / "README.md").read_text("utf-8")
    assert "2 of them were kept out of training" in card


def test_the_teacher_sees_no_image_even_where_the_data_name_their_own(
    recipe: Recipe, source: DataSource, untagged: DataSource, teacher: str, tmp_path: Path, trainers: list[SMNERTrainer]
) -> None:
    """Tagged and untagged posts in one file, each naming its photo; the teacher is text-only (design.md)."""
    tagged = {"tokens": ["Anna", "ran"], "tags": ["B-PER", "O"], "image": "eight/images/0.png"}
    with untagged.path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(tagged) + "\n")
    short = teacher.replace("teacher.toml", "short.toml")
    Path(short).write_text(Path(teacher).read_text("utf-8").replace("epochs = 40", "epochs = 1"), "utf-8")
    train(small(recipe, max_steps=1, held_out=2, teacher=short), [untagged], tmp_path / "run")
    assert [part.has_image(i) for part in trainers[0].train_sets.values() for i in range(len(part))].count(True) == 0


def test_a_run_does_not_go_on_with_another_teacher(
    recipe: Recipe, source: DataSource, untagged: DataSource, teacher: str, tmp_path: Path
) -> None:
    """Its tags come from the finished one, whatever the recipe says now."""
    content = Path(teacher).read_text("utf-8").replace("epochs = 40", "epochs = 1")
    Path(teacher).write_text(content, "utf-8")
    taught = small(recipe, max_steps=1, teacher=teacher)
    train(taught, [source, untagged], tmp_path / "run")
    Path(teacher).write_text(content.replace("seed = 0", "seed = 1"), "utf-8")
    with pytest.raises(ValueError, match="began with, but: seed 0 → 1"):
        train(taught, [source, untagged], tmp_path / "run", resume=True)


def test_ready_features_of_a_foreign_width_train_and_evaluate(
    recipe: Recipe, source: DataSource, tmp_path: Path, capsys: pytest.CaptureFixture[str], trainers: list[SMNERTrainer]
) -> None:
    """Seven channels and three regions, one of them masked: the model fits its own projection and has no encoder."""
    features = ready_features(tmp_path / "f.safetensors", width=7, regions=3)
    ready = DataSource(source.path, image_features=features)
    result = train(recipe, [ready], tmp_path / "run")
    assert "will have no image encoder and read ready features" in capsys.readouterr().out
    assert [part_of(trainers[0], 0).has_image(i) for i in range(8)] == [True, False] * 4
    recognizer = Recognizer.from_pretrained(tmp_path / "run", device="cpu")
    assert recognizer.model.image_encoder is None
    assert recognizer.model.image_projection.in_features == 7
    report = evaluate(recognizer, ready, "valid")
    assert report["f1"] == pytest.approx(result.f1["eight"])
    assert report["without_image"] == 4


def test_ready_features_of_the_recipes_encoder_spare_encoding(
    recipe: Recipe, source: DataSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    features = ready_features(tmp_path / "f.safetensors", width=256, regions=25, encoder="timm:test_efficientnet")
    monkeypatch.setattr(training.learning.images, "cache_images", lambda *_: pytest.fail("encoded"))
    train(small(recipe, max_steps=1), [DataSource(source.path, image_features=features)], tmp_path / "run")
    assert Recognizer.from_pretrained(tmp_path / "run", device="cpu").model.image_encoder is not None


@pytest.mark.parametrize("encoders", [("a", "b"), ("a", "timm:test_efficientnet")])
def test_ready_features_of_different_widths_are_refused(
    recipe: Recipe, source: DataSource, tmp_path: Path, encoders: tuple[str, str]
) -> None:
    files = [
        ready_features(tmp_path / f"{width}.safetensors", width=width, regions=3, encoder=encoder)
        for width, encoder in zip((7, 256), encoders, strict=True)
    ]
    with pytest.raises(ValueError, match=r"different widths: \[7, 256\]"):
        train(recipe, [DataSource(source.path, image_features=file) for file in files], tmp_path / "run")


def test_images_are_encoded_once_and_the_features_kept(recipe: Recipe, source: DataSource, tmp_path: Path) -> None:
    train(small(recipe, max_steps=1), [source], tmp_path / "run")
    file = ImageFeatureFile(tmp_path / "run" / "run" / "image-features-eight.safetensors")
    assert [name in file for name in "01234567"] == [True, False] * 4
    assert file.encoder == "timm:test_efficientnet"


@pytest.mark.parametrize("fine_tuned", [False, True])
def test_a_broken_image_makes_its_post_one_without(
    recipe: Recipe, source: DataSource, tmp_path: Path, trainers: list[SMNERTrainer], fine_tuned: bool
) -> None:
    assert source.images is not None
    (source.images / "2.png").write_bytes(b"\x89PNG")
    train(small(recipe, max_steps=1, fine_tune_image_encoder=fine_tuned), [source], tmp_path / "run")
    assert [part_of(trainers[0], 0).has_image(i) for i in (0, 2, 4, 6)] == [True, False, True, True]
    assert "| eight | 8 | 3 |" in (tmp_path / "run" / "README.md").read_text("utf-8")


def test_where_all_images_are_broken_training_goes_without(
    recipe: Recipe, source: DataSource, tmp_path: Path, trainers: list[SMNERTrainer]
) -> None:
    assert source.images is not None
    for image in source.images.iterdir():
        image.write_bytes(b"\x89PNG")
    train(small(recipe, max_steps=1), [source], tmp_path / "run")
    assert part_of(trainers[0], 0).images() == 0


def test_a_fine_tuned_image_encoder_is_trained_on_the_images_themselves(
    recipe: Recipe, source: DataSource, tmp_path: Path, trainers: list[SMNERTrainer]
) -> None:
    (source.path / "valid.txt").unlink()  # with it, the first of two equally bad epochs is kept
    weights = {}
    for rate in (0.0, 1e-2):
        changes = {"fine_tune_image_encoder": True, "image_encoder_learning_rate": rate, "image_dropout": 0}
        train(small(recipe, **changes), [source], tmp_path / str(rate))
        weights[rate] = load_file(tmp_path / str(rate) / WEIGHTS_FILE)["image_encoder.trunk.backbone.conv_stem.weight"]
    assert not list(tmp_path.glob("*/run/image-features*"))
    assert not torch.equal(weights[0.0], weights[1e-2])


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


def test_data_without_a_tagged_entity_are_refused(untagged: DataSource) -> None:
    with pytest.raises(ValueError, match="no entity is tagged in the training data of untagged"):
        TrainingData.read([untagged], held_out=0)


def test_the_summary_counts_what_is_left_out_and_what_cannot_be_found(tmp_path: Path) -> None:
    (tmp_path / "train.txt").write_text("The\tB-MISC\nBig\tI-MISC\nSleep\tI-MISC\n\nRome\tB-LOC\n", "utf-8")
    (tmp_path / "valid.jsonl").write_text('{"text": "hi"}\n{"tokens": ["Rome"], "tags": ["B-LOC"]}\n', "utf-8")
    (part,) = TrainingData.read([DataSource(tmp_path)], held_out=0).parts
    found = f"{part.name}: 2 training posts, 2 tagged, 0 with a photo; 1 valid posts and 1 without tags, left out"
    assert part.summary(3) == found
    assert part.summary(2) == f"{found}; 1 of 3 entities wider than 2 words, never found"


def test_a_valid_split_with_a_type_that_training_has_not_is_refused_at_once(source: DataSource) -> None:
    """It used to end in a KeyError when all epochs were over."""
    valid = source.path / "valid.txt"
    lines = valid.read_text("utf-8").replace("LOC", "EVENT").splitlines()
    valid.write_text("\n".join([*lines, ""]), "utf-8")
    tagged = next(number for number, line in enumerate(lines) if "EVENT" in line)
    first = 2 + max(number for number, line in enumerate(lines[:tagged]) if line.startswith("IMGID:"))
    expected = f"{valid}:{first}: post .*: expected the training data's types, PER, LOC; not EVENT"
    with pytest.raises(DatasetError, match=expected):
        TrainingData.read([source], held_out=0)


def test_a_run_says_which_post_is_too_long_before_it_encodes_images(
    recipe: Recipe, source: DataSource, tmp_path: Path
) -> None:
    """The tiny encoder has 128 positions two of them for [CLS] and [SEP]; a letter takes one."""
    path = source.path / "train.txt"
    long = path.read_text("utf-8") + "\nIMGID:long-one\n" + "a\tO\n" * 127
    path.write_text(long, "utf-8")
    line = long.splitlines().index("IMGID:long-one") + 2  # the first word's
    with pytest.raises(DatasetError, match=f"{path}:{line}: post long-one: "):
        train(recipe, [source], tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_the_handles_of_retweets_are_split_in_training_alone_and_where_the_recipe_says(
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


def test_a_run_may_be_moved_and_its_best_epoch_is_still_found(
    recipe: Recipe, source: DataSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trainer remembers the best checkpoint by its path: interrupted or finished, the run would end without it."""
    longer = small(recipe, epochs=3)
    f1 = iter([0.5, 0.1, 0.1])
    monkeypatch.setattr("training.learning.trainer.score", lambda *_: Scores(own := next(f1), own, own, 16))
    with killed_after_first_epoch(), pytest.raises(Killed):
        train(longer, [source], tmp_path / "before")
    shutil.move(tmp_path / "before", tmp_path / "after")
    train(longer, [source], tmp_path / "after", resume=True)
    ended = load_file(tmp_path / "after" / WEIGHTS_FILE)
    best = load_file(tmp_path / "after" / "run" / "checkpoints" / "checkpoint-2" / WEIGHTS_FILE)  # of the first epoch
    assert all(torch.equal(ended[name], best[f"network.{name}"]) for name in ended)

    shutil.move(tmp_path / "after", tmp_path / "later")
    (tmp_path / "later" / WEIGHTS_FILE).unlink()
    train(longer, [source], tmp_path / "later", resume=True)
    again = load_file(tmp_path / "later" / WEIGHTS_FILE)
    assert all(torch.equal(ended[name], again[name]) for name in ended)


def test_epochs_in_which_nothing_is_found_do_not_wear_out_the_patience(
    recipe: Recipe,
    source: DataSource,
    tmp_path: Path,
    trainers: list[SMNERTrainer],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for f1, epochs in ((0.0, 4), (0.1, 2)):
        monkeypatch.setattr("training.learning.trainer.score", lambda *_, f1=f1: Scores(f1, f1, f1, 16))
        train(small(recipe, epochs=4, patience=1), [source], tmp_path / str(f1))
        assert trainers[-1].state.epoch == epochs


def test_a_valid_split_without_entities_measures_nothing_and_is_refused(
    recipe: Recipe, source: DataSource, tmp_path: Path
) -> None:
    (source.path / "valid.txt").write_text("hi\tO\n", "utf-8")
    with pytest.raises(ValueError, match=r"valid\.txt: no entity is tagged, so that nothing can be measured on it"):
        train(recipe, [source], tmp_path / "run")


def test_not_all_posts_without_tags_can_be_held_out(
    recipe: Recipe, source: DataSource, untagged: DataSource, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ValueError, match="held_out=500 would keep all 8 posts without tags out of training"):
        train(small(recipe, held_out=500), [source, untagged], tmp_path / "run")
    train(small(recipe, held_out=500, max_steps=1), [source], tmp_path / "run")  # there are none to keep out
    train(small(recipe, held_out=3, max_steps=1), [source, untagged], tmp_path / "other")
    assert re.search(r"5 training posts, 0 tagged, \d with a photo, 3 more kept out; 0", capsys.readouterr().out)


def test_posts_are_held_out_one_by_one_whatever_they_are_called(source: DataSource, tmp_path: Path) -> None:
    """Lines of two files without ids have the same names."""
    paths = [tmp_path / "a.jsonl", tmp_path / "b.jsonl"]
    for path in paths:
        path.write_text('{"text": "a"}\n' * 5, "utf-8")
    data = TrainingData.read([source, *map(DataSource, paths)], held_out=3)
    assert sum(len(part.train) for part in data.parts) == 8 + 10 - 3
    assert len(data.held_out) == 3


def test_sources_have_names_of_their_own(source: DataSource, tmp_path: Path) -> None:
    paths = [tmp_path / folder for folder in ("x/fold", "y/fold", "z/fold-1", "eight")]
    for path in paths[:3]:
        shutil.copytree(source.path, path)
    data = TrainingData.read(list(map(DataSource, paths)), held_out=0)
    assert [part.name for part in data.parts] == ["fold-0", "fold-1-1", "fold-1", "eight"]


def test_no_teacher_is_trained_where_every_post_has_tags(
    recipe: Recipe, source: DataSource, teacher: str, tmp_path: Path, trainers: list[SMNERTrainer]
) -> None:
    train(small(recipe, max_steps=1, held_out=2, teacher=teacher), [source], tmp_path / "run")
    assert len(trainers) == 1
    assert "text-only" not in (tmp_path / "run" / "README.md").read_text("utf-8")


def test_what_is_wrong_with_features_teacher_or_images_is_told_before_the_folder_is_taken(
    recipe: Recipe, source: DataSource, untagged: DataSource, tmp_path: Path
) -> None:
    """Else the command that is right is refused, since the folder holds another run."""
    short = small(recipe, max_steps=1)
    wide = ready_features(tmp_path / "w.safetensors", width=100, regions=3, encoder="timm:test_efficientnet")
    with pytest.raises(ValueError, match=r"w\.safetensors: features are 100 wide, those of timm:test_efficientnet 256"):
        train(short, [DataSource(source.path, image_features=wide)], tmp_path / "run")
    files = [ready_features(tmp_path / f"{n}.safetensors", width=7, regions=n, encoder="foreign") for n in (3, 5)]
    with pytest.raises(ValueError, match=r"different numbers of regions: \[3, 5\]"):
        train(short, [DataSource(source.path, image_features=file) for file in files], tmp_path / "run")
    with pytest.raises(FileNotFoundError, match="no recipe 'typo'"):
        train(small(recipe, max_steps=1, teacher="typo"), [source, untagged], tmp_path / "run")
    twins = tmp_path / "twins.jsonl"
    twins.write_text('{"text": "a", "image": "x/a.png"}\n{"text": "a", "image": "y/a.png"}\n', "utf-8")
    for folder in ("x", "y"):
        (tmp_path / folder).mkdir()
        shutil.copy(source.path / "images" / "0.png", tmp_path / folder / "a.png")
    with pytest.raises(ValueError, match="have the same name, so their features cannot be told apart"):
        train(short, [source, DataSource(twins)], tmp_path / "run")
    train(short, [source], tmp_path / "run")
