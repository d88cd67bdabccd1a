"""HAProxy's limit of posts a second for each API key; skipped where HAProxy is not installed."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from service.http.problems import Problem
from tests.deploy.conftest import run, system_command
from tests.deploy.proxying import CONFIGURATION, address, proxying
from tests.service.conftest import Running, ScriptedRecognizer, eventually, form, serving

LIMIT = 3


@pytest.fixture(scope="module")
def locked(
    make_recognizer: Callable[[], ScriptedRecognizer], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Running]:
    keys = tmp_path_factory.mktemp("keys") / "keys"
    keys.write_text("app:app,key\nann:ann-key\n")
    with serving(make_recognizer(), api_keys_file=keys) as running:
        yield running


@pytest.fixture
def limited(locked: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[httpx.Client]:
    """A client of a proxy that limits each key to :data:`LIMIT` posts a second."""
    system_command("haproxy")
    monkeypatch.setenv("CLIENT_POSTS_PER_SECOND", str(LIMIT))
    with proxying(tmp_path, address(locked)) as client:
        yield client


def post(client: httpx.Client, authorization: bytes = b"Bearer app,key") -> httpx.Response:
    return client.post("/recognize", files=form(), headers={b"Authorization": authorization})


def exhaust(client: httpx.Client) -> httpx.Response:
    """Send posts until one is refused; returns that answer."""
    for _ in range(20 * LIMIT):
        if (answer := post(client)).status_code != 200:
            return answer
    raise AssertionError("no post was refused")


def test_client_above_its_limit_gets_a_problem(limited: httpx.Client) -> None:
    answer = exhaust(limited)
    assert answer.status_code == 429
    assert answer.headers["Retry-After"] == "1"
    assert answer.headers["Content-Type"] == "application/problem+json"
    problem = Problem.model_validate(answer.json())
    assert (problem.status, problem.code) == (429, "rate_limited")
    assert re.fullmatch(rf"the API key had \d+ posts in a second; the limit is {LIMIT}", problem.detail)
    assert problem.request_id == answer.headers["X-Request-ID"]


def test_limit_of_one_client_spares_the_others(limited: httpx.Client) -> None:
    assert exhaust(limited).status_code == 429
    assert post(limited, b"Bearer ann-key").status_code == 200
    assert limited.get("/info", headers={"Authorization": "Bearer app,key"}).status_code == 200


def test_refused_client_may_soon_send_again(limited: httpx.Client) -> None:
    """Although it goes on trying."""
    exhaust(limited)
    eventually(lambda: post(limited).status_code == 200, seconds=3)


def test_writing_the_key_differently_does_not_help(limited: httpx.Client, locked: Running) -> None:
    ways = [b"bearer app,key", b"BEARER   app,key", b"Bearer \tapp,key", b"Bearer \xa0app,key\xa0"]
    assert [post(locked.client, way).status_code for way in ways] == [200] * 4  # to the service they are the same key
    exhaust(limited)
    assert [post(limited, way).status_code for way in ways] == [429] * 4


def test_writing_the_path_differently_does_not_help(limited: httpx.Client) -> None:
    exhaust(limited)
    headers = {"Authorization": "Bearer app,key"}
    for path in ("/%72ecognize", "/recognize?explain=true", "/recognize%2Fbatch"):
        assert limited.post(path, files=form(), headers=headers).status_code == 429


def test_refusal_of_a_large_post_is_readable(limited: httpx.Client) -> None:
    """Closing the connection of a client that is still sending would reset it."""
    exhaust(limited)
    answer = limited.post("/recognize", content=bytes(5_000_000), headers={"Authorization": "Bearer app,key"})
    assert answer.status_code == 429


def test_batch_counts_as_its_posts(limited: httpx.Client) -> None:
    version = run(system_command("haproxy"), "-v").stdout.split()[2]
    if [int(part) for part in version.split(".")[:2]] < [2, 8]:
        pytest.skip(f"HAProxy {version} cannot add to a counter, so it counts a batch as one post")
    batch = {"posts": [{"text": "hi"}] * LIMIT}
    answer = limited.post("/recognize/batch", json=batch, headers={"Authorization": "Bearer app,key"})
    assert (answer.status_code, answer.headers["X-Posts"]) == (200, str(LIMIT))
    assert post(limited).status_code == 429


def test_without_a_limit_nothing_is_refused(locked: Running, tmp_path: Path) -> None:
    system_command("haproxy")
    with proxying(tmp_path, address(locked)) as client:
        assert [post(client).status_code for _ in range(4 * LIMIT)] == [200] * 4 * LIMIT


def test_haproxy_accepts_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLIENT_POSTS_PER_SECOND", "100")
    done = run(system_command("haproxy"), "-c", "-f", CONFIGURATION)
    assert done.returncode == 0, done.stdout
