from pathlib import Path

import pytest

from training.data.images import find_image


@pytest.mark.parametrize(
    ("files", "name", "found"),
    [("2.png 2.jpg", "2", "2.jpg"), ("4.JPG", "4", "4.JPG"), ("2.jpg", "4", None), ("2.jpg", "1" * 300, None)],
)
def test_find_image(tmp_path: Path, files: str, name: str, found: str | None) -> None:
    """By suffix, .jpg first, in lower or upper case; a name may be too long for any file."""
    for file in files.split():
        (tmp_path / file).touch()
    assert find_image(tmp_path, name) == (found and tmp_path / found)
    assert find_image(None, name) is None
