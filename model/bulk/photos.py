"""Photos that posts name, from a folder on this machine or in a store."""

import time
from pathlib import Path
from typing import Any

from fsspec.asyn import sync

from model.bulk.stores import Folder
from model.errors import StoreUnavailable
from model.post_files.post_fields import MAX_IMAGE_BYTES, BrokenPost, photo_file
from model.preprocessing.images import ImageSource

TIMEOUT_SECONDS = 30.0
WAITS = (1.0, 4.0)  # seconds before another try


class Photos:
    """Opens photos by the names that posts give, which start from ``folder``.

    Posts come from strangers, so a store's address is taken as a name only if it lies in ``folder``.
    """

    def __init__(self, folder: Folder) -> None:
        self._folder = folder

    def __call__(self, name: str) -> ImageSource:
        """The photo's path or bytes.

        Raises:
            BrokenPost, OSError: there is no such photo, or it is too large.
            StoreUnavailable: the store does not answer.
        """
        if self._folder.is_local:
            return photo_file(Path(self._folder.root), name)
        path = self._folder.path_in(name)
        if path is None:
            raise BrokenPost(f"the photo {name} is not in {self._folder.address}")
        content = self._read(path)
        if len(content) > MAX_IMAGE_BYTES:
            raise BrokenPost(f"the photo {name} has more than {MAX_IMAGE_BYTES} bytes")
        return content

    def _read(self, path: str) -> bytes:
        address = self._folder.fs.unstrip_protocol(path)
        for wait in (*WAITS, None):
            try:
                # one request, unlike asking for the size first
                return bytes(self._ask("cat_file", path, start=0, end=MAX_IMAGE_BYTES + 1))
            except FileNotFoundError as error:
                raise FileNotFoundError(f"there is no photo {address}") from error
            except Exception as error:  # every store has errors of its own
                if self._is_empty(path):
                    raise BrokenPost(f"the photo {address} is empty") from error
                if wait is None:
                    problem = f"{type(error).__name__}: {error}".removesuffix(": ")
                    raise StoreUnavailable(f"{address} cannot be read: {problem}") from error
                time.sleep(wait)
        raise AssertionError

    def _is_empty(self, path: str) -> bool:
        """Of which S3 and HTTP cannot give the first bytes."""
        try:
            return bool(self._ask("size", path) == 0)
        except Exception:  # noqa: BLE001 the error of the photo is told instead
            return False

    def _ask(self, method: str, path: str, **options: int) -> Any:
        """Call a method of the store, with a time limit if it is an asynchronous one."""
        fs = self._folder.fs
        if fs.async_impl:
            return sync(fs.loop, getattr(fs, f"_{method}"), path, timeout=TIMEOUT_SECONDS, **options)
        return getattr(fs, method)(path, **options)
