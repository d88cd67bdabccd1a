"""The Dockerfile and the files it copies. No image is built."""

import json
import os
import re
import subprocess
import sys
import tomllib
from importlib.metadata import requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.deploy.conftest import DOCKER, ROOT, run, venv_command
from tests.service.conftest import ScriptedRecognizer, Serve

DOCKERFILE = (ROOT / "Dockerfile").read_text("utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
SERVICE_STAGE = DOCKERFILE.split(" AS service\n")[1]
TRAINING_STAGE = DOCKERFILE.split(" AS training\n")[1].split("\nFROM ")[0]


def healthcheck(port: int) -> "subprocess.CompletedProcess[str]":
    # the check must ignore a proxy in the environment
    env = {**os.environ, "SMNER_PORT": str(port), "http_proxy": "http://127.0.0.1:9"}
    return run(sys.executable, DOCKER / "healthcheck.py", env=env)


def test_hadolint_accepts_the_dockerfile() -> None:
    done = run(venv_command("hadolint"), ROOT / "Dockerfile")
    assert (done.returncode, done.stdout) == (0, "")


def test_hadolint_reports_a_planted_mistake(tmp_path: Path) -> None:
    planted = tmp_path / "Dockerfile"
    planted.write_text(f"{DOCKERFILE}CMD smner-serve\n", "utf-8")
    assert "DL3025" in run(venv_command("hadolint"), planted).stdout


@pytest.mark.parametrize(("stage", "command"), [(SERVICE_STAGE, "smner-serve"), (TRAINING_STAGE, "smner-train")])
def test_entrypoint_has_no_shell_and_no_root(stage: str, command: str) -> None:
    # a shell as the first process would swallow SIGTERM
    entrypoint = re.findall(r"^ENTRYPOINT (.+)$", stage, re.MULTILINE)[-1]
    assert json.loads(entrypoint) == [command]
    assert command in PROJECT["scripts"]
    assert re.findall(r"^USER (.+)$", stage, re.MULTILINE)[-1] == "10001:10001"  # numeric, as Kubernetes requires


def test_service_is_the_default_target() -> None:
    assert re.findall(r"^FROM \S+ AS (\w+)$", DOCKERFILE, re.MULTILINE)[-1] == "service"


def test_dockerignore_sends_exactly_what_is_copied() -> None:
    copies = re.findall(r"^COPY (?!--from)(.+)$", DOCKERFILE, re.MULTILINE)
    copied = [source for arguments in copies for source in arguments.split()[:-1]]
    sent = {line[1:] for line in (ROOT / ".dockerignore").read_text("utf-8").splitlines() if line.startswith("!")}
    assert set(copied) == sent
    assert [path for path in copied if not (ROOT / path).exists()] == []


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="needs the list of tracked files")
def test_only_pyproject_has_the_version() -> None:
    found = run("git", "grep", "-I", "--fixed-strings", PROJECT["version"], "--", ":!constraints.txt").stdout
    ours = [line for line in found.splitlines() if f"=={PROJECT['version']}" not in line]  # else a dependency's
    assert ours == [f'pyproject.toml:version = "{PROJECT["version"]}"']


@pytest.mark.parametrize(
    ("extra", "expected"),
    [([], PROJECT["dependencies"]), (["train"], PROJECT["optional-dependencies"]["train"])],
)
def test_requirements_prints_the_project_dependencies(extra: list[str], expected: list[str]) -> None:
    done = run(sys.executable, DOCKER / "requirements.py", ROOT / "pyproject.toml", *extra)
    assert done.stdout.splitlines() == expected


def test_health_check_follows_readiness(scripted: ScriptedRecognizer, serve: Serve) -> None:
    running = serve(scripted)
    port = running.client.base_url.port or 0
    assert healthcheck(port).returncode == 0
    running.engine.stop()
    refused = healthcheck(port)
    assert refused.returncode == 1
    assert "503" in refused.stdout or "Connection" in refused.stdout


def test_health_check_fails_without_a_server() -> None:
    done = healthcheck(9)  # the discard port, where nothing listens
    assert done.returncode == 1
    assert "ConnectionRefusedError" in done.stdout


def test_build_tools_are_constrained() -> None:
    constraints = (ROOT / "constraints.txt").read_text("utf-8")
    assert "\ncyclonedx-bom==" in constraints
    assert DOCKERFILE.count("pip --python") + DOCKERFILE.count("/bin/pip install") == DOCKERFILE.count("--no-cache-dir")
    # the code is installed without dependencies, and built with the setuptools installed before it
    assert DOCKERFILE.count("--no-deps --no-build-isolation") == DOCKERFILE.count("--no-deps") == 1
    assert DOCKERFILE.count("--constraint") == DOCKERFILE.count("--no-cache-dir") - DOCKERFILE.count("--no-deps")
    assert "--constraint constraints.txt setuptools\n" in DOCKERFILE


def test_constraints_cover_all_transitive_dependencies() -> None:
    lines = (ROOT / "constraints.txt").read_text("utf-8").splitlines()[1:]
    pinned = {canonicalize_name(line.split("==")[0]) for line in lines}
    wanted = [Requirement(line) for line in [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["train"]]]
    seen: set[tuple[str, frozenset[str]]] = set()
    while wanted:
        requirement = wanted.pop()
        name = canonicalize_name(requirement.name)
        if (name, frozenset(requirement.extras)) in seen:
            continue
        seen.add((name, frozenset(requirement.extras)))
        for extra in requirement.extras or {""}:
            needed = map(Requirement, requires(name) or ())
            wanted += [one for one in needed if one.marker is None or one.marker.evaluate({"extra": extra})]
    assert {name for name, _ in seen} - pinned == set()


def test_training_bill_of_materials_covers_its_dependencies() -> None:
    install, bill = TRAINING_STAGE.index("/opt/training/requirements.txt"), TRAINING_STAGE.index("/opt/sbom.cdx.json")
    assert install < bill
    assert "cyclonedx-py environment" in TRAINING_STAGE
    assert "rm -r /opt/cyclonedx " in TRAINING_STAGE  # in the layer that created it
