import os
import threading
import time
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from service.http import auth
from service.http.auth import KeyFile
from tests.service.conftest import Running, ScriptedRecognizer, Serve, eventually


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "keys"
    path.write_text("# the app\nfirst-key \r\n\n  # Ann's ключ\nsecond-key\n", "utf-8")
    return path


def rewrite(file: Path, content: str) -> None:
    file.write_text(content, "utf-8")
    os.utime(file, ns=(time.time_ns(), file.stat().st_mtime_ns + 1_000_000))  # however coarse the clock is


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def test_keys_of_the_file_are_accepted(file: Path) -> None:
    keys = KeyFile(file)
    assert [key for key in ("first-key", "second-key", "first", "", "# the app") if keys.accepts(key)] == [
        "first-key",
        "second-key",
    ]


@pytest.mark.parametrize(
    ("content", "key", "other"),
    [
        (b"\xef\xbb\xbffirst-key\nsecond-key\n", "first-key", "\ufefffirst-key"),
        (b"abc#def\n", "abc#def", "abc"),
        (b"#abc\n!~#=/+.-_\n", "!~#=/+.-_", "#abc"),
        (b"first\r\nsecond", "second", "second\r"),
    ],
)
def test_file_is_read_as_it_was_meant(file: Path, content: bytes, key: str, other: str) -> None:
    """The byte-order mark belonged to the first key, and ``#`` cut a key short."""
    file.write_bytes(content)
    keys = KeyFile(file)
    assert keys.accepts(key)
    assert not keys.accepts(other)


@pytest.mark.parametrize(
    "key", ["schlüssel", "two words", "tab\there", "key  # Ann's", "bell\a", "zero\u200bwidth", "del\x7f"]
)
def test_key_that_cannot_be_sent_is_refused(file: Path, key: str) -> None:
    file.write_text(f"# ours\ngood-key\n{key}\n", "utf-8")
    with pytest.raises(ValueError, match=r"keys, line 3: no client can send this key") as caught:
        KeyFile(file)
    assert key not in str(caught.value)


def test_changed_file_is_reloaded(file: Path) -> None:
    keys = KeyFile(file)
    rewrite(file, "third-key\n")
    keys.reload_if_changed()
    assert keys.accepts("third-key")
    assert not keys.accepts("first-key")


@pytest.mark.parametrize("content", [None, "", "# only a comment\n", "third key\n"])
def test_unreadable_file_keeps_the_old_keys(file: Path, content: str | None) -> None:
    keys = KeyFile(file)
    if content is None:
        file.unlink()
    else:
        rewrite(file, content)
    with capture_logs() as logs:
        for _ in range(3):
            keys.reload_if_changed()
    assert [entry["log_level"] for entry in logs] == ["warning"]
    assert str(file) in logs[0]["detail"]
    assert "third key" not in logs[0]["detail"]
    assert keys.accepts("first-key")
    with pytest.raises((ValueError, OSError)):
        KeyFile(file)
    rewrite(file, "third-key\n")
    keys.reload_if_changed()
    assert keys.accepts("third-key")


@pytest.fixture
def locked(scripted: ScriptedRecognizer, serve: Serve, file: Path, monkeypatch: pytest.MonkeyPatch) -> Running:
    monkeypatch.setattr(auth, "_CHECK_SECONDS", 0.01)
    return serve(scripted, api_keys_file=file)


def test_post_with_a_key_is_answered(locked: Running) -> None:
    assert locked.post(headers=bearer("second-key")).status_code == 200


def test_rotated_keys_need_no_restart(locked: Running, file: Path) -> None:
    rewrite(file, "third-key\n")
    eventually(lambda: locked.post(headers=bearer("third-key")).status_code == 200, seconds=2)
    assert locked.post(headers=bearer("first-key")).status_code == 401


def test_hanging_key_file_delays_no_request(
    locked: Running, file: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    """The file was once read on the event loop, so a network file system that hung stopped every request."""
    reading, release = threading.Event(), threading.Event()
    request.addfinalizer(release.set)

    def hang(_: Path) -> list[bytes]:
        reading.set()
        assert release.wait(20)
        raise OSError

    monkeypatch.setattr(auth, "_read_digests", hang)
    rewrite(file, "third-key\n")
    assert reading.wait(10)
    assert locked.client.get("/health/live", timeout=5).status_code == 200
    assert locked.post(headers=bearer("first-key"), timeout=5).status_code == 200


@pytest.mark.parametrize(
    ("headers", "detail"),
    [
        ({}, "has no API key"),
        ({"Authorization": "Basic Zmlyc3Qta2V5"}, "has no API key"),
        (bearer("wrong"), "is not valid"),
        (bearer("é"), "is not valid"),
    ],
)
def test_post_without_a_valid_key_is_unauthorized(locked: Running, headers: dict[str, str], detail: str) -> None:
    answer = locked.post(headers={name: value.encode() for name, value in headers.items()})
    assert answer.status_code == 401
    assert answer.json()["code"] == "unauthorized"
    assert detail in answer.json()["detail"]
    assert answer.headers["WWW-Authenticate"] == "Bearer"


def test_batch_needs_a_key(locked: Running) -> None:
    batch = {"posts": [{"text": "hi"}]}
    assert locked.client.post("/recognize/batch", json=batch).status_code == 401
    assert locked.client.post("/recognize/batch", json=batch, headers=bearer("first-key")).status_code == 200


@pytest.mark.parametrize("path", ["/health/live", "/health/ready", "/health", "/metrics", "/info", "/docs"])
def test_other_paths_need_no_key(locked: Running, path: str) -> None:
    assert locked.client.get(path).status_code == 200


def test_key_is_checked_before_the_body_arrives(locked: Running) -> None:
    with locked.connect() as connection:
        connection.sendall(b"POST /recognize HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n")
        assert connection.recv(100).startswith(b"HTTP/1.1 401 ")
