import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from model import Recognizer
from tests.training.tiny_run import BY_HEART
from training.cli.figures import draw, history, main
from training.data.sources import DataSource
from training.figures.plots import confusion_matrix
from training.learning.run import RunResult

ALL = ["learning-curves", "confusion", "span-width", "mentions", "reliability", "alignment"]


@pytest.fixture
def recognizer(overfitted: tuple[RunResult, DataSource]) -> Recognizer:
    """The run that knows its eight posts by heart."""
    return Recognizer.from_pretrained(overfitted[0].checkpoint, device="cpu")


def titles(figure: Any) -> list[str]:
    return [axes.get_title() for axes in figure.axes]


def test_one_command_draws_everything(
    overfitted: tuple[RunResult, DataSource],
    source: DataSource,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    command = ["--checkpoint", str(overfitted[0].checkpoint), "--data", str(source.path), "--split", "valid"]
    output = tmp_path / "figures"
    assert main([*command, "--images", str(source.images), "--output", str(output), "--device", "cpu"]) == 0
    assert capsys.readouterr().out.split() == [str(output / f"{name}.png") for name in ALL]
    for name in ALL:
        with Image.open(output / f"{name}.png") as figure:
            assert min(figure.size) >= 500
            assert len(figure.convert("RGB").getcolors(1 << 20) or []) > 10


def test_figures_without_data_are_left_out(recognizer: Recognizer, source: DataSource) -> None:
    """No run, no images, no train split for seen mentions."""
    (source.path / "train.txt").unlink()
    drawn = [name for name, _ in draw(recognizer, DataSource(source.path), "valid", None)]
    assert drawn == ["confusion", "span-width", "reliability"]


def test_the_confusion_matrix_shows_the_counts(recognizer: Recognizer, source: DataSource) -> None:
    """All of the 8 PER and 8 LOC are known by heart; then each Anna is tagged as a place.

    So both posts with "Anna" have a PER that should be a LOC, and in both with "Anna Smith", found as one PER, "Anna"
    and "Smith", a LOC and a PER by now, are missed and "Anna Smith" is spurious.
    """
    valid = source.path / "valid.txt"
    valid.write_text(valid.read_text("utf-8").replace("Anna\tB-PER", "Anna\tB-LOC"), "utf-8")
    figure = dict(draw(recognizer, DataSource(source.path), "valid", None))["confusion"]
    (axes,) = figure.axes
    texts = [text.get_text() for text in axes.texts]
    assert texts[:3] == ["4\n67%", "0\n0%", "2\n33%"]
    assert texts[3:6] == ["2\n17%", "8\n67%", "2\n17%"]
    assert texts[6:] == ["2", "0"]  # spurious; what is neither there nor found is not counted
    assert [label.get_text() for label in axes.get_yticklabels()] == ["PER", "LOC", "spurious"]


def test_widths_and_mentions_show_scores_and_counts(recognizer: Recognizer, source: DataSource) -> None:
    """Twelve entities are one word and four, Anna Smith and Bob Smith, two; Rome alone is tagged in training."""
    (source.path / "train.txt").write_text("IMGID:1\nRome\tB-LOC\n", "utf-8")
    figures = dict(draw(recognizer, DataSource(source.path), "valid", None))
    labels = {
        name: [label.get_text() for label in figures[name].axes[0].get_xticklabels()]
        for name in ("span-width", "mentions")
    }
    assert labels == {"span-width": ["1\n12 gold", "2\n4 gold"], "mentions": ["seen\n4 gold", "not seen\n12 gold"]}
    assert [text.get_text() for text in figures["span-width"].axes[0].texts] == ["1.00"] * 6


def test_of_untagged_posts_held_out_ones_are_shown(recognizer: Recognizer, source: DataSource, tmp_path: Path) -> None:
    assert source.images is not None
    lines = [json.dumps({"id": f"post {i}", "text": "hi", "image": str(source.images / f"{i}.png")}) for i in (0, 2, 4)]
    (source.path / "posts.jsonl").write_text("\n".join(lines), "utf-8")
    run = tmp_path / "run"
    run.mkdir()
    ((_, every),) = draw(recognizer, DataSource(source.path), "posts", None)
    (run / "held_out.txt").write_text("post 0\npost 4\n", "utf-8")
    (run / "metrics.jsonl").write_text(json.dumps({"epoch": 1.0, "loss": 1.0, "loss_spans": 1.0}), "utf-8")
    _, (_, kept_out) = draw(recognizer, DataSource(source.path), "posts", run)
    (run / "held_out.txt").write_text("another data's\n", "utf-8")
    _, (_, others) = draw(recognizer, DataSource(source.path), "posts", run)
    assert titles(every)[0].startswith("(a) before CMIB, 3 posts")
    assert titles(kept_out)[0].startswith("(a) before CMIB, 2 posts")
    assert titles(others)[0].startswith("(a) before CMIB, 3 posts")


def test_broken_images_leave_out_the_alignment(
    recognizer: Recognizer, source: DataSource, capsys: pytest.CaptureFixture[str]
) -> None:
    assert source.images is not None
    for image in source.images.iterdir():
        image.write_bytes(b"\x89PNG")
    assert [name for name, _ in draw(recognizer, source, "valid", None)] == [
        "confusion",
        "span-width",
        "mentions",
        "reliability",
    ]
    assert "alignment is not drawn: none of the photos can be read" in capsys.readouterr().err


@pytest.mark.parametrize("types", [["PER"], ["PER", "LOC"], ["PER", "LOC", "ORG", "MISC"]])
def test_the_confusion_matrix_shows_its_whole_title(types: list[str]) -> None:
    figure = confusion_matrix([[1] * (len(types) + 1)] * (len(types) + 1), types)
    figure.draw_without_rendering()
    title = figure.axes[0].title.get_window_extent()
    assert title.x0 >= 0
    assert title.x1 <= figure.bbox.x1


def test_the_curves_are_those_of_the_whole_run(overfitted: tuple[RunResult, DataSource]) -> None:
    logged = history(overfitted[0].checkpoint / "run")
    assert [entry["epoch"] for entry in logged if "eval_f1" in entry] == list(range(1, BY_HEART["epochs"] + 1))


def test_a_mistake_is_one_line(source: DataSource, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--data", str(source.path), "--split", "test", "--output", str(tmp_path), "--device", "cpu"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("smner-figures: ")
    assert line.endswith("no test.txt or test.jsonl")
