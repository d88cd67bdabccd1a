import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from training.cli.evaluate import main
from training.data.sources import DataSource
from training.learning.run import RunResult

FIELDS = {
    "precision", "recall", "f1", "support", "by_type", "seen", "unseen", "calibration", "without_image",
    "seconds", "checkpoint_sha256", "data_sha256",
}  # fmt: skip
SCORES = {"precision", "recall", "f1", "support"}


@pytest.fixture
def command(overfitted: tuple[RunResult, DataSource], source: DataSource) -> list[str]:
    checkpoint = ["--checkpoint", str(overfitted[0].checkpoint), "--device", "cpu"]
    return [*checkpoint, "--data", str(source.path), "--split", "valid"]


def test_the_report_has_exactly_the_contracts_fields(command: list[str], source: DataSource, tmp_path: Path) -> None:
    assert main([*command, "--images", str(source.images), "--report", str(tmp_path / "report.json")]) == 0
    report = json.loads((tmp_path / "report.json").read_text("utf-8"))
    assert report.keys() == FIELDS
    assert report["by_type"].keys() == {"PER", "LOC"}
    assert all(part.keys() == SCORES for part in (report["seen"], report["unseen"], *report["by_type"].values()))


def test_the_table_shows_types_mentions_and_images(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(command) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["precision", "recall", "F1", "support"]
    assert [line.split()[0] for line in lines[1:-2]] == ["all", "PER", "LOC", "seen", "unseen"]
    assert lines[1].split()[-1] == "16"
    assert re.fullmatch(r"expected calibration error 0\.\d{4}", lines[-2])
    assert lines[-1].startswith("8 posts without a photo, ")


def test_casing_is_as_written_lower_or_upper(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([*command, "--casing", "title"])
    assert "invalid choice: 'title' (choose from" in capsys.readouterr().err
    assert main([*command, "--casing", "upper"]) == 0


Spoil = Callable[[Path, Path], list[str]]  # of the data and a copy of the checkpoint; returns options


def unknown_types(data: Path, _: Path) -> list[str]:
    (data / "valid.txt").write_text("IMGID:1\nApollo\tB-SHIP\n11\tB-FILM\nRome\tB-LOC\n", "utf-8")
    return []


def untagged(data: Path, _: Path) -> list[str]:
    (data / "raw.jsonl").write_text('{"text": "hi"}\n', "utf-8")
    return ["--split", "raw"]


def changed_checkpoint(_: Path, checkpoint: Path) -> list[str]:
    (checkpoint / "README.md").write_text("forged", "utf-8")
    return []


def features(data: Path, *, width: int, **metadata: str) -> list[str]:
    path = data / "f.safetensors"
    save_file({"features": torch.randn(1, 4, width)}, path, {"image_ids": '["0"]', "encoder": "other", **metadata})
    return ["--image-features", str(path)]


def other_weights(data: Path, checkpoint: Path) -> list[str]:
    (own,) = (checkpoint / "run").glob("image-features-*.safetensors")
    with safe_open(own, "pt") as file:
        stale = json.loads(file.metadata()["fingerprint"]) | {"weights": "others"}
    return features(data, width=256, encoder="timm:test_efficientnet", fingerprint=json.dumps(stale))


@pytest.mark.parametrize(
    ("spoil", "problem"),
    [
        (lambda *_: ["--split", "test"], "no test.txt or test.jsonl"),
        (unknown_types, "valid has types that the checkpoint does not know: FILM, SHIP (it knows PER, LOC)"),
        (untagged, "raw has no tagged posts"),
        (changed_checkpoint, "README.md: changed"),
        (lambda data, _: features(data, width=7), "features are 7 wide, the checkpoint wants 256"),
        (
            lambda data, _: features(data, width=256, encoder="timm:test_efficientnet_ln", fingerprint="{}"),
            "features of timm:test_efficientnet_ln, not of timm:test_efficientnet",
        ),
        (other_weights, "weights others, not"),
        (lambda data, _: ["--report", str(data / "absent" / "report.json")], "report.json: there is no such folder"),
    ],
)
def test_a_mistake_is_one_line(
    command: list[str],
    overfitted: tuple[RunResult, DataSource],
    source: DataSource,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    spoil: Spoil,
    problem: str,
) -> None:
    shutil.copytree(overfitted[0].checkpoint, tmp_path / "copy")
    options = spoil(source.path, tmp_path / "copy")
    assert main([*command, "--checkpoint", str(tmp_path / "copy"), *options]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("smner-evaluate: ")
    assert problem in line


def test_a_runs_own_features_fit(command: list[str], overfitted: tuple[RunResult, DataSource]) -> None:
    """They are checked before the image encoder is folded, which changes its weights."""
    (own,) = (overfitted[0].checkpoint / "run").glob("image-features-*.safetensors")
    assert main([*command, "--image-features", str(own)]) == 0


def test_images_and_features_exclude_each_other(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main([*command, "--images", "a", "--image-features", "b"])
    assert caught.value.code == 2
    assert "not allowed with argument" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--report", "--errors"])
def test_output_folders_are_checked_before_measuring(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, option: str
) -> None:
    monkeypatch.setattr("training.cli.evaluate.run_on_split", lambda *_, **__: pytest.fail("measured"))
    assert main([*command, option, str(tmp_path / "absent" / "file")]) == 2


def test_mistakes_are_written_as_a_page(command: list[str], source: DataSource, tmp_path: Path) -> None:
    """The eight posts are known by heart; then each Anna is tagged as a place.

    So both posts with "Anna" have a wrong type. In both with "Anna Smith", found as one PER, "Anna" and "Smith" are a
    LOC and a PER by now; one of them is compared with it, the other has been missed.
    """
    valid = source.path / "valid.txt"
    valid.write_text(valid.read_text("utf-8").replace("Anna\tB-PER", "Anna\tB-LOC"), "utf-8")
    assert main([*command, "--images", str(source.images), "--errors", str(tmp_path / "errors.html")]) == 0
    html = (tmp_path / "errors.html").read_text("utf-8")
    assert re.findall(r"<h2>(.*)</h2>", html) == ["missed: 2", "wrong type: 2", "wrong border: 2"]
    assert "<title>Mistakes of run on eight valid</title>" in html
    assert html.count("<img ") == 2  # posts 0 and 2 have a wrong type and a photo
