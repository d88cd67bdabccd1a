import os
import threading
import time
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from service.http import auth
from service.http.auth import KeyFile
from tests.service.conftest import Running, ScriptedRecognizer, Serve, eventually
from tests.service.test_metrics import scrape

CLIENT_POSTS = "smner_client_posts_total"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "keys"
    path.write_text("# the app\napp:first-key \r\n\n  # Ann's ключ\nann:second-key\n", "utf-8")
    return path


def rewrite(file: Path, content: str) -> None:
    file.write_text(content, "utf-8")
    os.utime(file, ns=(time.time_ns(), file.stat().st_mtime_ns + 1_000_000))  # however coarse the clock is


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def test_keys_of_the_file_are_accepted(file: Path) -> None:
    keys = KeyFile(file)
    given = ("first-key", "second-key", "first", "", "# the app", "app:first-key")
    assert [keys.client(key) for key in given] == ["app", "ann", None, None, None, None]


@pytest.mark.parametrize(
    ("content", "key", "other"),
    [
        (b"\xef\xbb\xbfa:first-key\na:second-key\n", "first-key", "\ufefffirst-key"),
        (b"a:abc#def\n", "abc#def", "abc"),
        (b"#a:abc\na:!~#=:/+.-_\n", "!~#=:/+.-_", "abc"),
        (b"a:first\r\na:second", "second", "second\r"),
        (b"a:first\na:first\n", "first", "a"),
    ],
)
def test_file_is_read_as_it_was_meant(file: Path, content: bytes, key: str, other: str) -> None:
    """The byte-order mark belonged to the first key, and ``#`` cut a key short."""
    file.write_bytes(content)
    keys = KeyFile(file)
    assert keys.client(key) == "a"
    assert keys.client(other) is None


@pytest.mark.parametrize(
    "key", ["schlüssel", "two words", " led", "tab\there", "key  # Ann's", "bell\a", "zero\u200bwidth", "del\x7f", ""]
)
def test_key_that_cannot_be_sent_is_refused(file: Path, key: str) -> None:
    file.write_text(f"# ours\napp:good-key\napp:{key}\n", "utf-8")
    with pytest.raises(ValueError, match=r"keys, line 3: no client can send this key") as caught:
        KeyFile(file)
    assert not key or key not in str(caught.value).removeprefix(str(file))


@pytest.mark.parametrize("line", ["a b:good-key", "ключ:good-key", ":good-key", f"{'x' * 65}:good-key"])
def test_line_with_a_wrong_name_is_refused(file: Path, line: str) -> None:
    file.write_text(f"app:first-key\n{line}\n", "utf-8")
    with pytest.raises(ValueError, match=r"keys, line 2: the name of the client before") as caught:
        KeyFile(file)
    assert "good-key" not in str(caught.value)


def test_key_alone_has_an_unnamed_client(file: Path) -> None:
    file.write_text("lone-key\nother-key\napp:first-key\n", "utf-8")
    keys = KeyFile(file)
    assert [keys.client(key) for key in ("lone-key", "other-key", "first-key")] == ["unnamed", "unnamed", "app"]


def test_key_of_two_clients_is_refused(file: Path) -> None:
    file.write_text("app:first-key\nann:first-key\n", "utf-8")
    with pytest.raises(ValueError, match=r"line 2: another client has this key in an earlier line"):
        KeyFile(file)


def test_changed_file_is_reloaded(file: Path) -> None:
    told: list[frozenset[str]] = []
    keys = KeyFile(file, told.append)
    rewrite(file, "app:third-key\nbob:fourth-key\n")
    keys.reload_if_changed()
    assert [keys.client(key) for key in ("third-key", "fourth-key", "first-key")] == ["app", "bob", None]
    assert told == [{"app", "ann"}, {"app", "bob"}]


def test_each_reason_for_keeping_keys_is_logged(file: Path) -> None:
    """Editors remove a file before they write it, and the mistake in what they wrote was never told."""
    keys = KeyFile(file)
    file.unlink()
    with capture_logs() as logs:
        keys.reload_if_changed()
        rewrite(file, "app:third key\n")
        keys.reload_if_changed()
    assert ["No such file" in entry["detail"] for entry in logs] == [True, False]
    assert "line 1" in logs[1]["detail"]


@pytest.mark.parametrize("content", [None, "", "# only a comment\n", "app:third key\n", "third key\n"])
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
    assert "third" not in logs[0]["detail"]
    assert keys.client("first-key") == "app"
    with pytest.raises((ValueError, OSError)):
        KeyFile(file)
    rewrite(file, "app:third-key\n")
    keys.reload_if_changed()
    assert keys.client("third-key") == "app"


@pytest.fixture
def locked(scripted: ScriptedRecognizer, serve: Serve, file: Path, monkeypatch: pytest.MonkeyPatch) -> Running:
    monkeypatch.setattr(auth, "_CHECK_SECONDS", 0.01)
    return serve(scripted, api_keys_file=file)


def test_post_with_a_key_is_answered(locked: Running) -> None:
    assert locked.post(headers=bearer("second-key")).status_code == 200


def test_rotated_keys_need_no_restart(locked: Running, file: Path) -> None:
    rewrite(file, "app:third-key\n")
    eventually(lambda: locked.post(headers=bearer("third-key")).status_code == 200, seconds=2)
    assert locked.post(headers=bearer("first-key")).status_code == 401


def test_hanging_key_file_delays_no_request(
    locked: Running, file: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    """The file was once read on the event loop, so a network file system that hung stopped every request."""
    reading, release = threading.Event(), threading.Event()
    request.addfinalizer(release.set)

    def hang(_: Path) -> dict[bytes, str]:
        reading.set()
        assert release.wait(20)
        raise OSError

    monkeypatch.setattr(auth, "_read_clients", hang)
    rewrite(file, "app:third-key\n")
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


def client_posts(running: Running) -> dict[str, float]:
    """``smner_client_posts_total`` of each client."""
    return {dict(labels)["client"]: count for (name, labels), count in scrape(running).items() if name == CLIENT_POSTS}


def test_posts_are_counted_by_client(locked: Running) -> None:
    assert client_posts(locked) == {"app": 0, "ann": 0}
    locked.post(headers=bearer("first-key"))
    locked.post(" ", headers=bearer("first-key"))  # refused
    locked.post(headers=bearer("wrong"))
    batch = {"posts": [{"text": "hi"}, {"text": " "}, {}]}
    locked.client.post("/recognize/batch", json=batch, headers=bearer("second-key"))
    assert client_posts(locked) == {"app": 2, "ann": 3}


def test_counted_clients_are_those_of_the_file(locked: Running, file: Path) -> None:
    locked.post(headers=bearer("first-key"))
    locked.post(headers=bearer("second-key"))
    rewrite(file, "ann:second-key\nbob:third-key\n")
    eventually(lambda: client_posts(locked) == {"ann": 1, "bob": 0})
    locked.post(headers=bearer("third-key"))
    assert client_posts(locked) == {"ann": 1, "bob": 1}


def test_client_is_named_in_the_log(locked: Running) -> None:
    with capture_logs() as logs:
        locked.post(headers=bearer("second-key"))
        locked.post(headers=bearer("wrong"))
        eventually(lambda: len(logs) == 2)
    assert [entry["client"] for entry in logs] == ["ann", None]


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
