"""Folders on this machine and in every store that fsspec knows; files appear in them whole."""

import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from glob import escape
from pathlib import Path
from typing import IO, Any, cast
from urllib.parse import unquote
from uuid import uuid4

import fsspec
from fsspec.implementations.local import LocalFileSystem

from model.errors import SMNERError, StoreUnavailable

_VERSION_KEYS = ("ETag", "etag", "md5Hash", "mtime", "LastModified", "last_modified", "created")


class Folder:
    """A folder by its address: a path, or a URL such as ``s3://bucket/posts``.

    Attributes:
        address: as messages and other machines know it; a path is absolute.
        fs, root: its file system, and its path there without a slash at the end.
    """

    def __init__(self, address: str) -> None:
        self.fs, root = resolve(address)
        self.root = root.rstrip("/")
        self.address = self.fs.unstrip_protocol(self.root) if not self.is_local else self.root

    @property
    def is_local(self) -> bool:
        """Whether its files have paths on this machine, be it on a network."""
        return isinstance(self.fs, LocalFileSystem)

    def path(self, name: str) -> str:
        """The path of a file in its file system."""
        return f"{self.root}/{name}"

    def name(self, name: str) -> str:
        """The address of a file."""
        return f"{self.address}/{name}"

    def names(self) -> set[str]:
        """All files beneath, as they are now; not those that are being written."""
        with reaching(self.address):
            self.fs.invalidate_cache()
            found = self.fs.find(self.root)
        names = {path.removeprefix(f"{self.root}/") for path in found}
        return {name for name in names if not name.rpartition("/")[2].startswith(".")}

    def version(self, name: str) -> str:
        """Changes when the file does."""
        return version_of(self.fs.info(self.path(name)))

    def open(self, name: str) -> IO[bytes]:
        """Open a file for reading. In a store each read is a request of its own, so it should be large."""
        if self.is_local:
            return Path(self.path(name)).open("rb")
        return cast(IO[bytes], self.fs.open(self.path(name), "rb", cache_type="none"))

    def read(self, name: str) -> bytes | None:
        """The content of a small file; None if there is none."""
        with reaching(self.name(name)):
            try:
                return cast(bytes, self.fs.cat_file(self.path(name)))
            except FileNotFoundError:
                return None

    def remove(self, name: str) -> None:
        """Remove a file if it is there."""
        with reaching(self.name(name)), suppress(FileNotFoundError):  # another share may have removed it
            if self.fs.exists(self.path(name)):
                self.fs.rm_file(self.path(name))

    def path_in(self, name: str) -> str | None:
        """The path of a file by its name or by its own address; None if that is not within this folder."""
        if ".." in unquote(name).split("/"):  # which some stores follow
            return None
        protocols = (self.fs.protocol,) if isinstance(self.fs.protocol, str) else self.fs.protocol
        if "://" not in name:
            return self.path(name)
        path = str(self.fs._strip_protocol(name))
        within = name.partition("://")[0] in protocols and path.startswith(f"{self.root}/")
        return path if within else None

    @contextmanager
    def put(self, name: str) -> Iterator[Path]:
        """A path to write a file at; then it is put in place in one step, unless there was an error.

        On this machine it is renamed. In a store it is one upload, which object stores show when it is complete.
        """
        target = Path(self.path(name)) if self.is_local else Path(tempfile.gettempdir(), Path(name).name)
        partial = target.with_name(f".{target.name}.{uuid4().hex}.partial")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            yield partial
            with reaching(self.name(name)):
                self._put(partial, name)
        except OSError as error:
            if error.filename is not None or error.errno is None:
                raise
            raise OSError(error.errno, error.strerror, str(partial)) from error  # which disk is full
        finally:
            partial.unlink(missing_ok=True)

    def _put(self, partial: Path, name: str) -> None:
        if not self.is_local:
            self.fs.put_file(str(partial), self.path(name))
            return
        target = Path(self.path(name))
        try:
            _flush(partial)
            partial.replace(target)
        except FileNotFoundError:
            if not target.exists():  # otherwise another run has put the same there, and removed ours as a leftover
                raise
        _flush(target.parent)
        for leftover in target.parent.glob(f".{escape(target.name)}.*.partial"):  # of runs that were killed
            leftover.unlink(missing_ok=True)


def resolve(address: str) -> tuple[Any, str]:
    """The file system of an address, and the path there.

    Raises:
        ValueError: no such store is known, or its package is not installed.
    """
    try:
        fs, path = fsspec.url_to_fs(address)
    except ImportError as error:
        raise ValueError(f"{address}: {error}; for s3:// the extra is smner[s3]") from error
    return fs, str(path)


def version_of(info: Mapping[str, Any]) -> str:
    """What changes when a file does, from what its store tells of it: its size, and its ETag or time."""
    known = next((info[key] for key in _VERSION_KEYS if info.get(key) is not None), "")
    return f"{info.get('size')} {known}".strip()


@contextmanager
def reaching(address: str) -> Iterator[None]:
    """Name the address in whatever a store raises."""
    try:
        yield
    except (FileNotFoundError, SMNERError):
        raise
    except Exception as error:  # every store has errors of its own
        raise StoreUnavailable(f"{address}: {type(error).__name__}: {error}") from error


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
