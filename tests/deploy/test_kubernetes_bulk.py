"""The Indexed Job and the RayJob that answer whole folders."""

import os
import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.deploy.conftest import ROOT
from tests.deploy.kubernetes import FOLDER, NEWEST, SERVED, check, check_pod, render

BULK = FOLDER / "bulk"


@pytest.fixture
def job() -> dict[str, Any]:
    return render(BULK / "indexed-job")["Job", "smner-bulk"]


@pytest.fixture
def ray_job() -> dict[str, Any]:
    return render(BULK / "ray-job")["RayJob", "smner-bulk"]


def pods(ray_job: dict[str, Any]) -> list[dict[str, Any]]:
    """The templates of the head and of the workers."""
    cluster = ray_job["spec"]["rayClusterSpec"]
    return [cluster["headGroupSpec"]["template"], *(group["template"] for group in cluster["workerGroupSpecs"])]


def only_container(pod: dict[str, Any]) -> dict[str, Any]:
    (only,) = pod["spec"]["containers"]
    found: dict[str, Any] = only
    return found


@pytest.mark.parametrize("version", [SERVED, NEWEST])
def test_job_follows_the_kubernetes_schema(version: str, job: dict[str, Any]) -> None:
    check(job, version)


def test_every_shard_has_its_pod(job: dict[str, Any]) -> None:
    """Shards count from 0 to N - 1, as the indexes of a Job do."""
    spec = job["spec"]
    assert spec["completionMode"] == "Indexed"
    arguments = only_container(spec["template"])["args"]
    assert f"--shard=$(JOB_COMPLETION_INDEX)/{spec['completions']}" in arguments


@pytest.mark.parametrize(("status", "expected"), [(0, 0), (1, 0), (2, 1), (130, 1)])
def test_posts_with_an_error_leave_the_job_successful(
    status: int, expected: int, job: dict[str, Any], tmp_path: Path
) -> None:
    stand_in = tmp_path / "smner-recognize"
    stand_in.write_text(f'#!/bin/sh\ntest "$1" = "--output=x y" && exit {status}', "utf-8")
    stand_in.chmod(0o755)
    command = only_container(job["spec"]["template"])["command"]
    done = subprocess.run([*command, "--output=x y"], env={"PATH": f"{tmp_path}:{os.environ['PATH']}"})
    assert done.returncode == expected


def test_ray_job_has_only_known_fields(ray_job: dict[str, Any]) -> None:
    """Names taken from KubeRay's documentation: no Python package carries its schema."""
    spec = ray_job["spec"]
    assert (ray_job["apiVersion"], ray_job["kind"]) == ("ray.io/v1", "RayJob")
    known = {"entrypoint", "backoffLimit", "shutdownAfterJobFinishes", "ttlSecondsAfterFinished", "rayClusterSpec"}
    assert set(spec) == known
    cluster = spec["rayClusterSpec"]
    assert set(cluster) == {"rayVersion", "headGroupSpec", "workerGroupSpecs"}
    assert set(cluster["headGroupSpec"]) == {"rayStartParams", "template"}
    for group in cluster["workerGroupSpecs"]:
        assert set(group) == {"groupName", "replicas", "minReplicas", "maxReplicas", "rayStartParams", "template"}
        assert group["minReplicas"] == group["replicas"] == group["maxReplicas"]


@pytest.mark.parametrize("version", [SERVED, NEWEST])
def test_pods_of_the_ray_job_follow_the_schema(version: str, ray_job: dict[str, Any]) -> None:
    for template in pods(ray_job):
        check_pod(template, version)


def test_ray_job_needs_no_wget(ray_job: dict[str, Any]) -> None:
    # KubeRay puts probes that call it where there are none
    for template in pods(ray_job):
        for probe in ("livenessProbe", "readinessProbe"):
            assert only_container(template)[probe]["httpGet"] == {"path": "/api/healthz", "port": 52365}


def test_entrypoint_survives_being_split_and_joined(ray_job: dict[str, Any]) -> None:
    entrypoint = ray_job["spec"]["entrypoint"]
    assert subprocess.list2cmdline(shlex.split(entrypoint)) == entrypoint
    assert re.fullmatch(r"[\w \-/:*.]+", entrypoint)
    assert entrypoint.startswith("smner-recognize ")
    assert entrypoint.endswith(" --ray auto")


def test_ray_version_is_the_pinned_one(ray_job: dict[str, Any]) -> None:
    pinned = re.findall(r"^ray==(.+)$", (ROOT / "constraints.txt").read_text("utf-8"), re.MULTILINE)
    assert [ray_job["spec"]["rayClusterSpec"]["rayVersion"]] == pinned


def test_bulk_pods_are_hardened_and_can_write(job: dict[str, Any], ray_job: dict[str, Any]) -> None:
    for template in (job["spec"]["template"], *pods(ray_job)):
        assert template["spec"]["securityContext"]["runAsNonRoot"] is True
        container = only_container(template)
        assert container["securityContext"]["readOnlyRootFilesystem"] is True
        assert [mount["name"] for mount in container["volumeMounts"]] == ["tmp"]


def test_only_workers_ask_for_a_gpu(job: dict[str, Any], ray_job: dict[str, Any]) -> None:
    head, worker = pods(ray_job)
    asking = [only_container(pod)["resources"]["limits"] for pod in (head, worker, job["spec"]["template"])]
    assert ["nvidia.com/gpu" in limits for limits in asking] == [False, True, True]
    assert ray_job["spec"]["rayClusterSpec"]["headGroupSpec"]["rayStartParams"] == {"num-cpus": "0", "num-gpus": "0"}
