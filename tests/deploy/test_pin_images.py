"""docker/pin-images.sh with a stand-in for ``docker buildx imagetools inspect``."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.deploy.conftest import DOCKER, ROOT, run, venv_command

DOCKER_COMMAND = """#!/bin/sh
[ "$1 $2 $3 $4 $5" = "buildx imagetools inspect --format {{.Manifest.Digest}}" ] || exit 64
echo "$6" >> "$LOG"
[ "$6" != "$FAILING" ] || exit 1
echo "sha256:$(echo "$6 $DAY" | sha256sum | cut -c1-64)"
"""
FILES = ("Dockerfile", "docker-compose.yml")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    for file in FILES:
        shutil.copy(ROOT / file, tmp_path)
    (tmp_path / "docker").write_text(DOCKER_COMMAND, "utf-8")
    (tmp_path / "docker").chmod(0o755)
    return tmp_path


def pin(checkout: Path, *, day: str = "1", failing: str = "") -> "subprocess.CompletedProcess[str]":
    stand_in = {"PATH": f"{checkout}:{os.environ['PATH']}", "LOG": str(checkout / "log"), "DAY": day}
    return run(DOCKER / "pin-images.sh", checkout, env={**os.environ, **stand_in, "FAILING": failing})


def contents(checkout: Path) -> str:
    return "\n".join((checkout / file).read_text("utf-8") for file in FILES)


def without_digests(text: str) -> str:
    return re.sub(r"@sha256:[0-9a-f]{64}", "", text)


def test_every_foreign_image_gets_a_digest(checkout: Path) -> None:
    assert pin(checkout).returncode == 0
    text = contents(checkout)
    foreign = re.findall(r"^(?:FROM|    image:) ([^$\s]+:\S+)", text, re.MULTILINE)
    assert len(foreign) >= 6
    for image in foreign:
        assert re.fullmatch(r"[a-z0-9./-]+:[\w.-]+@sha256:[0-9a-f]{64}", image), image
    assert without_digests(text) == without_digests(contents(ROOT))


def test_each_image_is_looked_up_once(checkout: Path) -> None:
    pin(checkout)
    asked = (checkout / "log").read_text("utf-8").splitlines()
    assert sorted(set(asked)) == asked
    assert "python:3.11-slim-bookworm" in asked


def test_digests_are_refreshed(checkout: Path) -> None:
    pin(checkout)
    first = contents(checkout)
    assert pin(checkout, day="2").returncode == 0
    second = contents(checkout)
    assert first != second
    assert without_digests(first) == without_digests(second)
    assert second.count("@sha256:") == first.count("@sha256:")


def test_failed_lookup_changes_no_file(checkout: Path) -> None:
    before = contents(checkout)
    assert pin(checkout, failing="python:3.11-slim-bookworm").returncode != 0
    assert contents(checkout) == before


def test_linter_accepts_the_pinned_dockerfile(checkout: Path) -> None:
    pin(checkout)
    done = run(venv_command("hadolint"), checkout / "Dockerfile")
    assert (done.returncode, done.stdout) == (0, "")
