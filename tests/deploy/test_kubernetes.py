import copy
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from service.settings import Settings
from tests.deploy.conftest import OPERATIONS, manifests, of_system, run
from tests.service.conftest import Running

SERVED = "1.30"
NEWEST = "1.37"


def container() -> dict[str, Any]:
    (only,) = manifests()[0]["spec"]["template"]["spec"]["containers"]
    found: dict[str, Any] = only
    return found


@pytest.mark.parametrize("version", [SERVED, NEWEST])
def test_every_object_has_the_form_that_the_cluster_wants(version: str) -> None:
    kinds = []
    for manifest in manifests():
        kubernetes_validate.validate(manifest, version, strict=True)
        kinds.append(manifest["kind"])
    assert kinds == ["Deployment", "Service", "PodDisruptionBudget"]


def test_a_mistyped_field_is_found() -> None:
    deployment = copy.deepcopy(manifests()[0])
    deployment["spec"]["template"]["spec"]["containers"][0]["readynessProbe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(deployment, NEWEST, strict=True)


@pytest.mark.parametrize(
    ("probe", "path"),
    [("startupProbe", "/health/ready"), ("livenessProbe", "/health/live"), ("readinessProbe", "/health/ready")],
)
def test_the_probes_ask_what_the_service_answers(probe: str, path: str, shared: Running) -> None:
    assert container()[probe]["httpGet"] == {"path": path, "port": "http"}
    assert shared.client.get(path).status_code == 200


def test_a_pod_gets_longer_to_stop_than_the_service_takes_for_it() -> None:
    pod = manifests()[0]["spec"]["template"]["spec"]
    (delay,) = [float(env["value"]) for env in container()["env"] if env["name"] == "SMNER_SHUTDOWN_DELAY_SECONDS"]
    assert pod["terminationGracePeriodSeconds"] > delay + Settings().drain_seconds + 5


def test_the_pod_has_no_rights_and_one_gpu() -> None:
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


def test_a_service_called_smner_does_not_set_our_port() -> None:
    # Kubernetes gives every pod SMNER_PORT=tcp://… for a Service called smner, unless it is told not to
    assert manifests()[1]["metadata"]["name"] == "smner"
    assert manifests()[0]["spec"]["template"]["spec"]["enableServiceLinks"] is False


def test_every_variable_is_a_setting() -> None:
    known = {f"SMNER_{name.upper()}" for name in Settings.model_fields}
    assert {variable["name"] for variable in container()["env"]} <= known


def test_service_and_budget_find_the_pods() -> None:
    deployment, service, budget = manifests()
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert deployment["spec"]["selector"]["matchLabels"] == labels
    assert service["spec"]["selector"] == labels
    assert budget["spec"]["selector"]["matchLabels"] == labels
    assert service["spec"]["ports"][0]["targetPort"] == container()["ports"][0]["name"]


def test_the_scrape_job_that_is_shown_has_the_name_that_alerts_ask_for(tmp_path: Path) -> None:
    shown = OPERATIONS.read_text("utf-8").split("## Kubernetes\n")[1].split("```yaml\n")[1].split("```")[0]
    (job,) = yaml.safe_load(shown)
    assert job["job_name"] == "smner"
    assert job["relabel_configs"][0]["regex"] == manifests()[1]["spec"]["selector"]["app.kubernetes.io/name"]
    assert job["relabel_configs"][1]["regex"] == container()["ports"][0]["name"]
    assert job.pop("kubernetes_sd_configs") == [{"role": "pod"}]  # which Debian's promtool is built without
    (tmp_path / "prometheus.yml").write_text(yaml.safe_dump({"scrape_configs": [job]}), "utf-8")
    done = run(of_system("promtool"), "check", "config", tmp_path / "prometheus.yml")
    assert done.returncode == 0, done.stdout
