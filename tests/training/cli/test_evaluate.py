import hashlib
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from model import Recognizer
from model.checkpoint import verify_checkpoint
from training.cli.evaluate import evaluate, main
from training.data.sources import DataSource
from training.learning.run import RunResult

FIELDS = {
    "precision", "recall", "f1", "support", "by_type", "seen", "unseen", "calibration", "without_image",
    "seconds", "checkpoint_sha256", "data_sha256",
}  # fmt: skip
SCORES = {"precision", "recall", "f1", "support"}


@pytest.fixture
def recognizer(overfitted: tuple[RunResult, DataSource]) -> Recognizer:
    """The run that knows its eight posts by heart."""
    return Recognizer.from_pretrained(overfitted[0].checkpoint, device="cpu")


@pytest.fixture
def command(overfitted: tuple[RunResult, DataSource], source: DataSource) -> list[str]:
    checkpoint = ["--checkpoint", str(overfitted[0].checkpoint), "--device", "cpu"]
    return [*checkpoint, "--data", str(source.path), "--split", "valid"]


def jsonl(path: Path, *records: dict[str, Any]) -> None:
    path.write_text("".join(json.dumps(record) + "\n" for record in records), "utf-8")


def test_the_report_has_the_contracts_fields_and_no_others(
    command: list[str], source: DataSource, tmp_path: Path
) -> None:
    assert main([*command, "--images", str(source.images), "--report", str(tmp_path / "report.json")]) == 0
    report = json.loads((tmp_path / "report.json").read_text("utf-8"))
    assert report.keys() == FIELDS
    assert report["by_type"].keys() == {"PER", "LOC"}
    assert all(part.keys() == SCORES for part in (report["seen"], report["unseen"], *report["by_type"].values()))


def test_an_interrupted_command_ends_with_a_line(
    source: DataSource, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("training.cli.evaluate.load", interrupt)
    assert main(["--data", str(source.path), "--split", "valid"]) == 130
    assert capsys.readouterr().err == "smner-evaluate: interrupted\n"


def test_f1_is_a_fraction_and_the_runs_own(
    overfitted: tuple[RunResult, DataSource], recognizer: Recognizer, source: DataSource
) -> None:
    report = evaluate(recognizer, source, "valid")
    assert report["f1"] == pytest.approx(overfitted[0].f1["eight"])
    assert 0.9 < report["f1"] <= 1
    assert report["support"] == 16
    assert {kind: own["support"] for kind, own in report["by_type"].items()} == {"PER": 8, "LOC": 8}


def test_the_calibration_is_that_of_the_scores_that_clients_see(recognizer: Recognizer, source: DataSource) -> None:
    """The eight posts are known by heart: the model is surer than it need be, and the error is one minus its scores."""
    texts = [" ".join(post.words) for post in source.read("valid")]
    scores = [entity.score for own in recognizer.recognize_batch(texts) for entity in own]
    report = evaluate(recognizer, DataSource(source.path), "valid")
    assert report["precision"] == 1
    assert sum(each["count"] for each in report["calibration"]["bins"]) == len(scores) == 16
    assert report["calibration"]["ece"] == pytest.approx(1 - sum(scores) / 16, abs=1e-5)


def test_the_report_names_checkpoint_and_data_by_their_sha256(
    overfitted: tuple[RunResult, DataSource], recognizer: Recognizer, source: DataSource
) -> None:
    report = evaluate(recognizer, source, "valid")
    assert report["checkpoint_sha256"] == verify_checkpoint(overfitted[0].checkpoint)
    assert report["data_sha256"] == hashlib.sha256((source.path / "valid.txt").read_bytes()).hexdigest()
    assert report["seconds"] > 0


def test_mentions_are_seen_if_the_train_split_tags_them(recognizer: Recognizer, source: DataSource) -> None:
    (source.path / "train.txt").write_text("IMGID:1\nROME\tB-LOC\nwelcomes\tO\nAnna\tO\n", "utf-8")
    report = evaluate(recognizer, source, "valid")
    assert (report["seen"]["support"], report["unseen"]["support"]) == (4, 12)  # Rome in half of the eight posts


def test_without_a_train_split_nothing_is_said_of_seen_mentions(recognizer: Recognizer, source: DataSource) -> None:
    (source.path / "train.txt").unlink()
    report = evaluate(recognizer, source, "valid")
    assert (report["seen"], report["unseen"]) == (None, None)


def test_posts_without_a_usable_image_are_counted_missing_and_broken_alike(
    recognizer: Recognizer, source: DataSource
) -> None:
    """Of eight posts 1, 3, 5 and 7 never had a photo; then 0 goes missing and 2 is torn."""
    assert source.images is not None
    assert evaluate(recognizer, source, "valid")["without_image"] == 4
    (source.images / "0.png").unlink()
    (source.images / "2.png").write_bytes(b"\x89PNG")
    assert evaluate(recognizer, source, "valid")["without_image"] == 6
    assert evaluate(recognizer, DataSource(source.path), "valid")["without_image"] == 8


def test_broken_images_of_posts_with_one_id_are_counted_each(recognizer: Recognizer, tmp_path: Path) -> None:
    """An empty line within a tweet makes two posts of one IMGID."""
    (tmp_path / "1.png").write_bytes(b"\x89PNG")
    (tmp_path / "valid.txt").write_text("IMGID:1\nRome\tB-LOC\n\nIMGID:1\nhi\tO\n", "utf-8")
    assert evaluate(recognizer, DataSource(tmp_path, images=tmp_path), "valid")["without_image"] == 2


def test_images_reach_the_network_where_their_folder_is_given(recognizer: Recognizer, source: DataSource) -> None:
    seen: list[bool] = []
    recognizer.model.image_projection.register_forward_hook(lambda *_: seen.append(True))
    evaluate(recognizer, DataSource(source.path), "valid")
    assert seen == []
    evaluate(recognizer, source, "valid")
    assert seen == [True]


def test_types_that_the_checkpoint_does_not_know_are_refused_by_name(
    command: list[str], source: DataSource, capsys: pytest.CaptureFixture[str]
) -> None:
    (source.path / "valid.txt").write_text("IMGID:1\nApollo\tB-SHIP\n11\tB-FILM\nRome\tB-LOC\n", "utf-8")
    assert main(command) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "valid has types that the checkpoint does not know: FILM, SHIP (it knows PER, LOC)" in line


def test_untagged_posts_are_not_measured(recognizer: Recognizer, source: DataSource) -> None:
    records = [{"tokens": ["Rome"], "tags": ["B-LOC"]}, {"tokens": ["Paris"]}]
    jsonl(source.path / "mixed.jsonl", *records)
    report = evaluate(recognizer, source, "mixed")
    assert report["support"] == 1
    assert report["without_image"] == 1


def test_a_split_with_no_tagged_post_is_refused(
    command: list[str], source: DataSource, capsys: pytest.CaptureFixture[str]
) -> None:
    jsonl(source.path / "raw.jsonl", {"text": "hi"})
    assert main([*command, "--split", "raw"]) == 2
    assert "raw has no tagged posts" in capsys.readouterr().err


def test_a_split_that_is_not_there_is_one_line_and_exit_status_2(
    command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*command, "--split", "test"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("smner-evaluate: ")
    assert line.endswith("no test.txt or test.jsonl")


def test_a_changed_checkpoint_is_refused_with_the_files_name(
    command: list[str], overfitted: tuple[RunResult, DataSource], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(overfitted[0].checkpoint, tmp_path / "copy")
    (tmp_path / "copy" / "README.md").write_text("forged", "utf-8")
    assert main([*command, "--checkpoint", str(tmp_path / "copy")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "README.md: changed" in line


def features(path: Path, *, width: int) -> Path:
    save_file({"features": torch.randn(1, 4, width)}, path, {"image_ids": '["0"]', "encoder": "other"})
    return path


def test_features_of_another_width_than_the_checkpoints_are_refused(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The checkpoint's encoder gives 256 channels."""
    file = features(tmp_path / "f.safetensors", width=7)
    assert main([*command, "--image-features", str(file)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "7" in line
    assert "256" in line


def test_ready_features_stand_for_the_images(recognizer: Recognizer, source: DataSource, tmp_path: Path) -> None:
    file = features(tmp_path / "f.safetensors", width=256)
    assert evaluate(recognizer, DataSource(source.path, image_features=file), "valid")["without_image"] == 7


def test_the_features_of_its_run_fit_a_checkpoint_and_are_checked_against_its_weights(
    command: list[str], overfitted: tuple[RunResult, DataSource], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Folding the image encoder changes its weights: it must not come before the check."""
    (own,) = (overfitted[0].checkpoint / "run").glob("image-features-*.safetensors")
    assert main([*command, "--image-features", str(own)]) == 0
    with safe_open(own, "pt") as file:
        stale = json.loads(file.metadata()["fingerprint"]) | {"weights": "others"}
        metadata = {**file.metadata(), "fingerprint": json.dumps(stale)}
        save_file({"features": file.get_tensor("features")}, tmp_path / "stale.safetensors", metadata)
    assert main([*command, "--image-features", str(tmp_path / "stale.safetensors")]) == 2
    assert "weights others, not" in capsys.readouterr().err


def test_features_made_with_another_encoder_are_refused(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As wide as the checkpoint's own, so that nothing else would tell."""
    metadata = {"image_ids": '["0"]', "encoder": "timm:test_efficientnet_ln", "fingerprint": "{}"}
    save_file({"features": torch.randn(1, 4, 256)}, tmp_path / "f.safetensors", metadata)
    assert main([*command, "--image-features", str(tmp_path / "f.safetensors")]) == 2
    assert "features of timm:test_efficientnet_ln, not of timm:test_efficientnet" in capsys.readouterr().err


def test_images_and_features_exclude_each_other(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main([*command, "--images", "a", "--image-features", "b"])
    assert caught.value.code == 2
    assert "not allowed with argument" in capsys.readouterr().err


def test_a_report_that_cannot_be_written_is_one_line_before_anything_is_measured(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("training.cli.evaluate.evaluate", lambda *_: pytest.fail("measured"))
    assert main([*command, "--report", str(tmp_path / "absent" / "report.json")]) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("smner-evaluate: ")]
    assert "report.json" in line


def test_the_table_shows_each_type_and_the_images(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(command) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["precision", "recall", "F1", "support"]
    assert [line.split()[0] for line in lines[1:-2]] == ["all", "PER", "LOC", "seen", "unseen"]
    assert lines[1].split()[-1] == "16"
    assert re.fullmatch(r"expected calibration error 0\.\d{4}", lines[-2])
    assert lines[-1].startswith("8 posts without a photo, ")
