import json
import re
from pathlib import Path
from typing import Any

import pytest

from model.checkpoint import bundled_checkpoints
from service.inference.engine import _STOP_SECONDS
from service.settings import Settings
from tests.deploy.conftest import DOCKER, OPERATIONS, ROOT, compose, run, stack, venv_command

SERVICES = {"smner", "smner-1", "proxy", "prometheus", "grafana", "train"}
REPLICAS = ("smner", "smner-1")


def seconds(duration: str) -> int:
    """Parse a duration of Compose, such as 2m0s."""
    match = re.fullmatch(r"(?:(\d+)m)?(?:(\d+)s)?", duration)
    assert match, duration
    minutes, rest = (int(part or 0) for part in match.groups())
    return 60 * minutes + rest


def devices(service: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = service["deploy"]["resources"].get("reservations", {}).get("devices", [])
    return found


@pytest.mark.parametrize("cpu", [False, True])
def test_stack_follows_the_compose_specification(cpu: bool) -> None:
    assert set(stack(cpu=cpu)["services"]) == SERVICES


def test_compose_reports_a_mistyped_key(tmp_path: Path) -> None:
    copy = tmp_path / "docker-compose.yml"
    copy.write_text((ROOT / "docker-compose.yml").read_text("utf-8").replace("ports:", "prots:", 1), "utf-8")
    done = run(venv_command("docker-compose"), f"--file={copy}", "config", "--quiet")
    assert done.returncode != 0
    assert "prots" in done.stdout


@pytest.mark.parametrize(
    ("profile", "services"),
    [
        ("none", {"smner"}),
        ("scale", {"smner", "smner-1", "proxy"}),
        ("monitoring", {"smner", "prometheus", "grafana"}),
        ("training", {"smner", "train"}),
    ],
)
def test_profile_starts_its_services(profile: str, services: set[str]) -> None:
    assert set(compose(f"--profile={profile}", "config", "--services").stdout.split()) == services


def test_every_replica_has_its_own_gpu() -> None:
    services = stack()["services"]
    expected = [[{"driver": "nvidia", "device_ids": [gpu], "capabilities": ["gpu"]}] for gpu in ("0", "1")]
    assert [devices(services[name]) for name in REPLICAS] == expected
    assert {services[name]["environment"]["SMNER_DEVICE"] for name in REPLICAS} == {"cuda"}


def test_cpu_override_needs_neither_gpu_nor_cuda_torch() -> None:
    for name in (*REPLICAS, "train"):
        service = stack(cpu=True)["services"][name]
        assert devices(service) == []
        assert service["build"]["args"]["TORCH_INDEX"].endswith("/cpu")
        assert service["image"] != stack()["services"][name]["image"]
    assert stack(cpu=True)["services"]["smner"]["environment"]["SMNER_DEVICE"] == "cpu"


@pytest.mark.parametrize("cpu", [False, True])
def test_every_container_is_hardened_and_limited(cpu: bool) -> None:
    for name, service in stack(cpu=cpu)["services"].items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert {"cpus", "memory"} <= set(service["deploy"]["resources"]["limits"]), name
        assert service["restart"] == ("no" if name == "train" else "unless-stopped"), name
        assert not service.get("privileged"), name


def test_ports_are_published_on_localhost_only() -> None:
    published = {name: service.get("ports", []) for name, service in stack()["services"].items()}
    assert {port["host_ip"] for ports in published.values() for port in ports} == {"127.0.0.1"}
    assert published["smner-1"] == []  # it cannot share the port of smner; the proxy reaches it


def test_stop_grace_period_exceeds_delay_and_drain() -> None:
    needed = Settings().drain_seconds + _STOP_SECONDS
    services = stack()["services"]
    assert seconds(services["proxy"]["stop_grace_period"]) > needed
    for name in REPLICAS:
        delay = float(services[name]["environment"]["SMNER_SHUTDOWN_DELAY_SECONDS"])
        assert seconds(services[name]["stop_grace_period"]) > delay + needed, name


def test_stack_sets_only_known_settings() -> None:
    known = {f"SMNER_{name.upper()}" for name in Settings.model_fields}
    for name in REPLICAS:
        assert set(stack()["services"][name]["environment"]) <= known


def test_empty_variable_leaves_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in stack(cpu=True)["services"]["smner"]["environment"].items():
        monkeypatch.setenv(name, value)
    settings = Settings()
    assert settings.api_keys_file is None
    assert settings.max_pending_posts == Settings.model_fields["max_pending_posts"].default


@pytest.mark.parametrize(("cpu", "name"), [(False, "smner-base"), (True, "smner-compact")])
def test_the_checkpoint_fits_the_device(cpu: bool, name: str) -> None:
    assert {stack(cpu=cpu)["services"][own]["environment"]["SMNER_CHECKPOINT"] for own in REPLICAS} == {name}
    assert name in bundled_checkpoints()


@pytest.mark.parametrize("cpu", [False, True])
def test_model_threads_equal_the_cpu_limit(cpu: bool) -> None:
    service = stack(cpu=cpu)["services"]["smner"]
    assert int(service["environment"]["SMNER_MODEL_THREADS"]) == service["deploy"]["resources"]["limits"]["cpus"]


def test_foreign_images_are_pinned_to_a_release() -> None:
    services = stack()["services"].values()
    ours = {service["image"] for service in services if "build" in service}
    for image in {service["image"] for service in services} - ours:
        assert re.fullmatch(r"[a-z/]+:v?\d+\.\d+\.\d+(-alpine)?", image)


@pytest.mark.parametrize("cpu", [False, True])
def test_smner_image_pins_every_replica(cpu: bool) -> None:
    services = stack(cpu=cpu, SMNER_IMAGE="registry/smner:2026-12-01")["services"]
    assert {services[name]["image"] for name in REPLICAS} == {"registry/smner:2026-12-01"}


def test_mounts_are_existing_folders() -> None:
    volumes = [volume for service in stack()["services"].values() for volume in service.get("volumes", [])]
    sources = [Path(volume["source"]) for volume in volumes if volume["type"] == "bind"]
    ours = [source for source in sources if source.is_relative_to(DOCKER)]
    assert len(ours) >= 6
    # the container would keep the old content of a file that is replaced by renaming, as editors and git do
    assert [path for path in ours if not path.is_dir()] == []


def test_operations_explains_every_variable() -> None:
    lines = compose("--profile=*", "config", "--variables").stdout.splitlines()
    variables = {line.split()[0] for line in lines[1:]}
    assert {"PUBLISH", "SMNER_GPU_1", "TRAINING_DATA"} <= variables
    text = OPERATIONS.read_text("utf-8")
    assert {name for name in variables if f"`{name}`" not in text} == set()


def test_smner_env_reaches_every_replica(tmp_path: Path) -> None:
    # docker-compose.override.yml would change smner only: smner-1 extends the original
    (tmp_path / "smner.env").write_text("SMNER_DEADLINE_SECONDS=7\n", "utf-8")
    (tmp_path / "docker").mkdir()
    files = ("docker-compose.yml", "docker/compose.cpu.yml")
    for file in files:
        (tmp_path / file).write_text((ROOT / file).read_text("utf-8"), "utf-8")
    for chosen in (files[:1], files):
        arguments = [f"--file={tmp_path / file}" for file in chosen]
        done = run(venv_command("docker-compose"), *arguments, "--profile=*", "config", "--format=json")
        assert done.returncode == 0, done.stdout
        services = json.loads(done.stdout)["services"]
        assert {services[name]["environment"]["SMNER_DEADLINE_SECONDS"] for name in REPLICAS} == {"7"}


PROXY = (DOCKER / "haproxy" / "haproxy.cfg").read_text("utf-8")


def test_proxy_lists_every_replica() -> None:
    servers = dict(re.findall(r"^  server (\S+) (\S+)$", PROXY, re.MULTILINE))
    assert servers == {name: f"{name}:8000" for name in REPLICAS}


def test_proxy_threads_fit_the_pids_limit() -> None:
    """Also during a reload, when two processes run. The default is a thread per core, which can exceed the limit."""
    (threads,) = re.findall(r"^  nbthread (\d+)", PROXY, re.MULTILINE)
    assert stack()["services"]["proxy"]["deploy"]["resources"]["limits"]["pids"] > 4 * int(threads)


def test_proxy_health_check_asks_the_internal_port() -> None:
    proxy = stack()["services"]["proxy"]
    port, path = proxy["healthcheck"]["test"][-1].removeprefix("http://127.0.0.1:").split("/")
    assert f"frontend metrics\n  bind :{port}\n  monitor-uri /{path}\n" in PROXY
    assert [published["target"] for published in proxy["ports"]] == [8080]
