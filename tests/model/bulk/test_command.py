"""Whole folders with ``smner-recognize``."""

import os
import signal
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from io import StringIO
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

from model.bulk import progress
from model.bulk.addresses import names_a_folder
from model.cli import main
from tests.model.bulk.folders import contents, some_posts, write_lines, write_table

Start = Callable[..., BaseProcess]


@pytest.fixture
def command(tiny_checkpoint: Path) -> list[str]:
    return ["--checkpoint", str(tiny_checkpoint), "--device", "cpu"]


@pytest.fixture
def posts(tmp_path: Path) -> Path:
    write_table(tmp_path / "posts" / "a.parquet", some_posts(3))
    write_lines(tmp_path / "posts" / "b.jsonl", [*some_posts(2), {"text": ""}])
    return tmp_path / "posts"


@pytest.mark.parametrize(
    ("source", "output", "folder"),
    [
        ("s3://bucket/posts.jsonl", "answers.jsonl", True),
        ("posts.jsonl", "s3://bucket/answers", True),
        ("posts.parquet", "answers", True),
        ("*.jsonl", "answers", True),
        ("posts.jsonl", "answers/", True),
        ("posts.jsonl", "answers.jsonl", False),
        ("posts.jsonl", "-", False),
        ("-", "answers.jsonl", False),
    ],
)
def test_folders_are_told_from_files(source: str, output: str, folder: bool) -> None:
    assert names_a_folder(source, output) is folder


def test_the_status_counts_posts_and_files(
    command: list[str], posts: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with a single file; and a file that is damaged is named."""
    monkeypatch.setattr(progress, "LOG_SECONDS", 0.0)
    files = ["--input", str(posts / "*"), "--output", str(tmp_path / "answers")]
    assert main([*command, *files]) == 1
    *log, last = capfd.readouterr().err.splitlines()
    assert last == "smner-recognize: 5 posts answered, 1 failed"
    assert any("smner-recognize: 2 of 2 files, 6 posts, " in line for line in log)
    (posts / "c.parquet").write_bytes(b"nothing")
    assert main([*command, *files]) == 2
    assert "; 1 file not answered, of which the first: " in capfd.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--input", "absent/*.parquet", "--output", "a"], "absent/*.parquet: there are no files of posts"),
        (["--input", "{posts}", "--output", "a.jsonl"], "--output a.jsonl: the answers go into a folder"),
        (["--input", "{posts}", "--output", "-"], "--output -: the answers go into a folder"),
        (
            ["--input", "{posts}", "--output", "a", "--shard", "2/2"],
            "--shard 2/2: expected K/N, with K from 0 to N - 1",
        ),
        (["--input", "{posts}", "--output", "a", "--images", "absent"], "--images absent: there is no such folder"),
        (
            ["--input", "{posts}", "--output", "a", "--images", "{posts}/b.jsonl"],
            "b.jsonl: there is no such folder",
        ),
        (["--input", "nowhere://posts/", "--output", "a"], "nowhere"),
        (["--input", "absent.parquet", "--output", "a"], "absent.parquet: there is no such file or folder"),
    ],
)
def test_a_folders_mistake_is_one_line(
    command: list[str], posts: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    """Told before anything is written."""
    assert main([*command, *(argument.format(posts=posts) for argument in arguments)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
    assert not Path("a").exists()


@pytest.mark.skipif(find_spec("ray") is not None, reason="Ray is installed")
def test_ray_is_asked_for_by_name(command: list[str], posts: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*command, "--input", str(posts), "--output", "a", "--ray", "auto"]) == 2
    assert capsys.readouterr().err == "smner-recognize: --ray auto needs the extra smner[bulk]\n"
    assert not Path("a").exists()


@pytest.mark.parametrize("option", [["--ray", "auto"], ["--shard", "0/2"], ["--images", "a"], ["--actors", "2"]])
def test_options_of_folders_need_a_folder(option: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--input", "posts.jsonl", "--output", "answers.jsonl", *option])
    assert f"{option[0]} goes with whole folders" in capsys.readouterr().err


@pytest.mark.parametrize("files", [["--input", "", "--output", "a"], ["--input", "a", "--output", ""]])
def test_an_empty_name_is_no_folder(files: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """It would be the current one, if a variable of a script is not set."""
    with pytest.raises(SystemExit):
        main(files)
    assert "--input and --output must not be empty" in capsys.readouterr().err


class Screen(StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_shows_one_line(
    command: list[str], posts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which is written over, and then the sentence that a log ends with, too."""
    screen = Screen()
    monkeypatch.setattr(sys, "stderr", screen)
    main([*command, "--input", str(posts), "--output", str(tmp_path / "answers")])
    bar, last = screen.getvalue().splitlines()[-2:]
    assert "2/2" in bar
    assert "6 posts, " in bar
    assert last == "smner-recognize: 5 posts answered, 1 failed"


def test_a_killed_command_goes_on(command: list[str], tmp_path: Path, start: Start) -> None:
    """The same, byte for byte, as if nothing had happened; one that is interrupted leaves nothing half."""
    for i in range(12):
        write_lines(tmp_path / "posts" / f"{i:02}.jsonl", some_posts(100, 100 * i))

    def run(output: str) -> BaseProcess:
        return start(lambda: main([*command, "--input", str(tmp_path / "posts"), "--output", str(tmp_path / output)]))

    answers = tmp_path / "answers"
    for name in (signal.SIGINT, signal.SIGKILL):
        before = len(list(answers.glob("[!_.]*")))
        child = run("answers")
        while len(list(answers.glob("[!_.]*"))) == before:
            assert child.is_alive()
            time.sleep(0.01)
        os.kill(child.pid or 0, name)
        child.join()
        if name == signal.SIGINT:
            assert not list(answers.glob(".*"))
    assert len(contents(tmp_path / "answers")) < 12
    for output in ("answers", "whole"):
        run(output).join()
    assert contents(tmp_path / "answers") == contents(tmp_path / "whole")
    assert len(contents(tmp_path / "whole")) == 13
