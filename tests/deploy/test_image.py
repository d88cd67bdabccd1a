"""The Dockerfile and what it copies; the image itself is built by ``docker build``."""

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

from tests.deploy.conftest import DOCKER, ROOT, manifests, of_environment, run, stack
from tests.service.conftest import ScriptedRecognizer, Serve

DOCKERFILE = (ROOT / "Dockerfile").read_text("utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
SERVICE_STAGE = DOCKERFILE.split(" AS service\n")[1]
TRAINING_STAGE = DOCKERFILE.split(" AS training\n")[1].split("\nFROM ")[0]


def healthcheck(port: int) -> "subprocess.CompletedProcess[str]":
    # a proxy in the environment must not be asked for the container's own address
    env = {**os.environ, "SMNER_PORT": str(port), "http_proxy": "http://127.0.0.1:9"}
    return run(sys.executable, DOCKER / "healthcheck.py", env=env)


def test_hadolint_has_nothing_to_say() -> None:
    done = run(of_environment("hadolint"), ROOT / "Dockerfile")
    assert (done.returncode, done.stdout) == (0, "")


def test_hadolint_would_say_it(tmp_path: Path) -> None:
    planted = tmp_path / "Dockerfile"
    planted.write_text(f"{DOCKERFILE}CMD smner-serve\n", "utf-8")
    assert "DL3025" in run(of_environment("hadolint"), planted).stdout


@pytest.mark.parametrize(("stage", "command"), [(SERVICE_STAGE, "smner-serve"), (TRAINING_STAGE, "smner-train")])
def test_the_command_is_started_without_a_shell_by_a_user_without_rights(stage: str, command: str) -> None:
    # a shell as first process would keep SIGTERM to itself
    entrypoint = re.findall(r"^ENTRYPOINT (.+)$", stage, re.MULTILINE)[-1]
    assert json.loads(entrypoint) == [command]
    assert command in PROJECT["scripts"]
    assert re.findall(r"^USER (.+)$", stage, re.MULTILINE)[-1] == "10001:10001"  # a number, as Kubernetes wants it


def test_the_service_is_what_is_built_when_nothing_is_said() -> None:
    assert re.findall(r"^FROM \S+ AS (\w+)$", DOCKERFILE, re.MULTILINE)[-1] == "service"


def test_whatever_is_copied_is_sent_to_the_builder() -> None:
    copied = [
        source
        for arguments in re.findall(r"^COPY (?!--from)(.+)$", DOCKERFILE, re.MULTILINE)
        for source in arguments.split()[:-1]
    ]
    sent = {line[1:] for line in (ROOT / ".dockerignore").read_text("utf-8").splitlines() if line.startswith("!")}
    assert set(copied) == sent
    assert [path for path in copied if not (ROOT / path).exists()] == []


def test_there_is_one_version() -> None:
    version = PROJECT["version"]
    assert f'org.opencontainers.image.version="{version}"' in DOCKERFILE
    ours = {service["image"] for service in stack()["services"].values() if "build" in service}
    ours.add(manifests()[0]["spec"]["template"]["spec"]["containers"][0]["image"])
    assert {image.rsplit(":", 1)[1] for image in ours} == {version}


@pytest.mark.parametrize(
    ("extra", "expected"),
    [([], PROJECT["dependencies"]), (["train"], PROJECT["optional-dependencies"]["train"])],
)
def test_the_layer_of_dependencies_has_what_the_project_names(extra: list[str], expected: list[str]) -> None:
    done = run(sys.executable, DOCKER / "requirements.py", ROOT / "pyproject.toml", *extra)
    assert done.stdout.splitlines() == expected


def test_the_health_check_asks_whether_posts_are_taken(scripted: ScriptedRecognizer, serve: Serve) -> None:
    running = serve(scripted)
    port = running.client.base_url.port
    assert port is not None
    assert healthcheck(port).returncode == 0
    running.service.engine.stop()
    refused = healthcheck(port)
    assert refused.returncode == 1
    assert "503" in refused.stdout or "Connection" in refused.stdout


def test_the_health_check_fails_when_nobody_listens() -> None:
    done = healthcheck(9)  # discard, which nobody serves any more
    assert done.returncode == 1
    assert "ConnectionRefusedError" in done.stdout


def test_the_tools_of_the_build_are_constrained_too() -> None:
    constraints = (ROOT / "constraints.txt").read_text("utf-8")
    assert "\ncyclonedx-bom==" in constraints
    assert DOCKERFILE.count("pip --python") + DOCKERFILE.count("/bin/pip install") == DOCKERFILE.count("--no-cache-dir")
    # the code itself is installed without dependencies and built with what was installed before it
    assert DOCKERFILE.count("--no-deps --no-build-isolation") == DOCKERFILE.count("--no-deps") == 1
    assert DOCKERFILE.count("--constraint") == DOCKERFILE.count("--no-cache-dir") - DOCKERFILE.count("--no-deps")
    assert "--constraint constraints.txt setuptools\n" in DOCKERFILE


def test_whatever_the_project_brings_along_has_a_version_that_was_tested() -> None:
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


def test_the_bill_of_materials_of_the_training_is_made_of_what_the_training_has() -> None:
    install, bill = TRAINING_STAGE.index("/opt/training/requirements.txt"), TRAINING_STAGE.index("/opt/sbom.cdx.json")
    assert install < bill
    assert "cyclonedx-py environment" in TRAINING_STAGE
    assert "rm -r /opt/cyclonedx " in TRAINING_STAGE  # in the same layer
