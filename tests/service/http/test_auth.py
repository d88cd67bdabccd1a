import os
import socket
import time
from pathlib import Path

import pytest

from service.http import auth as keys
from service.http.auth import KeyFile
from tests.service.conftest import Running, ScriptedRecognizer, Serve


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look at the file on every request."""
    monkeypatch.setattr(keys, "_CHECK_SECONDS", 0.0)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "keys"
    path.write_text("# the app\nfirst-key  # Ann's\n\nsecond-key\n", "utf-8")
    return path


def rewrite(file: Path, content: str) -> None:
    file.write_text(content, "utf-8")
    os.utime(file, ns=(time.time_ns(), file.stat().st_mtime_ns + 1_000_000))  # whatever the clock's grain is


def test_the_files_keys_are_let_in_and_comments_are_not_keys(file: Path) -> None:
    known = KeyFile(file)
    assert [known.admits(key) for key in ("first-key", "second-key", "first", "", "# the app")] == [True, True] + [
        False
    ] * 3


def test_a_changed_file_is_read_anew(file: Path) -> None:
    known = KeyFile(file)
    rewrite(file, "third-key\n")
    assert known.admits("third-key")
    assert not known.admits("first-key")


@pytest.mark.parametrize("content", ["", "# nothing but words\n"])
def test_an_empty_file_is_refused_at_first_and_later_leaves_the_old_keys(
    file: Path, tmp_path: Path, content: str
) -> None:
    known = KeyFile(file)
    rewrite(file, content)
    assert known.admits("first-key")
    with pytest.raises(ValueError, match="has no key"):
        KeyFile(file)


def test_a_file_that_vanishes_leaves_the_old_keys(file: Path) -> None:
    known = KeyFile(file)
    file.unlink()
    assert known.admits("first-key")


@pytest.fixture
def locked(scripted: ScriptedRecognizer, serve: Serve, file: Path) -> Running:
    return serve(scripted, api_keys_file=file)


def test_a_post_with_a_key_is_answered(locked: Running) -> None:
    assert locked.post(headers={"Authorization": "Bearer second-key"}).status_code == 200


@pytest.mark.parametrize(
    ("headers", "detail"),
    [
        ({}, "has no API key"),
        ({"Authorization": "Basic Zmlyc3Qta2V5"}, "has no API key"),
        ({"Authorization": "Bearer wrong"}, "is not one that is let in"),
        ({"Authorization": "Bearer é"}, "is not one that is let in"),
    ],
)
def test_a_post_without_a_valid_key_is_unauthorized(locked: Running, headers: dict[str, str], detail: str) -> None:
    answer = locked.post(headers={name: value.encode() for name, value in headers.items()})
    assert answer.status_code == 401
    assert answer.json()["code"] == "unauthorized"
    assert detail in answer.json()["detail"]
    assert answer.headers["WWW-Authenticate"] == "Bearer"


@pytest.mark.parametrize("path", ["/health/live", "/health/ready", "/health", "/metrics", "/info", "/docs"])
def test_health_metrics_and_documentation_need_no_key(locked: Running, path: str) -> None:
    assert locked.client.get(path).status_code == 200


def test_the_key_is_asked_for_before_the_body_is_read(locked: Running) -> None:
    head = b"POST /recognize HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n"
    url = locked.client.base_url
    with socket.create_connection((url.host, url.port), timeout=10) as connection:
        connection.sendall(head)
        assert connection.recv(100).startswith(b"HTTP/1.1 401 ")
