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
STAGES: dict[str, str] = dict(
    re.findall(r"^FROM \S+ AS (\w+)\n(.*?)(?=^FROM|\Z)", DOCKERFILE, re.MULTILINE | re.DOTALL)
)
INSTALL = (DOCKER / "install.sh").read_text("utf-8")
CONSTRAINTS = (ROOT / "constraints.txt").read_text("utf-8")
FINAL = {"service": "smner-serve", "bulk": "smner-recognize", "training": "smner-train"}


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


@pytest.mark.parametrize(("name", "command"), FINAL.items())
def test_entrypoint_has_no_shell_and_no_root(name: str, command: str) -> None:
    # a shell as the first process would swallow SIGTERM
    entrypoint = re.findall(r"^ENTRYPOINT (.+)$", STAGES[name], re.MULTILINE)[-1]
    assert json.loads(entrypoint) == [command]
    assert command in PROJECT["scripts"]
    assert (
        re.findall(r"^USER (.+)$", STAGES[name], re.MULTILINE)[-1] == "10001:10001"
    )  # numeric, as Kubernetes requires


def test_service_is_the_default_target() -> None:
    assert list(STAGES)[-1] == "service"


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
    [
        ([], PROJECT["dependencies"]),
        (["train"], PROJECT["optional-dependencies"]["train"]),
        (["train", "bench"], [*PROJECT["optional-dependencies"]["train"], *PROJECT["optional-dependencies"]["bench"]]),
    ],
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


def test_every_install_is_constrained_and_cached() -> None:
    commands = re.findall(r"^RUN ((?:.*\\\n)*.*)$", DOCKERFILE, re.MULTILINE)
    installs = [command for command in commands if re.search(r"pip .*install|install\.sh", command)]
    code = [command for command in installs if "--no-deps" in command]
    # the code is installed without dependencies, and built with the setuptools installed before it
    assert ["--no-build-isolation" in command for command in code] == [True]
    assert "--constraint constraints.txt setuptools\n" in STAGES["application"]
    others = [command for command in installs if command not in code]
    assert len(others) == 7
    for command in others:
        assert "--constraint" in command or "install.sh" in command
        assert command.startswith("--mount=type=cache,target=/root/.cache/pip ")
    assert INSTALL.count("--constraint constraints.txt") == INSTALL.count('"$python" install ') == 1
    assert "\ncyclonedx-bom==" in CONSTRAINTS


def pins(block: str) -> dict[str, str]:
    lines = [line for line in block.splitlines() if line and not line.startswith("#")]
    return {canonicalize_name(name): version for name, version in (line.split("==") for line in lines)}


def with_all_they_need(wanted: list[Requirement]) -> set[str]:
    """The names of these packages and of all that they need here, directly or not."""
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
    return {name for name, _ in seen}


def test_constraints_cover_all_transitive_dependencies() -> None:
    extras = PROJECT["optional-dependencies"]
    lines = [*PROJECT["dependencies"], *extras["train"], *extras["traces"]]
    assert with_all_they_need(list(map(Requirement, lines))) - set(pins(CONSTRAINTS)) == set()


def test_torch_has_a_layer_of_its_own() -> None:
    """Else a new version of a linter would install, push and pull gigabytes."""
    first, rest = CONSTRAINTS.split("\n\n")
    assert set(pins(first)) == with_all_they_need([Requirement("torch"), Requirement("torchvision")])
    assert set(pins(first)) & set(pins(rest)) == set()
    assert "RUN sed '/^$/q' constraints.txt > torch.txt\n" in STAGES["pins"]
    assert re.findall(r"^COPY .*", STAGES["torch"], re.MULTILINE) == [
        "COPY --from=pins /build/torch.txt /build/torch.txt"
    ]
    copies = re.findall(r"^COPY .*", STAGES["runtime"], re.MULTILINE)
    assert copies[0] == "COPY --from=torch /opt/venv /opt/venv"
    assert STAGES["runtime"].index(copies[0]) < STAGES["runtime"].index("constraints.txt")


def test_commands_run_in_the_environment_with_torch() -> None:
    """pip writes the Python that it runs in into the first line of each command."""
    assert "RUN /opt/venv/bin/pip install --no-cache-dir --no-deps " in STAGES["application"]
    assert "python -m venv --without-pip /opt/venv\n" in STAGES["torch"]


@pytest.mark.parametrize("name", FINAL)
def test_code_and_revision_come_last(name: str) -> None:
    """Docker builds all layers after a changed one again, and these change with every commit."""
    stage = STAGES[name]
    after = stage[stage.index("COPY --from=application ") :]
    assert "\nRUN " not in after
    assert after.index("ARG REVISION") < after.index("org.opencontainers.image.revision")


def test_bill_of_materials_lists_what_was_installed() -> None:
    assert INSTALL.index(" install ") < INSTALL.index("cyclonedx-py environment") < INSTALL.index("/opt/sbom.cdx.json")
    runs = re.findall(r"^ +sh /opt/build/install\.sh(.*?)(?: \\)?$", DOCKERFILE, re.MULTILINE)
    assert [extras.split() for extras in runs] == [[], ["train"], ["bulk", "s3", "kuberay"], ["traces"]]
    assert {extra for extras in runs for extra in extras.split()} <= set(PROJECT["optional-dependencies"])
