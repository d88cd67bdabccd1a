import re

from service.settings import Settings
from tests.deploy.conftest import OPERATIONS, ROOT
from tests.deploy.settings_table import settings_table, with_table


def test_the_table_of_settings_is_that_of_the_class() -> None:
    document = OPERATIONS.read_text("utf-8")
    assert with_table(document) == document, "run python -m tests.deploy.settings_table"


def test_the_table_has_every_setting_with_default_range_and_effect() -> None:
    rows = settings_table().splitlines()[2:]
    assert len(rows) == len(Settings.model_fields)
    assert "| `SMNER_PORT` | `8000` | 0 … 65535 | TCP port; 0 takes a free one |" in rows
    assert any(row.startswith("| `SMNER_MAX_BODY_BYTES` | `12582912` (12 MiB) | 1024 … 1073741824 | ") for row in rows)
    assert any(row.startswith("| `SMNER_DEADLINE_SECONDS` | `30.0` | > 0 … 3600 | ") for row in rows)
    assert any(row.startswith("| `SMNER_MODEL_THREADS` | by the cores | ") for row in rows)


def test_what_is_searched_the_log_for_is_what_a_defect_logs() -> None:
    (pattern,) = re.findall(r"grep -E '([^']+)'", OPERATIONS.read_text("utf-8"))
    sources = "\n".join((ROOT / "service" / name).read_text("utf-8") for name in ("middleware.py", "engine.py"))
    for logged in re.findall(r'log\.(?:exception|error)\("(unforeseen[^"]*|the model failed[^"]*)"', sources):
        assert re.search(pattern, logged), logged
