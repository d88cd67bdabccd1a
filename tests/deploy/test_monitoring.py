import json
import re
from itertools import product
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from tests.deploy.conftest import DOCKER, OPERATIONS, alerts, load_yaml, run, stack, system_command
from tests.deploy.proxying import address, free_port, proxying
from tests.service.conftest import Running

PROMETHEUS = DOCKER / "prometheus"
RULES = PROMETHEUS / "rules.yml"
RULE_TESTS = sorted((PROMETHEUS / "tests").glob("*.yml"))
DASHBOARD: dict[str, Any] = json.loads((DOCKER / "grafana" / "dashboards" / "smner.json").read_text("utf-8"))

# Read from torch.cuda, so they exist with CUDA only.
ABSENT_ON_A_CPU = {"smner_gpu_memory_allocated_bytes", "smner_gpu_memory_reserved_bytes"}
# Its samples are those of the clients with API keys.
ABSENT_WITHOUT_KEYS = {"smner_client_posts_total"}
PROMETHEUS_MAKES = {"up": {"job", "instance"}, "ALERTS": {"alertname", "alertstate"}}
KEYWORDS = {"and", "or", "unless", "offset", "bool", "inf", "nan"}


def expressions_of_rules() -> list[str]:
    groups = load_yaml(RULES)["groups"]
    return [rule["expr"] for group in groups for rule in group["rules"]]


def expressions_of_dashboard() -> list[str]:
    return [target["expr"] for panel in DASHBOARD["panels"] for target in panel.get("targets", [])]


def metrics_in(expression: str) -> set[str]:
    """The metrics in a PromQL expression: names other than functions, labels, groupings and keywords."""
    bare = re.sub(r'"(?:[^"\\]|\\.)*"', "", expression)
    bare = re.sub(r"\{[^}]*\}|\[[^\]]*\]", " ", bare)
    bare = re.sub(r"\b(by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)", " ", bare)
    bare = re.sub(r"\b\d[\w.]*", " ", bare)
    return set(re.findall(r"\b[a-zA-Z_][\w:]*\b(?!\s*\()", bare)) - KEYWORDS - {"by"}


def labels_in(expression: str) -> set[tuple[str, str]]:
    """Pairs of a metric and a label that a PromQL expression selects by."""
    return {
        (metric, label)
        for metric, matchers in re.findall(r"([a-zA-Z_:][\w:]*)\{([^}]*)\}", re.sub(r'"[^"]*"', '""', expression))
        for label in re.findall(r"(\w+)\s*[=!]", matchers)
    }


def watched() -> set[str]:
    return {name for expr in expressions_of_rules() + expressions_of_dashboard() for name in metrics_in(expr)}


def missing_labels(page: str, *prefixes: str) -> set[tuple[str, str]]:
    """Pairs of metric and label that rules and dashboard select by but a page of metrics does not have."""
    there = {name: {"job", "instance"} for name in watched()} | PROMETHEUS_MAKES
    for family in text_string_to_metric_families(page):
        for sample in family.samples:
            there.setdefault(sample.name, set()).update(sample.labels)
    asked = set().union(*map(labels_in, expressions_of_rules() + expressions_of_dashboard()))
    return {(name, label) for name, label in asked if name.startswith(prefixes) and label not in there[name]}


def recorded() -> set[str]:
    return {rule["record"] for group in load_yaml(RULES)["groups"] for rule in group["rules"] if "record" in rule}


def test_metrics_in_finds_the_names() -> None:
    expression = 'sum by (job, le) (rate(a_total{code=~"x{3}|y"}[5m])) > 0.5 * b:c:d and on(instance) e offset 6h'
    assert metrics_in(expression) == {"a_total", "b:c:d", "e"}


def test_labels_in_finds_the_labels() -> None:
    expression = 'rate(a{b=~"x{3}|y=z", c!="d"}[5m]) / on (e) f:g{h="i"} > k'
    assert labels_in(expression) == {("a", "b"), ("a", "c"), ("f:g", "h")}


def test_watched_metrics_exist_in_the_service(shared: Running) -> None:
    assert shared.post().status_code == 200
    assert shared.client.get("/health/ready").status_code == 200
    text = shared.client.get("/metrics").text
    there = {sample.name for family in text_string_to_metric_families(text) for sample in family.samples}
    ours = {name for name in watched() if not name.startswith(("haproxy_", "DCGM_", "kube_"))}
    assert len(ours) > 20
    assert "# TYPE smner_client_posts_total counter" in text
    missing = ours - there - set(PROMETHEUS_MAKES) - recorded() - ABSENT_WITHOUT_KEYS
    assert missing - ABSENT_ON_A_CPU == set()
    if "cuda" not in text:
        assert missing == ABSENT_ON_A_CPU


def test_watched_labels_exist_in_the_service(shared: Running) -> None:
    shared.post()
    page = shared.client.get("/metrics").text
    assert missing_labels(page, "") - missing_labels(page, "haproxy_", "kube_") == set()
    # a label that only another metric has does not count
    assert ("smner_rejected_total", "code") in missing_labels(page.replace("{code=", "{status="), "smner_")


def test_watched_proxy_metrics_and_labels_exist(shared: Running, tmp_path: Path) -> None:
    system_command("haproxy")
    port = free_port()
    with proxying(tmp_path, address(shared), metrics_port=port):
        page = httpx.get(f"http://127.0.0.1:{port}/metrics").text
    there = {sample.name for family in text_string_to_metric_families(page) for sample in family.samples}
    assert {name for name in watched() if name.startswith("haproxy_")} <= there
    assert missing_labels(page, "haproxy_") == set()
    assert 'proxy="http"' in page
    assert 'proxy="smner"' in page


def test_prometheus_finds_dcgm_by_its_service() -> None:
    jobs = {job["job_name"]: job for job in load_yaml(PROMETHEUS / "prometheus.yml")["scrape_configs"]}
    (found,) = jobs["dcgm"]["dns_sd_configs"]
    assert found == {"names": ["dcgm"], "type": "A", "port": 9400}
    assert "dcgm" in stack()["services"]
    assert "dcgm" not in stack(cpu=True)["services"]


def test_dcgm_exports_exactly_what_is_watched() -> None:
    lines = (DOCKER / "dcgm" / "counters.csv").read_text("utf-8").splitlines()
    fields = [line.split(", ") for line in lines if not line.startswith("#")]
    assert {len(field) for field in fields} == {3}
    assert {field[0] for field in fields} == {name for name in watched() if name.startswith("DCGM_")}


def test_codes_and_routes_of_the_rules_exist() -> None:
    from service.http.problems import KINDS

    text = "\n".join(expressions_of_rules() + expressions_of_dashboard())
    codes = {code for codes in re.findall(r'smner_\w+\{code=~?"([^"]+)"', text) for code in codes.split("|")}
    assert codes <= set(KINDS)
    # exactly the errors that are not the client's fault
    assert {code for code, kind in KINDS.items() if kind.status >= 500} == codes
    assert set(re.findall(r'route="([^"]+)"', text)) == {"/recognize", "/health/ready"}
    assert set(re.findall(r'route=~"([^"]+)"', text)) == {"/recognize(/batch)?"}


@pytest.mark.parametrize("alert", alerts(), ids=lambda alert: str(alert["alert"]))
def test_alert_has_severity_annotations_and_a_runbook(alert: dict[str, Any]) -> None:
    assert alert["labels"]["severity"] in {"page", "ticket"}
    assert {"summary", "description", "runbook_url"} == set(alert["annotations"])
    document, anchor = alert["annotations"]["runbook_url"].split("#")
    assert document == "docs/operations.md"
    assert anchor == alert["alert"].lower()
    assert f"\n### {alert['alert']}\n" in OPERATIONS.read_text("utf-8")


@pytest.mark.parametrize("alert", alerts(), ids=lambda alert: str(alert["alert"]))
def test_alert_is_tested_firing_and_silent(alert: dict[str, Any]) -> None:
    cases = [case for file in RULE_TESTS for case in load_yaml(file)["tests"]]
    checks = [check for case in cases for check in case["alert_rule_test"] if check["alertname"] == alert["alert"]]
    assert {bool(check.get("exp_alerts")) for check in checks} == {True, False}


def test_promtool_accepts_the_configuration() -> None:
    done = run(system_command("promtool"), "check", "config", PROMETHEUS / "prometheus.yml")
    assert done.returncode == 0, done.stdout


def test_rules_pass_their_promtool_tests() -> None:
    done = run(system_command("promtool"), "test", "rules", *RULE_TESTS)
    assert done.returncode == 0, done.stdout


def test_promtool_accepts_the_dashboard_expressions(tmp_path: Path) -> None:
    asked = [expr.replace("$__rate_interval", "1m").replace("$instance", ".*") for expr in expressions_of_dashboard()]
    rules = [{"record": f"panel:{i}", "expr": expr} for i, expr in enumerate(asked)]
    file = tmp_path / "rules.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}), "utf-8")
    done = run(system_command("promtool"), "check", "rules", file)
    assert done.returncode == 0, done.stdout
    assert f"{len(asked)} rules found" in done.stdout


def test_dashboard_uses_the_provisioned_datasource() -> None:
    (source,) = load_yaml(DOCKER / "grafana" / "provisioning" / "datasources" / "prometheus.yml")["datasources"]
    uids = {panel["datasource"]["uid"] for panel in DASHBOARD["panels"] if panel["type"] != "row"}
    assert uids == {source["uid"]}


def test_dashboard_has_its_rows_and_filled_panels() -> None:
    rows = [panel["title"] for panel in DASHBOARD["panels"] if panel["type"] == "row"]
    assert rows == ["Traffic and errors", "Latency", "Queue, batches, cache", "Entities", "Machine", "GPU"]
    panels = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
    assert all(panel["targets"] for panel in panels)


def test_dashboard_panels_do_not_overlap() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        x, y, width, height = (panel["gridPos"][side] for side in "xywh")
        cells = set(product(range(x, x + width), range(y, y + height)))
        assert not cells & taken, panel["title"]
        assert x + width <= 24
        taken |= cells
