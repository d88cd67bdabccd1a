import io
import os
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from model.preprocessing.image_sources import image_content
from model.preprocessing.images import read_image


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview, io.BytesIO])
def test_bytes_and_files_are_read(jpeg: bytes, kind: type) -> None:
    assert image_content(kind(jpeg)) == jpeg


def test_a_path_is_read_in_any_form(jpeg: bytes, tmp_path: Path) -> None:
    path = tmp_path / "photo.jpg"
    path.write_bytes(jpeg)
    assert image_content(path) == image_content(str(path)) == jpeg
    with path.open("rb") as file:
        assert image_content(file) == jpeg


def test_a_file_is_read_from_where_it_stands(jpeg: bytes) -> None:
    file = io.BytesIO(b"header" + jpeg)
    file.seek(6)
    assert image_content(file) == jpeg


def test_a_file_object_gives_the_same_pixels(jpeg: bytes) -> None:
    assert torch.equal(read_image(io.BytesIO(jpeg), size=16), read_image(jpeg, size=16))


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (None, "found NoneType"),
        (5, "found int"),
        (["photo.jpg"], "found list"),
        (np.zeros((8, 8, 3), np.uint8), "found numpy.ndarray"),
        (torch.zeros(3), "found torch.Tensor"),
        (Image, "found module"),
        (io.StringIO("text"), r'opened for reading bytes \("rb"\), found one of text \(StringIO\)'),
    ],
)
def test_what_is_no_image_is_named_by_type(source: object, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        read_image(source, size=8)  # type: ignore[arg-type]


def test_a_file_that_gives_no_bytes_is_named() -> None:
    class Empty:
        def read(self) -> None:
            """Like a socket that has nothing yet."""

    with pytest.raises(TypeError, match=r"expected bytes from the photo's file \(Empty\), found NoneType"):
        image_content(Empty())  # type: ignore[arg-type]


@pytest.mark.parametrize("device", ["/dev/zero", "/dev/null"])
def test_a_device_is_not_read(device: str) -> None:
    """/dev/zero never ends."""
    with pytest.raises(OSError, match="not a regular file"):
        image_content(device)


def test_a_pipe_or_folder_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    caught: list[BaseException] = []

    def read() -> None:
        try:
            image_content(tmp_path / "pipe.jpg")
        except OSError as error:
            caught.append(error)

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    reader.join(5)
    assert "not a regular file" in str(caught[0])
    with pytest.raises(IsADirectoryError, match=str(tmp_path)):
        image_content(tmp_path)
