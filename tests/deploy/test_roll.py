"""docker/roll.sh between the real proxy, real services and a stand-in for Docker."""

import os
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

import httpx
import pytest

from tests.deploy.conftest import DOCKER, run, system_command
from tests.deploy.conftest import stack as compose_stack
from tests.deploy.containers import Docker, command
from tests.deploy.proxying import Names, free_port, proxying
from tests.service.conftest import ScriptedRecognizer, Serve, form

NOTICE_SECONDS = float(compose_stack()["services"]["smner"]["environment"]["SMNER_SHUTDOWN_DELAY_SECONDS"])


class Stack:
    """Two containers and a client of the proxy."""

    def __init__(self, docker: Docker, docker_command: Path, client: httpx.Client) -> None:
        self.docker = docker
        self._command = docker_command
        self._client = client

    def roll(self, *services: str, seconds: int = 30) -> "subprocess.CompletedProcess[str]":
        ours = {"COMPOSE": f"{self._command} compose", "DOCKER": str(self._command), "SECONDS_TO_START": str(seconds)}
        return run(DOCKER / "roll.sh", *services, env={**os.environ, **ours})

    def ask_until(self, over: Event) -> set[int]:
        """The statuses of posts sent one after the other."""
        statuses = set()
        while not over.is_set():
            statuses.add(self._client.post("/recognize", files=form()).status_code)
        return statuses


@pytest.fixture
def stack(make_recognizer: Callable[[], ScriptedRecognizer], serve: Serve, tmp_path: Path) -> Iterator[Stack]:
    system_command("haproxy")
    port, admin_port, names = free_port(), free_port(), Names()
    options = {"port": port, "shutdown_delay_seconds": NOTICE_SECONDS}
    docker = Docker(lambda number: serve(make_recognizer(), host=f"127.0.1.{number}", **options), names, admin_port)
    docker.scale(2)
    replicas = (f"127.0.1.1:{port}", f"127.0.1.2:{port}")
    with (
        command(docker, tmp_path) as path,
        proxying(tmp_path, *replicas, names=names, admin_port=admin_port) as client,
    ):
        yield Stack(docker, path, client)


def test_roll_replaces_all_and_loses_no_post(stack: Stack) -> None:
    over = Event()
    with ThreadPoolExecutor(2) as pool:
        asking = [pool.submit(stack.ask_until, over) for _ in range(2)]
        try:
            done = stack.roll("smner")
        finally:
            over.set()
        assert set().union(*(some.result() for some in asking)) == {200}
    assert done.returncode == 0, done.stdout
    one_more = "compose up --detach --no-deps --no-recreate --scale smner=3 smner"
    replaced = [order for old in ("c1", "c2") for order in (one_more, f"stop {old}", f"rm {old}")]
    assert stack.docker.orders == ["compose rm --force smner", *replaced]
    assert list(stack.docker.containers) == ["c3", "c4"]


def test_roll_removes_a_replica_that_exits(stack: Stack) -> None:
    stack.docker.broken = True
    done = stack.roll("smner")
    assert done.returncode == 1
    assert "checkpoint: no such folder" in done.stdout  # the end of its log
    assert "does not consider the new smner ready; nothing else was changed" in done.stdout
    assert list(stack.docker.containers) == ["c1", "c2"]


def test_roll_gives_up_on_a_slow_replica(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.deploy.containers.states", lambda _: {"127.0.1.3": 0})  # it never gets posts
    done = stack.roll("smner", seconds=1)
    assert done.returncode == 1
    assert list(stack.docker.containers) == ["c1", "c2"]


def test_roll_waits_until_the_container_is_healthy(stack: Stack) -> None:
    """The proxy already sends it posts."""
    stack.docker.health = "starting"
    done = stack.roll("smner", seconds=3)
    assert done.returncode == 1
    assert list(stack.docker.containers) == ["c1", "c2"]


def test_roll_of_nothing_fails(stack: Stack) -> None:
    stack.docker.containers.clear()
    done = stack.roll("smner")
    assert done.returncode == 1
    assert "no smner runs" in done.stdout


def test_roll_needs_the_name_of_a_service() -> None:
    done = run(DOCKER / "roll.sh", env={"PATH": "/bin:/usr/bin", "COMPOSE": "false", "DOCKER": "false"})
    assert done.returncode == 2
    assert "usage: " in done.stdout
