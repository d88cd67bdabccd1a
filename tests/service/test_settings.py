import pytest
from pydantic import ValidationError

from service.serve import read_settings
from service.settings import Settings


def test_default_host_is_this_machine() -> None:
    assert Settings().host == "127.0.0.1"
    assert Settings().port == 8000
    assert Settings().checkpoint is None


def test_options_are_flags_and_environment_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SMNER_PORT", "9001")
    monkeypatch.setenv("SMNER_CHECKPOINT", "/checkpoints/a")
    assert read_settings([]).port == 9001
    assert read_settings([]).checkpoint == "/checkpoints/a"
    for name in Settings.model_fields:
        unset = {"metrics_port": "9100", "max_batch_padding": "0.5", "cors_origins": "*"}.get(name, "x")
        default = getattr(Settings(), name)
        value = unset if default is None else str(default)
        flag = f"--{name.replace('_', '-')}"
        assert str(getattr(read_settings([flag, value]), name)) == value


def test_flag_overrides_environment_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SMNER_PORT", "9001")
    assert read_settings(["--port", "9002"]).port == 9002


def test_empty_environment_variable_counts_as_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SMNER_CHECKPOINT", "")
    assert Settings().checkpoint is None


def test_every_option_has_a_description() -> None:
    assert all(field.description for field in Settings.model_fields.values())


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("port", 65536),
        ("port", -1),
        ("metrics_port", 65536),
        ("host", ""),
        ("device", "gpu"),
        ("device", "cuda:x"),
        ("max_body_bytes", 0),
        ("max_pending_posts", 0),
        ("deadline_seconds", 0),
        ("deadline_seconds", "nan"),
        ("drain_seconds", -1),
        ("decode_workers", 0),
        ("log_format", "xml"),
    ],
)
def test_value_out_of_bounds_is_refused(name: str, value: object) -> None:
    with pytest.raises(ValidationError, match=name):
        Settings(**{name: value})  # type: ignore[arg-type]


def test_invalid_flag_is_named_with_its_value(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        read_settings(["--port", "eighty"])
    assert exit_.value.code == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert "--port (SMNER_PORT)" in lines[0]
    assert "eighty" in lines[0]


@pytest.mark.parametrize(
    ("origins", "allowed"),
    [
        (None, []),
        ("*", ["*"]),
        ("https://a.example, http://localhost:3000,", ["https://a.example", "http://localhost:3000"]),
        ("HTTPS://App.Example:443,http://a:80,https://a:80", ["https://app.example", "http://a", "https://a:80"]),
        ("http://[::1]:8080,chrome-extension://abc", ["http://[::1]:8080", "chrome-extension://abc"]),
    ],
)
def test_origins_are_those_that_browsers_send(origins: str | None, allowed: list[str]) -> None:
    assert Settings(cors_origins=origins).allowed_origins == allowed


@pytest.mark.parametrize(
    "origin",
    ["a.example", "https://a.example/", "https://a.example/app", "localhost:3000", "https://", "https://*.a", "{x}"],
)
def test_malformed_origin_is_refused_in_one_line(origin: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        read_settings(["--cors-origins", f"https://a.example,{origin}"])
    said = capsys.readouterr().err
    assert said.startswith(f"smner-serve: --cors-origins (SMNER_CORS_ORIGINS): '{origin}' is no origin; one is ")
    assert said.count("\n") == 1


def test_pending_bytes_must_hold_the_largest_body(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        read_settings(["--max-body-bytes", "5000", "--max-batch-body-bytes", "5000", "--max-pending-bytes", "4999"])
    said = capsys.readouterr().err
    assert said == (
        "smner-serve: --max-pending-bytes (SMNER_MAX_PENDING_BYTES): "
        "must be at least max-body-bytes, 5000, not '4999'\n"
    )
