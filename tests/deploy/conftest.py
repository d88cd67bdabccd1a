"""The files that deploy the service, and the tools that check them."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.service.conftest import client, make_recognizer, scripted, serve, shared, shared_smner

__all__ = ["client", "make_recognizer", "scripted", "serve", "shared", "shared_smner"]

ROOT = Path(__file__).parents[2]
DOCKER = ROOT / "docker"
OPERATIONS = ROOT / "docs" / "operations.md"


def run(*command: str | Path, env: dict[str, str] | None = None) -> "subprocess.CompletedProcess[str]":
    """Run a tool in the root of the repository; its standard error goes to its output."""
    return subprocess.run(command, cwd=ROOT, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def venv_command(name: str) -> Path:
    """The path of a command installed beside this Python."""
    return Path(sys.executable).parent / name


def system_command(name: str) -> str:
    """The path of a command from an operating system package; skips the test without it."""
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"{name} is not installed")
    return path


def compose(*arguments: str, cpu: bool = False, **variables: str) -> "subprocess.CompletedProcess[str]":
    """Run ``docker compose`` on our files, without variables of the caller's environment."""
    files = ["docker-compose.yml", *(["docker/compose.cpu.yml"] if cpu else [])]
    env = {"PATH": os.environ["PATH"], "COMPOSE_DISABLE_ENV_FILE": "1", **variables}
    return run(venv_command("docker-compose"), *(f"--file={file}" for file in files), *arguments, env=env)


def stack(*, cpu: bool = False, **variables: str) -> dict[str, Any]:
    """The stack with all profiles, as compose resolves it."""
    done = compose("--profile=*", "config", "--format=json", cpu=cpu, **variables)
    assert done.returncode == 0, done.stdout
    parsed: dict[str, Any] = json.loads(done.stdout)
    return parsed


def load_yaml(path: Path) -> Any:
    return yaml.safe_load(path.read_text("utf-8"))


def alerts() -> list[dict[str, Any]]:
    groups = load_yaml(DOCKER / "prometheus" / "rules.yml")["groups"]
    return [rule for group in groups for rule in group["rules"] if "alert" in rule]
