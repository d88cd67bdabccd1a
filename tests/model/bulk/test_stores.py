import errno
import os
from pathlib import Path

import pytest

from model.bulk.stores import Folder


def test_a_full_disk_is_named(tmp_path: Path) -> None:
    """A write does not say which file it was for."""
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with (
        pytest.raises(OSError, match=r"No space left on device: '.*/\.a\.jsonl\..*partial'"),
        Folder(str(tmp_path)).put("a.jsonl"),
    ):
        raise full
    assert not list(tmp_path.iterdir())


def test_what_is_gone_need_not_be_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another share may have removed it just now."""
    folder = Folder(str(tmp_path))
    monkeypatch.setattr(folder.fs, "exists", lambda _: True)
    folder.remove("_SUMMARY.json")
