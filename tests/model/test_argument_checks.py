import io
from pathlib import Path

import numpy as np
import pytest

from model.argument_checks import is_file, type_name


@pytest.mark.parametrize(
    ("value", "name"), [(5, "int"), (None, "NoneType"), (np.zeros(1), "numpy.ndarray"), (io, "module")]
)
def test_a_type_is_named_with_its_module(value: object, name: str) -> None:
    assert type_name(value) == name


def test_what_can_be_read_is_a_file() -> None:
    assert is_file(io.BytesIO())
    assert not any(map(is_file, (io.BytesIO, b"", "photo.jpg", Path("photo.jpg"))))
