import copy
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from service.settings import Settings
from tests.deploy.conftest import OPERATIONS, manifests, run, system_command
from tests.service.conftest import Running

SERVED = "1.30"
NEWEST = "1.37"


def container() -> dict[str, Any]:
    (only,) = manifests()[0]["spec"]["template"]["spec"]["containers"]
    found: dict[str, Any] = only
    return found


@pytest.mark.parametrize("version", [SERVED, NEWEST])
def test_manifests_follow_the_kubernetes_schema(version: str) -> None:
    kinds = []
    for manifest in manifests():
        kubernetes_validate.validate(manifest, version, strict=True)
        kinds.append(manifest["kind"])
    assert kinds == ["Deployment", "Service", "PodDisruptionBudget"]


def test_schema_reports_a_mistyped_field() -> None:
    deployment = copy.deepcopy(manifests()[0])
    deployment["spec"]["template"]["spec"]["containers"][0]["readynessProbe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(deployment, NEWEST, strict=True)


@pytest.mark.parametrize(
    ("probe", "path"),
    [("startupProbe", "/health/ready"), ("livenessProbe", "/health/live"), ("readinessProbe", "/health/ready")],
)
def test_probes_ask_existing_paths(probe: str, path: str, shared: Running) -> None:
    assert container()[probe]["httpGet"] == {"path": path, "port": "http"}
    assert shared.client.get(path).status_code == 200


def test_termination_grace_period_exceeds_delay_and_drain() -> None:
    pod = manifests()[0]["spec"]["template"]["spec"]
    (delay,) = [float(env["value"]) for env in container()["env"] if env["name"] == "SMNER_SHUTDOWN_DELAY_SECONDS"]
    assert pod["terminationGracePeriodSeconds"] > delay + Settings().drain_seconds + 5


def test_pod_is_hardened_and_has_one_gpu() -> None:
    pod = manifests()[0]["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["automountServiceAccountToken"] is False
    assert container()["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert container()["resources"]["limits"]["nvidia.com/gpu"] == 1
    assert {"cpu", "memory"} <= set(container()["resources"]["requests"])


def test_service_links_do_not_set_smner_port() -> None:
    # Kubernetes would set SMNER_PORT=tcp://… in every pod for a Service called smner
    assert manifests()[1]["metadata"]["name"] == "smner"
    assert manifests()[0]["spec"]["template"]["spec"]["enableServiceLinks"] is False


def test_manifest_sets_only_known_settings() -> None:
    known = {f"SMNER_{name.upper()}" for name in Settings.model_fields}
    assert {variable["name"] for variable in container()["env"]} <= known


def test_service_and_budget_select_the_pods() -> None:
    deployment, service, budget = manifests()
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert deployment["spec"]["selector"]["matchLabels"] == labels
    assert service["spec"]["selector"] == labels
    assert budget["spec"]["selector"]["matchLabels"] == labels
    assert service["spec"]["ports"][0]["targetPort"] == container()["ports"][0]["name"]


def test_documented_scrape_job_matches_the_alerts(tmp_path: Path) -> None:
    shown = OPERATIONS.read_text("utf-8").split("## Kubernetes\n")[1].split("```yaml\n")[1].split("```")[0]
    (job,) = yaml.safe_load(shown)
    assert job["job_name"] == "smner"
    assert job["relabel_configs"][0]["regex"] == manifests()[1]["spec"]["selector"]["app.kubernetes.io/name"]
    assert job["relabel_configs"][1]["regex"] == container()["ports"][0]["name"]
    assert job.pop("kubernetes_sd_configs") == [{"role": "pod"}]  # Debian's promtool is built without it
    (tmp_path / "prometheus.yml").write_text(yaml.safe_dump({"scrape_configs": [job]}), "utf-8")
    done = run(system_command("promtool"), "check", "config", tmp_path / "prometheus.yml")
    assert done.returncode == 0, done.stdout
