"""The Kubernetes objects that kustomize makes of docker/kubernetes, and the schemas they must follow."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import kubernetes_validate
import yaml
from cloudcoil.models.keda.v1alpha1 import ScaledObject
from cloudcoil.models.prometheus_operator.v1 import PodMonitor, PrometheusRule

from tests.deploy.conftest import DOCKER, run, system_command

FOLDER = DOCKER / "kubernetes"
COMPONENTS = FOLDER / "components"
SERVED, NEWEST = "1.30", "1.37"  # of Kubernetes
CUSTOM = {"PodMonitor": PodMonitor, "PrometheusRule": PrometheusRule, "ScaledObject": ScaledObject}

Objects = dict[tuple[str, str], dict[str, Any]]


@cache
def render(folder: Path) -> Objects:
    """What ``kubectl kustomize FOLDER`` prints, by kind and name; skips the test without kubectl."""
    done = run(system_command("kubectl"), "kustomize", folder)
    assert done.returncode == 0, done.stdout
    objects = list(yaml.safe_load_all(done.stdout))
    return {(each["kind"], each["metadata"]["name"]): each for each in objects}


def combine(folder: Path, components: Sequence[str], **more: Any) -> Objects:
    """The base with these components and ``more`` of a kustomization, which is written into ``folder``."""
    # kustomize takes relative paths only
    up = "../" * (len(folder.parts) - 1)
    paths = [f"{up}{(COMPONENTS / name).relative_to('/')}" for name in components]
    overlay = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": [f"{up}{(FOLDER / 'base').relative_to('/')}"],
        "components": paths,
        **more,
    }
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(overlay), "utf-8")
    return render(folder)


def check(manifest: dict[str, Any], version: str = NEWEST) -> None:
    """Raise unless the object follows its schema, without a field that the schema lacks."""
    if manifest["kind"] in CUSTOM:
        known = CUSTOM[manifest["kind"]].model_validate(manifest)  # ignores unknown fields, and so loses them
        assert known.model_dump(by_alias=True, exclude_unset=True, mode="json") == manifest
    else:
        kubernetes_validate.validate(manifest, version, strict=True)


def check_pod(template: dict[str, Any], version: str = NEWEST) -> None:
    """Raise unless this is a pod template, such as those inside a RayJob and an InferenceService."""
    selector = {"matchLabels": {"a": "b"}}
    template = {"metadata": {"labels": {"a": "b"}}, **template}
    deployment = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "any"}}
    check({**deployment, "spec": {"selector": selector, "template": template}}, version)
