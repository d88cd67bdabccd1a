import hashlib
from pathlib import Path

import pytest
from PIL import Image

from training.data.sources import DataSource

CONLL, JSONL = "IMGID:1\nParis\tB-LOC\n", '{"id": "1", "tokens": ["Paris"], "tags": ["B-LOC"]}\n'


@pytest.mark.parametrize(("suffix", "content"), [(".txt", CONLL), (".jsonl", JSONL)])
def test_a_folder_has_a_file_for_each_split(tmp_path: Path, suffix: str, content: str) -> None:
    path = tmp_path / f"valid{suffix}"
    path.write_text(content, "utf-8")
    source = DataSource(tmp_path)
    assert source.file("valid") == path
    assert [post.words for post in source.read("valid")] == [("Paris",)]


def test_a_split_that_is_not_there_is_no_error_until_it_is_asked_for(tmp_path: Path) -> None:
    source = DataSource(tmp_path)
    assert source.file("test") is None
    assert source.checksum("test") is None
    with pytest.raises(FileNotFoundError, match=f"{tmp_path}: no test.txt or test.jsonl"):
        source.read("test")


def test_two_files_of_one_split_are_refused(tmp_path: Path) -> None:
    """The second used not to be read."""
    (tmp_path / "train.txt").write_text(CONLL, "utf-8")
    (tmp_path / "train.jsonl").write_text(JSONL, "utf-8")
    with pytest.raises(ValueError, match=r"both train\.txt and train\.jsonl"):
        DataSource(tmp_path).read("train")


@pytest.mark.parametrize(("name", "content"), [("posts.txt", CONLL), ("posts.jsonl", JSONL)])
def test_a_single_file_is_all_training_data(tmp_path: Path, name: str, content: str) -> None:
    path = tmp_path / name
    path.write_text(content, "utf-8")
    (tmp_path / "valid.txt").write_text(CONLL, "utf-8")
    source = DataSource(path)
    assert len(source.read("train")) == 1
    assert source.file("valid") is None


def test_images_come_from_the_image_folder(tmp_path: Path) -> None:
    (tmp_path / "train.txt").write_text(CONLL, "utf-8")
    Image.new("RGB", (8, 8)).save(tmp_path / "1.png")
    assert DataSource(tmp_path, images=tmp_path).read("train")[0].image == tmp_path / "1.png"
    assert DataSource(tmp_path).read("train")[0].image is None


def test_the_checksum_is_that_of_the_splits_file(tmp_path: Path) -> None:
    (tmp_path / "train.txt").write_text(CONLL, "utf-8")
    assert DataSource(tmp_path).checksum("train") == hashlib.sha256(CONLL.encode()).hexdigest()


def test_a_mistyped_folder_of_images_is_refused(tmp_path: Path) -> None:
    """It used to train and to evaluate without photos, and without a word."""
    with pytest.raises(NotADirectoryError, match="nope: no such folder of photos"):
        DataSource(tmp_path, images=tmp_path / "nope")


def test_data_that_are_not_there_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nope: no such file or folder"):
        DataSource(tmp_path / "nope")


def test_a_folder_is_called_by_its_whole_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "v1.2").mkdir()
    monkeypatch.chdir(tmp_path / "v1.2")
    assert DataSource(Path()).name == "v1.2"
