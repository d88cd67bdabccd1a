import json
import re
from pathlib import Path
from typing import Any

import pytest

from service.inference.engine import _STOP_SECONDS
from service.settings import Settings
from tests.deploy.conftest import DOCKER, OPERATIONS, ROOT, compose, of_environment, run, stack

SERVICES = {"smner", "smner-1", "proxy", "prometheus", "grafana", "train"}
REPLICAS = ("smner", "smner-1")


def seconds(duration: str) -> int:
    """Compose's durations, such as 2m0s."""
    match = re.fullmatch(r"(?:(\d+)m)?(?:(\d+)s)?", duration)
    assert match, duration
    minutes, rest = (int(part or 0) for part in match.groups())
    return 60 * minutes + rest


def devices(service: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = service["deploy"]["resources"].get("reservations", {}).get("devices", [])
    return found


@pytest.mark.parametrize("cpu", [False, True])
def test_the_stack_follows_the_compose_specification(cpu: bool) -> None:
    assert set(stack(cpu=cpu)["services"]) == SERVICES


def test_what_does_not_follow_the_specification_is_found(tmp_path: Path) -> None:
    copy = tmp_path / "docker-compose.yml"
    copy.write_text((ROOT / "docker-compose.yml").read_text("utf-8").replace("ports:", "prots:", 1), "utf-8")
    done = run(of_environment("docker-compose"), f"--file={copy}", "config", "--quiet")
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
def test_a_profile_starts_what_it_is_called_after(profile: str, services: set[str]) -> None:
    assert set(compose(f"--profile={profile}", "config", "--services").stdout.split()) == services


def test_every_replica_has_a_gpu_of_its_own() -> None:
    services = stack()["services"]
    reserved = [devices(services[name]) for name in REPLICAS]
    assert [[device["capabilities"] for device in own] for own in reserved] == [[["gpu"]], [["gpu"]]]
    assert [own[0]["device_ids"] for own in reserved] == [["0"], ["1"]]
    assert {services[name]["environment"]["SMNER_DEVICE"] for name in REPLICAS} == {"cuda"}


def test_a_laptop_needs_neither_a_gpu_nor_the_large_build_of_torch() -> None:
    for name in (*REPLICAS, "train"):
        service = stack(cpu=True)["services"][name]
        assert devices(service) == []
        assert service["build"]["args"]["TORCH_INDEX"].endswith("/cpu")
        assert service["image"] != stack()["services"][name]["image"]
    assert stack(cpu=True)["services"]["smner"]["environment"]["SMNER_DEVICE"] == "cpu"


@pytest.mark.parametrize("cpu", [False, True])
def test_every_container_is_locked_down_and_limited(cpu: bool) -> None:
    for name, service in stack(cpu=cpu)["services"].items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert {"cpus", "memory"} <= set(service["deploy"]["resources"]["limits"]), name
        assert service["restart"] == ("no" if name == "train" else "unless-stopped"), name
        assert not service.get("privileged"), name


def test_what_is_published_is_reached_from_the_host_alone() -> None:
    published = {
        name: [(port["host_ip"], port["published"]) for port in service.get("ports", [])]
        for name, service in stack()["services"].items()
    }
    assert {host for ports in published.values() for host, _ in ports} == {"127.0.0.1"}
    assert published["smner-1"] == []  # two cannot have the same port; it is reached through the proxy


def test_a_container_gets_longer_to_stop_than_the_service_takes_for_it() -> None:
    needed = Settings().drain_seconds + _STOP_SECONDS
    services = stack()["services"]
    assert seconds(services["proxy"]["stop_grace_period"]) > needed
    for name in REPLICAS:
        delay = float(services[name]["environment"]["SMNER_SHUTDOWN_DELAY_SECONDS"])
        assert seconds(services[name]["stop_grace_period"]) > delay + needed, name


def test_every_setting_in_the_stack_is_one_of_the_service() -> None:
    known = {f"SMNER_{name.upper()}" for name in Settings.model_fields}
    for name in REPLICAS:
        assert set(stack()["services"][name]["environment"]) <= known


def test_an_empty_variable_leaves_the_service_its_default(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in stack(cpu=True)["services"]["smner"]["environment"].items():
        monkeypatch.setenv(name, value)
    settings = Settings()
    assert settings.checkpoint is None
    assert settings.api_keys_file is None
    assert settings.max_pending_posts == Settings.model_fields["max_pending_posts"].default


def test_a_cpu_limit_comes_with_as_many_threads() -> None:
    for cpu in (False, True):
        service = stack(cpu=cpu)["services"]["smner"]
        assert int(service["environment"]["SMNER_MODEL_THREADS"]) == service["deploy"]["resources"]["limits"]["cpus"]


def test_images_of_others_are_pinned_to_a_release() -> None:
    ours = {service["image"] for service in stack()["services"].values() if "build" in service}
    for service in stack()["services"].values():
        if service["image"] not in ours:
            assert re.fullmatch(r"[a-z/]+:v?\d+\.\d+\.\d+(-alpine)?", service["image"])


def test_whatever_is_mounted_is_a_folder_that_is_there() -> None:
    ours = [
        Path(volume["source"])
        for service in stack()["services"].values()
        for volume in service.get("volumes", [])
        if volume["type"] == "bind" and Path(volume["source"]).is_relative_to(DOCKER)
    ]
    assert len(ours) >= 6
    # a file that is replaced by renaming, as editors and git do, would keep its old content in the container
    assert [path for path in ours if not path.is_dir()] == []


def test_every_variable_of_the_stack_is_explained() -> None:
    lines = compose("--profile=*", "config", "--variables").stdout.splitlines()
    variables = {line.split()[0] for line in lines[1:]}
    assert {"PUBLISH", "SMNER_GPU_1", "TRAINING_DATA"} <= variables
    text = OPERATIONS.read_text("utf-8")
    assert {name for name in variables if f"`{name}`" not in text} == set()


def test_a_setting_without_a_variable_of_the_stack_reaches_every_replica(tmp_path: Path) -> None:
    # what docker-compose.override.yml says of smner is not what smner-1 has from it
    (tmp_path / "smner.env").write_text("SMNER_DEADLINE_SECONDS=7\n", "utf-8")
    (tmp_path / "docker").mkdir()
    files = ("docker-compose.yml", "docker/compose.cpu.yml")
    for file in files:
        (tmp_path / file).write_text((ROOT / file).read_text("utf-8"), "utf-8")
    for chosen in (files[:1], files):
        arguments = [f"--file={tmp_path / file}" for file in chosen]
        done = run(of_environment("docker-compose"), *arguments, "--profile=*", "config", "--format=json")
        assert done.returncode == 0, done.stdout
        services = json.loads(done.stdout)["services"]
        assert {services[name]["environment"]["SMNER_DEADLINE_SECONDS"] for name in REPLICAS} == {"7"}


PROXY = (DOCKER / "haproxy" / "haproxy.cfg").read_text("utf-8")


def test_the_proxy_knows_every_replica() -> None:
    servers = dict(re.findall(r"^  server (\S+) (\S+)$", PROXY, re.MULTILINE))
    assert servers == {name: f"{name}:8000" for name in REPLICAS}


def test_the_proxy_may_start_its_threads_on_any_host_and_twice_while_it_reloads() -> None:
    """Without a number it starts one for each core, and with more than its container may have it takes no posts."""
    (threads,) = re.findall(r"^  nbthread (\d+)", PROXY, re.MULTILINE)
    assert stack()["services"]["proxy"]["deploy"]["resources"]["limits"]["pids"] > 4 * int(threads)


def test_the_health_check_of_the_proxy_asks_what_it_answers_to_those_inside() -> None:
    proxy = stack()["services"]["proxy"]
    port, path = proxy["healthcheck"]["test"][-1].removeprefix("http://127.0.0.1:").split("/")
    assert f"frontend metrics\n  bind :{port}\n  monitor-uri /{path}\n" in PROXY
    assert [published["target"] for published in proxy["ports"]] == [8080]
