import json
import re

import pytest
from structlog.testing import capture_logs

from service.settings import Settings
from tests.deploy.conftest import OPERATIONS
from tests.deploy.settings_table import settings_table, with_table
from tests.service.conftest import ScriptedRecognizer, Serve


def test_settings_table_is_up_to_date() -> None:
    document = OPERATIONS.read_text("utf-8")
    assert with_table(document) == document, "run python -m tests.deploy.settings_table"


def test_settings_table_has_default_range_and_effect() -> None:
    rows = settings_table().splitlines()[2:]
    assert len(rows) == len(Settings.model_fields)
    assert "| `SMNER_PORT` | `8000` | 0 … 65535 | TCP port; 0 takes a free one |" in rows
    assert any(row.startswith("| `SMNER_MAX_BODY_BYTES` | `14680064` (14 MiB) | 1024 … 1073741824 | ") for row in rows)
    assert any(row.startswith("| `SMNER_DEADLINE_SECONDS` | `30.0` | > 0 … 3600 | ") for row in rows)
    assert any(row.startswith("| `SMNER_MODEL_THREADS` | by the cores | ") for row in rows)


@pytest.mark.parametrize("broken", ["prepare", "run"])  # before and in the model's thread
def test_runbook_grep_finds_internal_errors(
    scripted: ScriptedRecognizer, serve: Serve, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    runbook = OPERATIONS.read_text("utf-8").split("### SmnerInternalErrors\n")[1]
    pattern = re.findall(r"grep '([^']+)'", runbook)[0]
    running = serve(scripted)
    monkeypatch.setattr(scripted, broken, lambda *_, **__: 1 / 0)
    with capture_logs() as logs:
        answer = running.post()
    assert answer.json()["code"] == "internal_error"
    own = [entry for entry in logs if entry.get("request_id") == answer.headers["X-Request-ID"]]
    assert any(pattern in json.dumps({"level": entry["log_level"]}) for entry in own)
