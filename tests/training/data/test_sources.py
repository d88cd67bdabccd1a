import hashlib
from pathlib import Path

import pytest
from PIL import Image

from training.data.errors import UnusableSplit
from training.data.sources import DataSource

CONLL, JSONL = "IMGID:1\nParis\tB-LOC\n", '{"id": "1", "tokens": ["Paris"], "tags": ["B-LOC"]}\n'


@pytest.mark.parametrize(("suffix", "content"), [(".txt", CONLL), (".jsonl", JSONL)])
def test_a_split_is_a_txt_or_jsonl_file(tmp_path: Path, suffix: str, content: str) -> None:
    path = tmp_path / f"valid{suffix}"
    path.write_text(content, "utf-8")
    source = DataSource(tmp_path)
    assert source.file("valid") == path
    assert [post.words for post in source.read("valid")] == [("Paris",)]


def test_a_missing_split_fails_only_when_read(tmp_path: Path) -> None:
    source = DataSource(tmp_path)
    assert source.file("test") is None
    assert source.checksum("test") is None
    with pytest.raises(FileNotFoundError, match=f"{tmp_path}: no test.txt or test.jsonl"):
        source.read("test")


def test_two_files_for_one_split_are_refused(tmp_path: Path) -> None:
    """The second used to be ignored."""
    (tmp_path / "train.txt").write_text(CONLL, "utf-8")
    (tmp_path / "train.jsonl").write_text(JSONL, "utf-8")
    with pytest.raises(UnusableSplit, match=r"both train\.txt and train\.jsonl"):
        DataSource(tmp_path).read("train")


@pytest.mark.parametrize(("name", "content"), [("posts.txt", CONLL), ("posts.jsonl", JSONL)])
def test_a_single_file_is_training_data(tmp_path: Path, name: str, content: str) -> None:
    path = tmp_path / name
    path.write_text(content, "utf-8")
    (tmp_path / "valid.txt").write_text(CONLL, "utf-8")
    source = DataSource(path)
    assert len(source.read("train")) == 1
    assert source.file("valid") is None


def test_images_come_from_their_folder(tmp_path: Path) -> None:
    (tmp_path / "train.txt").write_text(CONLL, "utf-8")
    Image.new("RGB", (8, 8)).save(tmp_path / "1.png")
    assert DataSource(tmp_path, images=tmp_path).read("train")[0].image == tmp_path / "1.png"
    assert DataSource(tmp_path).read("train")[0].image is None


def test_checksum_is_the_split_files_sha256(tmp_path: Path) -> None:
    (tmp_path / "train.txt").write_text(CONLL, "utf-8")
    assert DataSource(tmp_path).checksum("train") == hashlib.sha256(CONLL.encode()).hexdigest()


def test_mistyped_paths_are_refused(tmp_path: Path) -> None:
    """Training and evaluation used to ignore all images silently."""
    with pytest.raises(NotADirectoryError, match="nope: no such folder of photos"):
        DataSource(tmp_path, images=tmp_path / "nope")
    with pytest.raises(FileNotFoundError, match="nope: no such file or folder"):
        DataSource(tmp_path / "nope")


def test_a_folders_name_keeps_its_dots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "v1.2").mkdir()
    monkeypatch.chdir(tmp_path / "v1.2")
    assert DataSource(Path()).name == "v1.2"
    (tmp_path / "v1.2" / "train.txt").write_text(CONLL, "utf-8")
    (tmp_path / "v1.2" / "posts.txt").write_text(CONLL, "utf-8")
    assert DataSource(Path("train.txt")).name == "v1.2"
    assert DataSource(Path("posts.txt")).name == "posts"


@pytest.mark.parametrize("name", ["valid", "dev", "val", "validation"])
@pytest.mark.parametrize(("suffix", "content"), [(".txt", CONLL), (".jsonl", JSONL)])
def test_the_valid_split_has_other_names(tmp_path: Path, name: str, suffix: str, content: str) -> None:
    """Training went without the posts of dev.txt and said "0 valid posts"."""
    path = tmp_path / f"{name}{suffix}"
    path.write_text(content, "utf-8")
    source = DataSource(tmp_path)
    assert {source.file(split) for split in ("valid", "dev", "val", "validation")} == {path}
    assert len(source.read("valid")) == 1
    assert set(source.checksums()) == {"valid"}
    assert DataSource(path).name == tmp_path.name


@pytest.mark.parametrize("names", [("valid.txt", "dev.txt"), ("dev.jsonl", "validation.txt"), ("val.txt", "val.jsonl")])
@pytest.mark.parametrize("split", ["valid", "dev"])
def test_two_names_of_one_split_are_refused(tmp_path: Path, names: tuple[str, str], split: str) -> None:
    for name in names:
        (tmp_path / name).write_text(CONLL if name.endswith(".txt") else JSONL, "utf-8")
    with pytest.raises(UnusableSplit, match=f"both {names[0]} and {names[1]}; only one"):
        DataSource(tmp_path).read(split)


def test_all_names_of_a_missing_split_are_told(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no valid\.txt or valid\.jsonl or dev\.txt or .* or validation.jsonl"):
        DataSource(tmp_path).read("valid")
