import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch

from model.checkpoint import bundled_checkpoints
from service.inference.engine import _STOP_SECONDS
from service.settings import Settings
from tests.deploy.conftest import DOCKER, OPERATIONS, ROOT, compose, load_yaml, run, stack, venv_command

SERVICES = {"smner", "smner-gpu-1", "proxy", "prometheus", "grafana", "dcgm", "jaeger", "train"}
REPLICAS = ("smner", "smner-gpu-1")
GB = 10**9


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
    assert set(stack(cpu=cpu)["services"]) == SERVICES - ({"smner-gpu-1", "dcgm"} if cpu else set())


def test_compose_reports_a_mistyped_key(tmp_path: Path) -> None:
    copy = tmp_path / "docker-compose.yml"
    copy.write_text((ROOT / "docker-compose.yml").read_text("utf-8").replace("ports:", "prots:", 1), "utf-8")
    done = run(venv_command("docker-compose"), f"--file={copy}", "config", "--quiet")
    assert done.returncode != 0
    assert "prots" in done.stdout


@pytest.mark.parametrize(
    ("profile", "services"),
    [
        ("none", {"smner", "proxy"}),
        ("gpu-1", {"smner", "smner-gpu-1", "proxy"}),
        ("monitoring", {"smner", "proxy", "prometheus", "grafana", "dcgm", "jaeger"}),
        ("training", {"smner", "proxy", "train"}),
    ],
)
def test_profile_starts_its_services(profile: str, services: set[str]) -> None:
    assert set(compose(f"--profile={profile}", "config", "--services").stdout.split()) == services


def test_every_service_has_its_own_gpu() -> None:
    services = stack()["services"]
    expected = [[{"driver": "nvidia", "device_ids": [gpu], "capabilities": ["gpu"]}] for gpu in ("0", "1")]
    assert [devices(services[name]) for name in REPLICAS] == expected
    assert {services[name]["environment"]["SMNER_DEVICE"] for name in REPLICAS} == {"cuda"}


def test_cpu_override_needs_neither_gpu_nor_cuda_torch() -> None:
    for name in ("smner", "train"):
        service = stack(cpu=True)["services"][name]
        assert devices(service) == []
        assert service["build"]["args"]["TORCH_INDEX"].endswith("/cpu")
        assert service["image"] != stack()["services"][name]["image"]
    assert stack(cpu=True)["services"]["smner"]["environment"]["SMNER_DEVICE"] == "cpu"


@pytest.mark.parametrize("document", [OPERATIONS, ROOT / "README.md"])
def test_documented_line_makes_every_command_use_the_cpu(document: Path, tmp_path: Path) -> None:
    (line,) = re.findall(r"echo (COMPOSE_FILE=\S+) >> \.env", document.read_text("utf-8"))
    for file in ("docker-compose.yml", "docker/compose.cpu.yml"):
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_text((ROOT / file).read_text("utf-8"), "utf-8")
    (tmp_path / ".env").write_text(line, "utf-8")
    done = run(venv_command("docker-compose"), f"--project-directory={tmp_path}", "config", env={})
    assert "SMNER_DEVICE: cpu" in done.stdout


def test_dcgm_sees_every_gpu_and_needs_no_capability() -> None:
    dcgm = stack()["services"]["dcgm"]
    assert devices(dcgm) == [{"driver": "nvidia", "count": -1, "capabilities": ["gpu"]}]
    assert dcgm["entrypoint"][0] == "/usr/bin/dcgm-exporter"  # not the script that calls setcap
    assert not dcgm.get("cap_add")


@pytest.mark.parametrize("cpu", [False, True])
def test_every_container_is_hardened_and_limited(cpu: bool) -> None:
    for name, service in stack(cpu=cpu)["services"].items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert {"cpus", "memory"} <= set(service["deploy"]["resources"]["limits"]), name
        assert service["restart"] == ("no" if name == "train" else "unless-stopped"), name
        assert not service.get("privileged"), name
        assert service["logging"]["options"]["mode"] == "non-blocking", name


def test_ports_are_published_on_localhost_only() -> None:
    published = {name: service.get("ports", []) for name, service in stack()["services"].items()}
    assert {port["host_ip"] for ports in published.values() for port in ports} == {"127.0.0.1"}
    assert {name for name in REPLICAS if published[name]} == set()  # replicas cannot share a port; the proxy has it


@pytest.mark.parametrize(("cpu", "default"), [(False, 4), (True, 1)])
def test_smner_replicas_sets_their_number(cpu: bool, default: int) -> None:
    assert stack(cpu=cpu)["services"]["smner"]["deploy"]["replicas"] == default
    assert stack(cpu=cpu, SMNER_REPLICAS="6")["services"]["smner"]["deploy"]["replicas"] == 6


def test_stack_fits_16_cores_and_64_gb() -> None:
    smner, proxy = (stack()["services"][name]["deploy"] for name in ("smner", "proxy"))
    limits, own = smner["resources"]["limits"], proxy["resources"]["limits"]
    assert smner["replicas"] * limits["cpus"] + own["cpus"] <= 16
    assert (smner["replicas"] + 1) * int(limits["memory"]) + int(own["memory"]) < 64 * GB  # one more for roll.sh


def test_gpu_memory_is_divided_by_the_replicas() -> None:
    """With a part to spare for the replica that docker/roll.sh adds."""
    for share, replicas in ((None, 4), ("0.33", 2)):
        given: dict[str, Any] = {} if share is None else {"SMNER_GPU_SHARE": share, "SMNER_REPLICAS": str(replicas)}
        smner = stack(**given)["services"]["smner"]
        name, value = smner["environment"]["PYTORCH_ALLOC_CONF"].split(":")
        assert name == "per_process_memory_fraction"  # of torch's CUDA allocator
        assert float(value) * (smner["deploy"]["replicas"] + 1) <= 1


def test_torch_knows_the_setting_of_its_memory() -> None:
    library = Path(torch.__file__).parent / "lib" / "libc10_cuda.so"
    if not library.is_file():
        pytest.skip("torch without CUDA")
    assert b"per_process_memory_fraction" in library.read_bytes()


def test_stop_grace_period_exceeds_delay_and_drain() -> None:
    needed = Settings().drain_seconds + _STOP_SECONDS
    services = stack()["services"]
    assert seconds(services["proxy"]["stop_grace_period"]) > needed
    for name in REPLICAS:
        delay = float(services[name]["environment"]["SMNER_SHUTDOWN_DELAY_SECONDS"])
        assert seconds(services[name]["stop_grace_period"]) > delay + needed, name


def test_stack_sets_only_known_settings() -> None:
    known = {f"SMNER_{name.upper()}" for name in Settings.model_fields} | {"PYTORCH_ALLOC_CONF"}
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
    assert stack(cpu=cpu)["services"]["smner"]["environment"]["SMNER_CHECKPOINT"] == name
    assert name in bundled_checkpoints()


@pytest.mark.parametrize("cpu", [False, True])
def test_threads_fit_the_cpu_limit(cpu: bool) -> None:
    """The network's threads are busy on a CPU only; on a GPU the interpreter is, which holds one core at most."""
    smner = stack(cpu=cpu)["services"]["smner"]
    model, decode = (int(smner["environment"][f"SMNER_{name}"]) for name in ("MODEL_THREADS", "DECODE_WORKERS"))
    busy = model if cpu else decode
    assert busy <= smner["deploy"]["resources"]["limits"]["cpus"] < busy + 1


def test_foreign_images_are_pinned_to_a_release() -> None:
    services = stack()["services"].values()
    ours = {service["image"] for service in services if "build" in service}
    for image in {service["image"] for service in services} - ours:
        assert re.fullmatch(r"[a-z0-9./-]+:v?\d+\.\d+\.\d+(-[\w.-]+)?(@sha256:[0-9a-f]{64})?", image)


@pytest.mark.parametrize("cpu", [False, True])
def test_smner_image_pins_every_replica(cpu: bool) -> None:
    services = stack(cpu=cpu, SMNER_IMAGE="registry/smner:2026-12-01")["services"]
    ours = [service["image"] for name, service in services.items() if name in REPLICAS]
    assert ours == ["registry/smner:2026-12-01"] * (1 if cpu else 2)


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
    # docker-compose.override.yml would change smner only: smner-gpu-1 extends the original
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
        ours = [services[name]["environment"] for name in REPLICAS if name in services]
        assert {environment["SMNER_DEADLINE_SECONDS"] for environment in ours} == {"7"}


PROXY = (DOCKER / "haproxy" / "haproxy.cfg").read_text("utf-8")
PROMETHEUS = DOCKER / "prometheus" / "prometheus.yml"


def test_proxy_and_prometheus_find_every_service() -> None:
    found = re.findall(r"^  server-template (\S+) (\d+) (\S+)$", PROXY, re.MULTILINE)
    assert [(prefix, target) for prefix, _, target in found] == [(f"{name}-", f"{name}:8000") for name in REPLICAS]
    (names,) = [
        job["dns_sd_configs"][0] for job in load_yaml(PROMETHEUS)["scrape_configs"] if job["job_name"] == "smner"
    ]
    assert tuple(names["names"]) == REPLICAS
    assert (names["type"], names["port"]) == ("A", 8000)


def test_proxy_waits_longer_than_the_service() -> None:
    """Else it would give up on posts that are still answered, and stop before they are."""
    named = {name: seconds(value) for name, value in re.findall(r"^  ([a-z -]+) (\d+s)\b", PROXY, re.MULTILINE)}
    longest = Settings().deadline_seconds
    assert min(named[name] for name in ("timeout client", "timeout server", "hard-stop-after")) > longest
    assert seconds(stack()["services"]["proxy"]["stop_grace_period"]) > named["hard-stop-after"]


def test_proxy_has_places_for_all_replicas() -> None:
    """And for one more, which docker/roll.sh starts."""
    places = {int(count) for count in re.findall(r"^  server-template \S+ (\d+) ", PROXY, re.MULTILINE)}
    assert min(places) > stack()["services"]["smner"]["deploy"]["replicas"]
    assert f"at most {min(places) - 1}," in (ROOT / "docker-compose.yml").read_text("utf-8")


def test_file_limits_hold_the_proxys_connections() -> None:
    services = stack()["services"]
    (most,) = re.findall(r"^frontend http\n.*\n  maxconn (\d+)$", PROXY, re.MULTILINE)
    assert services["proxy"]["ulimits"]["nofile"] > 2 * int(most)
    assert services["smner"]["ulimits"]["nofile"] > int(most)  # if a single replica is left


def test_proxy_threads_fit_the_pids_limit() -> None:
    """Also during a reload, when two processes run. The default is a thread per core, which can exceed the limit."""
    (threads,) = re.findall(r"^  nbthread (\d+)", PROXY, re.MULTILINE)
    assert stack()["services"]["proxy"]["deploy"]["resources"]["limits"]["pids"] > 4 * int(threads)


def test_proxy_health_check_asks_the_internal_port() -> None:
    proxy = stack()["services"]["proxy"]
    port, path = proxy["healthcheck"]["test"][-1].removeprefix("http://127.0.0.1:").split("/", 1)
    asked = PROXY.split(f"frontend metrics\n  bind :{port}\n")[1].split("\n\n")[0]
    assert f"unless {{ path /{path} }}\n  default_backend smner" in asked
    assert [published["target"] for published in proxy["ports"]] == [8000]
