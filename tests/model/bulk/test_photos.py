import asyncio
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.asyn import AsyncFileSystem

from model.bulk import photos
from model.bulk.photos import Photos
from model.bulk.stores import Folder
from model.errors import StoreUnavailable
from model.post_files.post_fields import BrokenPost


class Slow(AsyncFileSystem):
    """A store that answers late, or only at another try."""

    protocol = "slow"
    cachable = False
    seconds = 0.0
    failures = 0

    async def _cat_file(self, path: str, **_: Any) -> bytes:
        if "missing" in path:
            raise FileNotFoundError(path)
        await asyncio.sleep(Slow.seconds)
        if Slow.failures:
            Slow.failures -= 1
            raise ConnectionError("reset by peer")
        if "empty" in path:
            raise OSError("the requested range cannot be satisfied")
        return b"photo"

    async def _info(self, path: str, **_: Any) -> dict[str, Any]:
        await asyncio.sleep(Slow.seconds)
        return {"name": path, "type": "file", "size": 0 if "empty" in path else 5}


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Photos:
    fsspec.register_implementation("slow", Slow, clobber=True)
    monkeypatch.setattr(photos, "TIMEOUT_SECONDS", 0.1)
    monkeypatch.setattr(photos, "WAITS", (0.0, 0.0))
    monkeypatch.setattr(Slow, "seconds", 0.0)
    monkeypatch.setattr(Slow, "failures", 0)
    return Photos(Folder("slow://photos"))


def test_a_photo_is_asked_for_again(store: Photos) -> None:
    Slow.failures = 2
    assert store("a.jpg") == b"photo"


def test_a_store_that_fails_ends_the_run(store: Photos) -> None:
    Slow.failures = 3
    with pytest.raises(StoreUnavailable, match=r"slow://photos/a\.jpg cannot be read: ConnectionError: reset by peer"):
        store("a.jpg")


def test_a_store_that_never_answers_ends_the_run(store: Photos) -> None:
    Slow.seconds = 60
    with pytest.raises(StoreUnavailable, match=r"a\.jpg cannot be read: FSTimeoutError"):
        store("a.jpg")


def test_a_missing_photo_is_its_posts_error(store: Photos) -> None:
    with pytest.raises(FileNotFoundError, match=r"there is no photo slow://photos/missing\.jpg"):
        store("missing.jpg")


def test_an_empty_photo_is_no_outage(store: Photos) -> None:
    """S3 and HTTP answer the request for its first bytes with an error."""
    with pytest.raises(BrokenPost, match=r"the photo slow://photos/empty\.jpg is empty"):
        store("empty.jpg")


def test_a_photo_elsewhere_is_not_read(store: Photos) -> None:
    """Posts come from strangers, who could otherwise choose what this machine asks which host for."""
    assert store("slow://photos/deep/a.jpg") == b"photo"
    for name in (
        "slow://others/a.jpg",
        "https://intranet/a.jpg",
        "slow://photos2/a.jpg",
        "../a.jpg",
        "slow://photos/%2E./a.jpg",
    ):
        with pytest.raises(BrokenPost, match="is not in slow://photos"):
            store(name)


def test_photos_here_are_paths(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"photo")
    assert Photos(Folder(str(tmp_path)))("a.jpg") == tmp_path / "a.jpg"
