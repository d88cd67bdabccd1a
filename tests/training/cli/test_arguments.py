import argparse
from pathlib import Path

import pytest

from training.cli.arguments import add_data_arguments


@pytest.fixture
def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser()
    add_data_arguments(parser, required=True)
    return parser


def test_each_data_has_its_own_images(parser: argparse.ArgumentParser) -> None:
    options = ["--data", "a", "--images", "ai", "--data", "b"]
    options += ["--data", "c", "--image-features", "cf", "--images", "ci"]
    assert parser.parse_args(options).data == [
        {"path": Path("a"), "images": Path("ai")},
        {"path": Path("b")},
        {"path": Path("c"), "image_features": Path("cf"), "images": Path("ci")},
    ]


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (["--data", "a", "--images", "b", "--images", "c"], "--images is given twice for a"),
        (["--images", "x", "--data", "a"], "--images must follow the --data whose photos it names"),
        (["--image-features", "x", "--data", "a"], "--image-features must follow the --data whose photos it names"),
    ],
)
def test_misplaced_images_are_refused(
    parser: argparse.ArgumentParser, capsys: pytest.CaptureFixture[str], options: list[str], problem: str
) -> None:
    with pytest.raises(SystemExit) as caught:
        parser.parse_args(options)
    assert caught.value.code == 2
    assert problem in capsys.readouterr().err
