"""A teacher's answers; untagged posts that are held out or there for the bottleneck alone; copies in other casings."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import training.learning.teacher
import training.scoring.prediction
from model import SMNER
from model.modeling.spans import enumerate_spans
from model.weights import WEIGHTS_FILE
from tests.training.learning.tiny_runs import part_of, small, write_recipe
from tests.training.tiny_run import BY_HEART
from training.data.dataset import PostDataset
from training.data.sources import DataSource
from training.data.training_data import held_out_posts
from training.learning.run import RunResult, train
from training.learning.teacher import Teacher
from training.learning.trainer import SMNERTrainer
from training.recipes.recipe import Recipe

TEXT_INPUTS = ("input_ids", "attention_mask", "word_starts", "word_ends", "morphs")


def test_posts_without_tags_train_the_bottleneck(
    recipe: Recipe, source: DataSource, untagged: DataSource, tmp_path: Path, trainers: list[SMNERTrainer]
) -> None:
    """Only the untagged posts have images here, so they alone train the posteriors."""
    weights: dict[str, torch.Tensor] = {}
    for name, sources in (("without", [DataSource(source.path)]), ("with", [DataSource(source.path), untagged])):
        train(small(recipe, epochs=1, image_dropout=0), sources, tmp_path / name)
        weights[name] = load_file(tmp_path / name / WEIGHTS_FILE)["bottleneck.image_posterior.head.weight"]
    assert [part.has_image(0) for part in trainers[1].train_sets.values()] == [False, True]
    assert not torch.equal(weights["with"], weights["without"])


def test_held_out_posts_are_listed_and_untrained(
    recipe: Recipe,
    source: DataSource,
    untagged: DataSource,
    tmp_path: Path,
    trainers: list[SMNERTrainer],
    capsys: pytest.CaptureFixture[str],
) -> None:
    train(small(recipe, max_steps=1, held_out=3), [source, untagged], tmp_path / "run")
    assert re.search(r"5 training posts, 0 tagged, \d with a photo, 3 more kept out; 0", capsys.readouterr().out)
    kept_out = (tmp_path / "run" / "run" / "held_out.txt").read_text("utf-8").split()
    assert kept_out == sorted(post.id for post in held_out_posts(untagged.read("train"), 3))
    assert [len(part) for part in trainers[0].train_sets.values()] == [8, 5]
    assert not {post.id for post in part_of(trainers[0], 1).posts} & set(kept_out)


def test_a_recipes_teacher_teaches_every_post(
    recipe: Recipe, source: DataSource, untagged: DataSource, tmp_path: Path, trainers: list[SMNERTrainer]
) -> None:
    """The untagged posts repeat the tagged texts, so the right entities are known."""
    teacher = write_recipe(small(recipe, **BY_HEART), tmp_path / "teacher.toml")
    train(small(recipe, max_steps=1, held_out=2, teacher=teacher), [source, untagged], tmp_path / "run")
    gold = {post.words: post.entities for post in source.read("train")}
    assert [[post.entities for post in part.posts] for part in trainers[-1].train_sets.values()] == [
        list(gold.values()),
        [None] * 6,
    ]
    posts = [post for part in trainers[-1].train_sets.values() for post in part.posts]
    right = [
        _entities(post.teacher_logits) >= {(start, end) for start, end, _ in gold[post.words] or ()} for post in posts
    ]
    assert sum(right) >= 13
    card = (tmp_path / "run" / "README.md").read_text("utf-8")
    assert "`teacher.toml`, reading the text alone, taught the network" in card
    assert "2 posts without tags were kept out of training" in card


def _entities(logits: torch.Tensor | None) -> set[tuple[int, int]]:
    """First and last word of the spans whose best class is a type; some overlap."""
    assert logits is not None
    words, _, _ = logits.shape
    found = logits.argmax(-1).nonzero().tolist()
    return {(start, start + width) for start, width in found if start + width < words}


def test_a_checkpoint_teaches_as_it_answers(
    overfitted: tuple[RunResult, DataSource], recipe: Recipe, tmp_path: Path, trainers: list[SMNERTrainer]
) -> None:
    """Logits in the batch that training sees are those of the teacher's network on the texts alone."""
    result, source = overfitted
    recipe = small(recipe, max_steps=1, teacher=str(result.checkpoint), max_span_width=2)
    train(recipe, [source], tmp_path / "run")
    part = part_of(trainers[-1], 0)
    batch = trainers[-1].collator([part[i] for i in range(len(part))])
    teacher = SMNER.from_pretrained(result.checkpoint).eval()
    with torch.inference_mode():
        output = teacher(**{name: batch[name] for name in TEXT_INPUTS})
    spans = enumerate_spans(batch["morphs"] != 0, 2)  # the first of the teacher's, which sees wider ones
    assert torch.equal(batch["taught"], spans.mask)
    expected = output.logits[:, : spans.mask.shape[1]]
    torch.testing.assert_close(batch["teacher_logits"][spans.mask], expected[spans.mask], atol=0.01, rtol=0.01)


def test_a_killed_teacher_goes_on_where_it_was(
    overfitted: tuple[RunResult, DataSource], recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed after the second of three shards: only the third is computed by the next call."""
    result, source = overfitted
    monkeypatch.setattr(training.learning.teacher, "_SHARD", 3)
    posts, asked = source.read("train"), []
    run_model = training.scoring.prediction.run_model

    def interrupted(network: SMNER, texts: PostDataset, *arguments: Any) -> list[Any]:
        asked.append(len(texts))
        if len(asked) == 3:
            raise KeyboardInterrupt
        return run_model(network, texts, *arguments)

    monkeypatch.setattr(training.learning.teacher, "run_model", interrupted)
    teacher = Teacher(result.checkpoint, types=["PER", "LOC"], max_span_width=4, bfloat16=False)
    with pytest.raises(KeyboardInterrupt):
        teacher.answer(posts, tmp_path / "answers")
    (tmp_path / "answers.parts" / "000001.safetensors").write_bytes(b"cut off")
    answers = teacher.answer(posts, tmp_path / "answers")
    assert asked == [3, 3, 2, 3, 2]
    assert all(map(torch.equal, answers, teacher.answer(posts, tmp_path / "answers")))
    assert [len(own) for own in answers] == [len(post.words) for post in posts]
    teacher.answer(posts[:-1], tmp_path / "answers")
    assert asked[5:] == [3, 3, 1]  # other posts: nothing is kept


def test_answers_are_in_the_students_order_of_types(overfitted: tuple[RunResult, DataSource], tmp_path: Path) -> None:
    result, source = overfitted
    posts = source.read("train")
    answers = [
        Teacher(result.checkpoint, types=types, max_span_width=4, bfloat16=False).answer(posts, tmp_path / types[0])
        for types in (["PER", "LOC"], ["LOC", "PER"])
    ]
    for theirs, swapped in zip(*answers, strict=True):
        assert torch.equal(theirs[..., [0, 2, 1]], swapped)
        assert not torch.equal(theirs, swapped)


def test_a_teacher_that_does_not_fit_is_refused(
    overfitted: tuple[RunResult, DataSource], recipe: Recipe, source: DataSource, tmp_path: Path
) -> None:
    teacher = str(overfitted[0].checkpoint)
    with pytest.raises(ValueError, match="sees spans of up to 4 words, but max_span_width is 5"):
        train(small(recipe, teacher=teacher, max_span_width=5), [source], tmp_path / "run")
    text = (source.path / "train.txt").read_text("utf-8")
    (source.path / "train.txt").write_text(text.replace("LOC", "CITY"), "utf-8")
    (source.path / "valid.txt").unlink()
    with pytest.raises(ValueError, match="knows PER, LOC, but the training data have PER, CITY"):
        train(small(recipe, teacher=teacher), [source], tmp_path / "run")
    with pytest.raises(FileNotFoundError, match="no recipe 'nobody'; there are"):
        train(small(recipe, teacher="nobody"), [source], tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_run_may_start_with_its_teachers_weights(
    overfitted: tuple[RunResult, DataSource], recipe: Recipe, tmp_path: Path
) -> None:
    """With learning rates of 0 they are what it ends with, and the teacher knows these posts by heart."""
    result, source = overfitted
    still = {"max_steps": 1, "encoder_learning_rate": 0, "head_learning_rate": 0, "start_from_teacher": True}
    recipe = small(recipe, teacher=str(result.checkpoint), **still)
    assert train(recipe, [source], tmp_path / "run").f1 == result.f1
    ours, theirs = (load_file(folder / WEIGHTS_FILE) for folder in (tmp_path / "run", result.checkpoint))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    with pytest.raises(ValueError, match=r"another network, which differs in span_encoder\.length\.weight$"):
        train(small(recipe, max_span_width=2), [source], tmp_path / "other")


def test_texts_and_their_limit(
    overfitted: tuple[RunResult, DataSource],
    recipe: Recipe,
    source: DataSource,
    tmp_path: Path,
    trainers: list[SMNERTrainer],
) -> None:
    assert [post.words for post in DataSource(source.path / "train.txt", texts=True).read("train")] == [
        post.words for post in source.read("train")
    ]
    assert {post.entities for post in DataSource(source.path / "train.txt", texts=True).read("train")} == {None}
    file = tmp_path / "texts.txt"
    file.write_text("Anna is in Paris!\n\n  \nBob is here\nRome\nagain Rome\n", "utf-8")
    texts = DataSource(file, texts=True)
    assert [post.words for post in texts.read("train")][:2] == [
        ("Anna", "is", "in", "Paris", "!"),
        ("Bob", "is", "here"),
    ]
    recipe = small(recipe, max_steps=1, teacher=str(overfitted[0].checkpoint), max_texts=3, held_out=0)
    train(recipe, [source, texts], tmp_path / "run")
    kept = [post.words for post in part_of(trainers[-1], 1).posts]
    assert len(kept) == 3
    train(small(recipe, seed=1), [source, texts], tmp_path / "again")
    assert [post.words for post in part_of(trainers[-1], 1).posts] == kept


def test_copies_in_other_casings_keep_what_is_known(
    overfitted: tuple[RunResult, DataSource],
    recipe: Recipe,
    source: DataSource,
    tmp_path: Path,
    trainers: list[SMNERTrainer],
) -> None:
    recipe = small(recipe, max_steps=1, teacher=str(overfitted[0].checkpoint), casing_share=0.25)
    train(recipe, [source], tmp_path / "run")
    posts = part_of(trainers[-1], 0).posts
    originals = {post.id: post for post in posts[:8]}
    assert [len(posts), *(post.image is None for post in posts[8:])] == [12, True, True, True, True]
    for post, change in zip(posts[8:], (str.lower, str.lower, str.upper, str.upper), strict=True):
        original = originals[post.id.partition(" ")[0]]
        assert post.words == tuple(map(change, original.words))
        assert post.entities == original.entities
        assert post.teacher_logits is original.teacher_logits
    assert "25% of the posts were also seen in small letters" in (tmp_path / "run" / "README.md").read_text("utf-8")


def test_teacher_sees_no_images(
    recipe: Recipe, source: DataSource, untagged: DataSource, tmp_path: Path, trainers: list[SMNERTrainer]
) -> None:
    """Tagged and untagged posts in one file, each naming its image; the teacher is text-only."""
    tagged = {"tokens": ["Anna", "ran"], "tags": ["B-PER", "O"], "image": "eight/images/0.png"}
    with untagged.path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(tagged) + "\n")
    teacher = write_recipe(small(recipe, max_steps=1), tmp_path / "teacher.toml")
    train(small(recipe, max_steps=1, held_out=2, teacher=teacher), [untagged], tmp_path / "run")
    assert [part.has_image(i) for part in trainers[0].train_sets.values() for i in range(len(part))].count(True) == 0
