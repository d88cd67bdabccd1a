import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from model import SMNER, Recognizer
from model.checkpoint import verify_checkpoint
from training.data.dataset import PostDataset
from training.data.posts import Casing
from training.data.sources import DataSource
from training.learning.run import RunResult
from training.scoring.report import evaluate
from training.scoring.scores import ScoredPredictions


@pytest.fixture
def recognizer(overfitted: tuple[RunResult, DataSource]) -> Recognizer:
    """The run that knows its eight posts by heart."""
    return Recognizer.from_pretrained(overfitted[0].checkpoint, device="cpu")


def test_f1_and_checksums_are_the_runs_own(
    overfitted: tuple[RunResult, DataSource], recognizer: Recognizer, source: DataSource
) -> None:
    report = evaluate(recognizer, source, "valid")
    assert report["checkpoint_sha256"] == verify_checkpoint(overfitted[0].checkpoint)
    assert report["data_sha256"] == hashlib.sha256((source.path / "valid.txt").read_bytes()).hexdigest()
    assert report["seconds"] > 0
    assert report["f1"] == pytest.approx(overfitted[0].f1["eight"])
    assert 0.9 < report["f1"] <= 1
    assert report["support"] == 16
    assert {kind: own["support"] for kind, own in report["by_type"].items()} == {"PER": 8, "LOC": 8}


def test_another_casing_changes_words_alone(
    recognizer: Recognizer, source: DataSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[tuple[str, ...]] = []

    def predict(_: SMNER, dataset: PostDataset, *__: object, **___: object) -> ScoredPredictions:
        read.extend(post.words for post in dataset.posts)
        return [()] * len(dataset)

    monkeypatch.setattr("training.scoring.report.predict_scored", predict)
    posts = source.read("valid")
    changes: dict[Casing | None, Callable[[str], str]] = {"lower": str.lower, "upper": str.upper, None: str}
    for casing, change in changes.items():
        report = evaluate(recognizer, source, "valid", casing=casing)
        assert (report["support"], report["without_image"]) == (16, 4)
        assert read == [tuple(map(change, post.words)) for post in posts]
        read.clear()


def test_calibration_is_of_served_scores(recognizer: Recognizer, source: DataSource) -> None:
    """The eight posts are known by heart, so everything is right and the error is one minus the mean score."""
    texts = [" ".join(post.words) for post in source.read("valid")]
    scores = [entity.score for own in recognizer.recognize_batch(texts) for entity in own]
    report = evaluate(recognizer, DataSource(source.path), "valid")
    assert report["precision"] == 1
    assert sum(each["count"] for each in report["calibration"]["bins"]) == len(scores) == 16
    assert report["calibration"]["ece"] == pytest.approx(1 - sum(scores) / 16, abs=1e-5)


def test_seen_mentions_are_those_train_tags(recognizer: Recognizer, source: DataSource) -> None:
    """Rome is in half of the eight posts; without a train split nothing is known."""
    (source.path / "train.txt").write_text("IMGID:1\nROME\tB-LOC\nwelcomes\tO\nAnna\tO\n", "utf-8")
    report = evaluate(recognizer, source, "valid")
    assert (report["seen"]["support"], report["unseen"]["support"]) == (4, 12)
    (source.path / "train.txt").unlink()
    report = evaluate(recognizer, source, "valid")
    assert (report["seen"], report["unseen"]) == (None, None)


def test_missing_and_broken_images_are_counted(recognizer: Recognizer, source: DataSource) -> None:
    """Of eight posts 1, 3, 5 and 7 never had an image; then 0 goes missing and 2 is torn."""
    assert source.images is not None
    assert evaluate(recognizer, source, "valid")["without_image"] == 4
    (source.images / "0.png").unlink()
    (source.images / "2.png").write_bytes(b"\x89PNG")
    assert evaluate(recognizer, source, "valid")["without_image"] == 6
    assert evaluate(recognizer, DataSource(source.path), "valid")["without_image"] == 8


def test_broken_images_are_counted_per_post(recognizer: Recognizer, tmp_path: Path) -> None:
    """An empty line within a tweet makes two posts of one IMGID."""
    (tmp_path / "1.png").write_bytes(b"\x89PNG")
    (tmp_path / "valid.txt").write_text("IMGID:1\nRome\tB-LOC\n\nIMGID:1\nhi\tO\n", "utf-8")
    assert evaluate(recognizer, DataSource(tmp_path, images=tmp_path), "valid")["without_image"] == 2


def test_ready_features_replace_images(recognizer: Recognizer, source: DataSource, tmp_path: Path) -> None:
    """One of eight posts has features of the checkpoint's width, made by another program."""
    file = tmp_path / "f.safetensors"
    save_file({"features": torch.randn(1, 4, 256)}, file, {"image_ids": '["0"]', "encoder": "other"})
    assert evaluate(recognizer, DataSource(source.path, image_features=file), "valid")["without_image"] == 7


def test_images_reach_the_network(recognizer: Recognizer, source: DataSource) -> None:
    seen: list[bool] = []
    recognizer.model.image_projection.register_forward_hook(lambda *_: seen.append(True))
    evaluate(recognizer, DataSource(source.path), "valid")
    assert seen == []
    evaluate(recognizer, source, "valid")
    assert seen == [True]


def test_untagged_posts_are_not_measured(recognizer: Recognizer, source: DataSource) -> None:
    records = [{"tokens": ["Rome"], "tags": ["B-LOC"]}, {"tokens": ["Paris"]}]
    (source.path / "mixed.jsonl").write_text("\n".join(map(json.dumps, records)), "utf-8")
    report = evaluate(recognizer, source, "mixed")
    assert (report["support"], report["without_image"]) == (1, 1)
