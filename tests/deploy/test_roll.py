"""docker/roll.sh with a stand-in for ``docker compose`` that records its arguments."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.deploy.conftest import DOCKER, run

COMPOSE = """#!/bin/sh
case "$1" in
  exec)
    read -r order
    echo "$order" >> "$LOG"
    case "$order" in
      show*) echo "3 smner 1 smner 10.0.0.1 $STATE 0"; echo "3 smner 2 smner-1 10.0.0.2 $STATE 0" ;;
    esac ;;
  *) echo "$*" >> "$LOG"; [ "$*" != "$FAILING" ] ;;
esac
"""
RUNNING, STOPPED = 2, 0  # HAProxy's srv_op_state
UP = "up --detach --no-deps --force-recreate --wait"


@pytest.fixture
def log(tmp_path: Path) -> Path:
    (tmp_path / "compose").write_text(COMPOSE, "utf-8")
    (tmp_path / "compose").chmod(0o755)
    (tmp_path / "sleep").symlink_to("/bin/true")  # the test does not wait
    return tmp_path / "log"


def roll(log: Path, *replicas: str, failing: str = "", state: int = RUNNING) -> "subprocess.CompletedProcess[str]":
    stand_in = {"COMPOSE": str(log.parent / "compose"), "LOG": str(log), "FAILING": failing}
    stand_in |= {"STATE": str(state), "PATH": f"{log.parent}:{os.environ['PATH']}"}
    return run(DOCKER / "roll.sh", *replicas, env={**os.environ, **stand_in})


def test_roll_replaces_one_replica_after_the_other(log: Path) -> None:
    assert roll(log, "smner", "smner-1").returncode == 0
    assert log.read_text("utf-8").splitlines() == [
        f"{UP} smner",
        "show servers state smner",
        f"{UP} smner-1",
        "show servers state smner",
    ]


def test_roll_stops_at_a_replica_that_fails(log: Path) -> None:
    assert roll(log, "smner", "smner-1", failing=f"{UP} smner").returncode != 0
    assert log.read_text("utf-8").splitlines() == [f"{UP} smner"]


def test_roll_waits_until_the_proxy_sees_the_replica(log: Path) -> None:
    """Without waiting, the proxy had no replica for a second and closed its clients' connections."""
    done = roll(log, "smner", "smner-1", state=STOPPED)
    assert done.returncode == 1
    assert "does not consider smner ready" in done.stdout
    assert f"{UP} smner-1" not in log.read_text("utf-8").splitlines()


def test_roll_refuses_a_single_replica(log: Path) -> None:
    assert roll(log, "smner").returncode == 2
    assert not log.exists()
