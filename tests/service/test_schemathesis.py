"""Schemathesis checks the server against its OpenAPI document, with requests that it allows and others.

It runs as a command, since its plugin does not work with every pytest. The profile of hypothesis decides how many cases
each operation gets: a hundred, or thousands with ``pytest --hypothesis-profile thorough``.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

from hypothesis import settings

from tests.service.conftest import API_KEY
from tests.service.process import ServerProcess

CONFIGURATION = Path(__file__).with_name("schemathesis.toml")
HOOKS = Path(__file__).with_name("schemathesis_hooks.py")


def test_every_answer_conforms_to_the_openapi_document(server: ServerProcess, tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    run = subprocess.run(
        [
            *(sys.executable, "-m", "schemathesis.cli", "--config-file", CONFIGURATION, "--no-color"),
            *("run", f"{server.address}/openapi.json", "--header", f"Authorization: Bearer {API_KEY}"),
            *("--checks", "all", "--phases", "examples,coverage,fuzzing", "--continue-on-failure"),
            *("--max-examples", str(settings().max_examples), "--generation-database", "none"),
            *("--report", "json", "--report-json-path", report),
        ],
        cwd=tmp_path,
        env={**os.environ, "SCHEMATHESIS_HOOKS": str(HOOKS)},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stdout
    found = json.loads(report.read_text())
    print(f"{found['test_cases']['generated']} cases")
    assert found["operations"]["tested"] == found["operations"]["total"] >= 7
    for operation in ("POST /recognize", "POST /recognize/batch"):
        accepted = sum(phase["accepted"] for phase in found["valid_rates"][operation].values())
        assert accepted > 10  # so not all were refused
    assert {entry["level"] for entry in server.log()} <= {"info", "warning"}
