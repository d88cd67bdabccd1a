import copy
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from service.settings import Settings
from tests.deploy.conftest import DOCKER, OPERATIONS, load_yaml, run, system_command
from tests.deploy.kubernetes import (
    COMPONENTS,
    CUSTOM,
    FOLDER,
    NEWEST,
    SERVED,
    Objects,
    check,
    check_pod,
    combine,
    render,
)
from tests.service.conftest import Running

AUTOSCALERS = {"autoscale-hpa", "autoscale-keda"}
NAMES = sorted(path.name for path in COMPONENTS.iterdir())
LABELS = {"app.kubernetes.io/name": "smner"}


@pytest.fixture
def base() -> Objects:
    return render(FOLDER / "base")


def pod(objects: Objects) -> dict[str, Any]:
    found: dict[str, Any] = objects["Deployment", "smner"]["spec"]["template"]["spec"]
    return found


def container(objects: Objects) -> dict[str, Any]:
    (only,) = pod(objects)["containers"]
    found: dict[str, Any] = only
    return found


def settings(objects: Objects) -> dict[str, str]:
    return environment(container(objects))


def environment(of: dict[str, Any]) -> dict[str, str]:
    return {each["name"]: each["value"] for each in of["env"]}


def documented(heading: str) -> Any:
    """The first YAML block after a heading of docs/operations.md."""
    return yaml.safe_load(OPERATIONS.read_text("utf-8").split(heading)[1].split("```yaml\n")[1].split("```")[0])


def test_base_has_its_objects(base: Objects) -> None:
    kinds = {"Deployment", "Service", "PodDisruptionBudget", "NetworkPolicy"}
    assert set(base) == {(kind, "smner") for kind in kinds}


@pytest.mark.parametrize("version", [SERVED, NEWEST])
def test_objects_follow_their_schemas(version: str, tmp_path: Path) -> None:
    system_command("kubectl")
    for folder in (FOLDER / "base", FOLDER / "overlays" / "example"):
        for manifest in render(folder).values():
            check(manifest, version)
    for index, autoscaler in enumerate(sorted(AUTOSCALERS)):
        (tmp_path / str(index)).mkdir()
        chosen = [name for name in NAMES if name not in AUTOSCALERS - {autoscaler}]
        for manifest in combine(tmp_path / str(index), chosen).values():
            check(manifest, version)


def test_schema_reports_a_mistyped_field(base: Objects) -> None:
    deployment = copy.deepcopy(base["Deployment", "smner"])
    deployment["spec"]["template"]["spec"]["containers"][0]["readynessProbe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError):
        check(deployment)


@pytest.mark.parametrize(
    "file", ["monitoring/pod-monitor.yaml", "monitoring/prometheus-rule.yaml", "autoscale-keda/scaled-object.yaml"]
)
def test_custom_schema_reports_a_mistyped_field(file: str) -> None:
    manifest = load_yaml(COMPONENTS / file)
    assert manifest["kind"] in CUSTOM
    check(manifest)
    manifest["spec"]["intervall"] = 5
    with pytest.raises(AssertionError):
        check(manifest)


def test_example_overlay_sets_image_namespace_and_replicas() -> None:
    objects = render(FOLDER / "overlays" / "example")
    assert {manifest["metadata"]["namespace"] for manifest in objects.values()} == {"smner"}
    assert container(objects)["image"] == "registry.example.com/smner:TAG"
    assert objects["Deployment", "smner"]["spec"]["replicas"] == 2
    assert ("PodMonitor", "smner") in objects


def test_example_overlay_names_every_component() -> None:
    text = (FOLDER / "overlays" / "example" / "kustomization.yaml").read_text("utf-8")
    assert [name for name in NAMES if name not in text] == []


@pytest.mark.parametrize(
    ("probe", "path"),
    [("startupProbe", "/health/ready"), ("livenessProbe", "/health/live"), ("readinessProbe", "/health/ready")],
)
def test_probes_ask_existing_paths(probe: str, path: str, base: Objects, shared: Running) -> None:
    assert container(base)[probe]["httpGet"] == {"path": path, "port": "http"}
    assert shared.client.get(path).status_code == 200


def test_termination_grace_period_exceeds_delay_and_drain(base: Objects) -> None:
    delay = float(settings(base)["SMNER_SHUTDOWN_DELAY_SECONDS"])
    assert pod(base)["terminationGracePeriodSeconds"] > delay + Settings().drain_seconds + 5


def test_pod_is_hardened_and_has_one_gpu(base: Objects) -> None:
    assert pod(base)["securityContext"]["runAsNonRoot"] is True
    assert pod(base)["automountServiceAccountToken"] is False
    assert container(base)["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert container(base)["resources"]["limits"]["nvidia.com/gpu"] == 1
    assert {"cpu", "memory"} <= set(container(base)["resources"]["requests"])
    assert pod(base)["tolerations"] == [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]


def test_threads_fit_the_cpu_limit(base: Objects) -> None:
    """As in compose: decoding leaves a core to the interpreter, and the network runs on the GPU."""
    for pod_container in (container(base), documented("**KServe**")["spec"]["predictor"]["containers"][0]):
        own = environment(pod_container)
        assert int(own["SMNER_DECODE_WORKERS"]) == int(pod_container["resources"]["limits"]["cpu"]) - 1
        assert own["SMNER_MODEL_THREADS"] == "1"


def test_service_links_do_not_set_smner_port(base: Objects) -> None:
    # Kubernetes would set SMNER_PORT=tcp://… in every pod for a Service called smner
    assert ("Service", "smner") in base
    assert pod(base)["enableServiceLinks"] is False


def test_manifests_set_only_known_settings(tmp_path: Path) -> None:
    known = {f"SMNER_{name.upper()}" for name in Settings.model_fields}
    found = set(settings(combine(tmp_path, [name for name in NAMES if name != "autoscale-hpa"])))
    assert {name for name in found if name.startswith("SMNER_")} <= known


def test_every_object_selects_the_pods(tmp_path: Path) -> None:
    # an empty selector would select all pods of the namespace
    objects = combine(tmp_path, ["monitoring"])
    assert objects["Deployment", "smner"]["spec"]["template"]["metadata"]["labels"] == LABELS
    assert objects["Service", "smner"]["spec"]["selector"] == LABELS
    for kind in ("Deployment", "PodDisruptionBudget", "PodMonitor"):
        assert objects[kind, "smner"]["spec"]["selector"] == {"matchLabels": LABELS}
    assert objects["NetworkPolicy", "smner"]["spec"]["podSelector"] == {"matchLabels": LABELS}


def test_every_port_is_one_of_the_container(tmp_path: Path) -> None:
    objects = combine(tmp_path, ["monitoring"])
    named = {port["name"] for port in container(objects)["ports"]}
    asked = [port["targetPort"] for port in objects["Service", "smner"]["spec"]["ports"]]
    asked += [endpoint["port"] for endpoint in objects["PodMonitor", "smner"]["spec"]["podMetricsEndpoints"]]
    asked += [port["port"] for rule in objects["NetworkPolicy", "smner"]["spec"]["ingress"] for port in rule["ports"]]
    assert len(asked) == 4
    assert set(asked) == named == {"http", "metrics"}
    assert settings(objects)["SMNER_METRICS_PORT"] == str(container(objects)["ports"][1]["containerPort"])


def test_network_policy_lets_nothing_out(base: Objects) -> None:
    policy = base["NetworkPolicy", "smner"]["spec"]
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    assert "egress" not in policy
    assert {"podSelector": {}} in policy["ingress"][0]["from"]


@pytest.mark.parametrize("name", NAMES)
def test_only_an_autoscaler_frees_the_replicas(name: str, tmp_path: Path) -> None:
    spec = combine(tmp_path, [name])["Deployment", "smner"]["spec"]
    assert ("replicas" in spec) == (name not in AUTOSCALERS)


def test_two_autoscalers_cannot_be_combined(tmp_path: Path) -> None:
    system_command("kubectl")
    with pytest.raises(AssertionError, match="/spec/replicas"):
        combine(tmp_path, sorted(AUTOSCALERS))


def test_checkpoint_comes_from_a_read_only_volume(tmp_path: Path) -> None:
    objects = combine(tmp_path, ["checkpoint-volume"])
    (mount,) = [each for each in container(objects)["volumeMounts"] if each["name"] == "checkpoints"]
    assert mount["readOnly"] is True
    assert settings(objects)["SMNER_CHECKPOINT"].startswith(f"{mount['mountPath']}/")
    assert len(settings(objects)) == len(container(objects)["env"])  # replaced, not added


def test_documented_patch_names_another_checkpoint(tmp_path: Path) -> None:
    patches = documented("in your overlay:")["patches"]
    changed = settings(combine(tmp_path, ["checkpoint-volume"], patches=patches))
    assert changed["SMNER_CHECKPOINT"] == "/checkpoints/2026-12-01"
    assert len(changed) > 1


def test_shared_gpu_asks_for_one_part(tmp_path: Path) -> None:
    objects = combine(tmp_path, ["shared-gpu"])
    limits = container(objects)["resources"]["limits"]
    assert {name: count for name, count in limits.items() if "gpu" in name} == {"nvidia.com/gpu.shared": 1}
    sharing = load_yaml(COMPONENTS / "shared-gpu" / "device-plugin.yaml")["sharing"]["timeSlicing"]
    assert sharing["renameByDefault"] is True  # else the name is nvidia.com/gpu
    (shared,) = sharing["resources"]
    assert shared["name"] == "nvidia.com/gpu"
    _, fraction = settings(objects)["PYTORCH_ALLOC_CONF"].split(":")
    assert shared["replicas"] * float(fraction) < 1


def test_nvidia_runtime_sets_the_class(tmp_path: Path) -> None:
    assert pod(combine(tmp_path, ["nvidia-runtime"]))["runtimeClassName"] == "nvidia"


def test_prometheus_rule_is_that_of_compose(tmp_path: Path) -> None:
    file = COMPONENTS / "monitoring" / "prometheus-rule.yaml"
    assert run(FOLDER / "prometheus-rule.sh", tmp_path / "made.yaml").returncode == 0
    assert (tmp_path / "made.yaml").read_text("utf-8") == file.read_text("utf-8"), "run prometheus-rule.sh"
    assert load_yaml(file)["spec"] == load_yaml(DOCKER / "prometheus" / "rules.yml")


def test_pod_monitor_makes_the_labels_of_the_alerts() -> None:
    spec = load_yaml(COMPONENTS / "monitoring" / "pod-monitor.yaml")["spec"]
    assert LABELS[spec["jobLabel"]] == "smner"
    relabelings = spec["podMetricsEndpoints"][0]["relabelings"]
    assert relabelings == [{"sourceLabels": ["__meta_kubernetes_pod_name"], "targetLabel": "instance"}]


def autoscaling() -> tuple[dict[str, Any], dict[str, Any]]:
    hpa = load_yaml(COMPONENTS / "autoscale-hpa" / "autoscaler.yaml")["spec"]
    keda = load_yaml(COMPONENTS / "autoscale-keda" / "scaled-object.yaml")["spec"]
    return hpa, keda


def test_both_autoscalers_decide_alike() -> None:
    hpa, keda = autoscaling()
    assert keda["advanced"]["horizontalPodAutoscalerConfig"]["behavior"] == hpa["behavior"]
    assert (keda["minReplicaCount"], keda["maxReplicaCount"]) == (hpa["minReplicas"], hpa["maxReplicas"])
    (metric,), (trigger,) = hpa["metrics"], keda["triggers"]
    assert trigger["metricType"] == metric["external"]["target"]["type"] == "AverageValue"
    assert trigger["metadata"]["threshold"] == metric["external"]["target"]["averageValue"]
    (rule,) = load_yaml(COMPONENTS / "autoscale-hpa" / "adapter-rules.yaml")["rules"]["external"]
    assert rule["name"]["as"] == metric["external"]["metric"]["name"]
    assert rule["metricsQuery"].replace("<<.LabelMatchers>>", 'namespace="smner"') == trigger["metadata"]["query"]


def test_autoscalers_aim_at_half_of_the_places() -> None:
    hpa, _ = autoscaling()
    assert 2 * int(hpa["metrics"][0]["external"]["target"]["averageValue"]) == Settings().max_pending_posts


def test_autoscaling_query_counts_posts(tmp_path: Path) -> None:
    """Two pods at 10 posts a second each, a post 0.1 s in decode, 0.5 s in queue and 0.2 s in model: 16 posts."""
    seconds = {"receive": 9, "decode": 0.1, "queue": 0.5, "model": 0.2}
    labels = ", ".join(['namespace="smner"', 'pod="{pod}"', 'stage="{stage}"'])
    series = [
        {
            "series": f"smner_stage_seconds_sum{{{labels.format(pod=pod, stage=stage)}}}",
            "values": f"0+{15 * 10 * spent}x20",
        }
        for pod in "ab"
        for stage, spent in seconds.items()
    ]
    query = autoscaling()[1]["triggers"][0]["metadata"]["query"]
    asked = {"expr": query, "eval_time": "5m", "exp_samples": [{"labels": "{}", "value": 16}]}
    case = {"interval": "15s", "input_series": series, "promql_expr_test": [asked]}
    (tmp_path / "query.yml").write_text(yaml.safe_dump({"tests": [case]}), "utf-8")
    done = run(system_command("promtool"), "test", "rules", tmp_path / "query.yml")
    assert done.returncode == 0, done.stdout


def test_autoscaling_query_asks_in_the_overlays_namespace() -> None:
    overlay = load_yaml(FOLDER / "overlays" / "example" / "kustomization.yaml")
    _, keda = autoscaling()
    assert f'namespace="{overlay["namespace"]}"' in keda["triggers"][0]["metadata"]["query"]


def test_documented_scrape_job_matches_the_alerts(tmp_path: Path) -> None:
    (job,) = documented("**Without the Prometheus operator**")
    assert job["job_name"] == "smner"
    assert job["relabel_configs"][0]["regex"] == LABELS["app.kubernetes.io/name"]
    assert job["relabel_configs"][1]["regex"] == "metrics"
    assert job.pop("kubernetes_sd_configs") == [{"role": "pod"}]  # Debian's promtool is built without it
    (tmp_path / "prometheus.yml").write_text(yaml.safe_dump({"scrape_configs": [job]}), "utf-8")
    done = run(system_command("promtool"), "check", "config", tmp_path / "prometheus.yml")
    assert done.returncode == 0, done.stdout


def test_documented_predictor_runs_the_service() -> None:
    """KServe's own schema was compared by hand; a predictor is a pod with fields of KServe's beside it."""
    service = documented("**KServe**")
    predictor = service["spec"]["predictor"]
    assert (service["apiVersion"], service["kind"]) == ("serving.kserve.io/v1beta1", "InferenceService")
    assert predictor.pop("minReplicas") == 1
    check_pod({"spec": predictor})
    (only,) = predictor["containers"]
    assert only["name"] == "kserve-container"
    assert predictor["enableServiceLinks"] is False
    assert only["readinessProbe"]["httpGet"] == {"path": "/health/ready", "port": 8000}
