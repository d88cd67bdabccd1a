import gzip
import json
import time
from collections.abc import Sequence
from itertools import chain
from pathlib import Path

import pytest

from model import Entity, Post, Recognizer
from model.errors import InvalidPostFile
from model.post_files import recognition
from model.post_files.recognition import Tally, recognize_file

TEXT = "Kawhi Leonard wins the NBA award"
POSTS = [{"id": i, "text": f"{TEXT} {'a ' * (i % 7)}{i}"} for i in range(40)]


def write(path: Path, *records: object) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records), "utf-8")
    return path


def read(path: Path) -> list[dict[str, object]]:
    content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    return [json.loads(line) for line in content.splitlines()]


def test_each_line_gets_an_answer_or_an_error(recognizer: Recognizer, tmp_path: Path, jpeg: bytes) -> None:
    """A broken line costs nothing else."""
    (tmp_path / "photo.jpg").write_bytes(jpeg)
    source = write(tmp_path / "posts.jsonl", {"id": 7, "text": TEXT, "image": "photo.jpg"}, {"tokens": ["a", "b"]})
    with source.open("ab") as file:
        file.write(b'\n{"id": 8, "text": "a", "image": "missing.jpg"}\n' + b"[" * 100_000 + b'\n{"text": "b"}')
    assert recognize_file(recognizer, source, tmp_path / "answers.jsonl") == Tally(answered=3, failed=2)
    answers = read(tmp_path / "answers.jsonl")
    assert [answer["line"] for answer in answers] == [1, 2, 4, 5, 6]
    assert [answer["id"] for answer in answers] == [7, None, 8, None, None]
    assert (answers[0]["image_used"], answers[1]["text"], answers[4]["text"]) == (True, "a b", "b")
    assert ["error" in answer for answer in answers] == [False, False, True, True, False]


def test_answers_are_those_of_each_post(recognizer: Recognizer, tmp_path: Path) -> None:
    """They are sorted by length to be recognized, and come back in order."""
    source = write(tmp_path / "posts.jsonl", *POSTS)
    recognizer.batch_size = 3
    recognize_file(recognizer, source, tmp_path / "answers.jsonl")
    for post, answer in zip(POSTS, read(tmp_path / "answers.jsonl"), strict=True):
        entities = answer["entities"]
        assert isinstance(entities, list)
        assert answer["text"] == post["text"]
        expected = [(entity.word, entity.start) for entity in recognizer.recognize(str(post["text"]))]
        assert [(entity["word"], entity["start"]) for entity in entities] == expected


@pytest.mark.parametrize("name", ["answers.jsonl", "answers.jsonl.gz"])
def test_an_interrupted_run_is_resumed(recognizer: Recognizer, tmp_path: Path, name: str) -> None:
    """Wherever it was cut; an error stays the post's answer."""
    source = write(tmp_path / "posts.jsonl", *POSTS, {"id": "no text"})
    recognizer.batch_size = 1
    recognize_file(recognizer, source, tmp_path / "whole.jsonl")
    whole = read(tmp_path / "whole.jsonl")
    output = tmp_path / name
    recognize_file(recognizer, source, output)
    cut = output.read_bytes()
    for size in (0, 5, 100, len(cut) // 2, len(cut) - 1, len(cut)):
        output.write_bytes(cut[:size])
        tally = recognize_file(recognizer, source, output)
        assert read(output) == whole
        assert (tally.answered, tally.failed) == (40, 1)
    assert tally.earlier == 41
    assert output.read_bytes() == cut


@pytest.mark.parametrize(
    ("posts", "message"),
    [
        (POSTS[5:10], "line 1 of .*posts.jsonl is not the post that .*answers.jsonl answers there"),
        ([*POSTS[:3], {"id": "new", "text": "a"}, *POSTS[3:]], "line 4 of .* is not the post"),
        ([POSTS[1], POSTS[0], *POSTS[2:]], "line 1 of .* is not the post"),
        ([*POSTS[:4], POSTS[4] | {"text": "edited"}], "line 5 of .* is not the post"),
        (POSTS[:4], "answers line 5, but .*posts.jsonl ends before; restore it or choose another output"),
        ([], "answers line 1, but .*posts.jsonl ends before"),
    ],
)
def test_other_posts_are_not_answered_earlier(
    recognizer: Recognizer, tmp_path: Path, posts: list[object], message: str
) -> None:
    """Answers were once counted only, so another file's stayed and an inserted post got none."""
    output = tmp_path / "answers.jsonl"
    recognize_file(recognizer, write(tmp_path / "posts.jsonl", *POSTS[:5]), output)
    before = output.read_bytes()
    with pytest.raises(InvalidPostFile, match=message):
        recognize_file(recognizer, write(tmp_path / "posts.jsonl", *posts), output)
    assert output.read_bytes() == before


def test_posts_may_be_appended(recognizer: Recognizer, tmp_path: Path) -> None:
    output = tmp_path / "answers.jsonl"
    recognize_file(recognizer, write(tmp_path / "posts.jsonl", *POSTS[:5]), output)
    tally = recognize_file(recognizer, write(tmp_path / "posts.jsonl", *POSTS), output)
    assert str(tally) == "40 posts answered, 0 failed; 5 of them by an earlier run"
    assert [answer["id"] for answer in read(output)] == list(range(40))


def test_the_tally_is_a_sentence() -> None:
    assert str(Tally(answered=1, failed=2)) == "1 post answered, 2 failed"


def test_damage_costs_only_what_follows(recognizer: Recognizer, tmp_path: Path) -> None:
    """With the file restored, the run goes on."""
    output, source = tmp_path / "answers.jsonl", tmp_path / "posts.gz"
    packed = gzip.compress(write(tmp_path / "posts.jsonl", *POSTS).read_bytes())
    source.write_bytes(packed[:-4])
    with pytest.raises(InvalidPostFile, match="the gzip data are damaged after line 40"):
        recognize_file(recognizer, source, output)
    assert [answer["id"] for answer in read(output)] == list(range(40))
    source.write_bytes(packed)
    assert recognize_file(recognizer, source, output).earlier == 40


@pytest.mark.parametrize(
    "content", [b'{"id": 1, "line": 7, "text": "precious"}', b'{"id": 1, "line": 7, "text": "a', b""]
)
def test_the_posts_themselves_are_not_overwritten(recognizer: Recognizer, tmp_path: Path, content: bytes) -> None:
    """Without a line feed, the first was taken for an answer that was cut off, and removed."""
    source = tmp_path / "posts.jsonl"
    source.write_bytes(content)
    (tmp_path / "link").symlink_to(source)
    for output in (source, tmp_path / "link"):
        with pytest.raises(FileExistsError, match=r"posts\.jsonl is the output, too; choose another name"):
            recognize_file(recognizer, source, output)
    assert source.read_bytes() == content


def test_a_missing_input_leaves_no_output(recognizer: Recognizer, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        recognize_file(recognizer, tmp_path / "missing", tmp_path / "answers.jsonl")
    assert not (tmp_path / "answers.jsonl").exists()


def test_photos_are_decoded_beside_the_model(
    recognizer: Recognizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While it is busy with one window, the next one is prepared."""
    prepared, at_run = [], []
    prepare = recognizer.prepare

    def count(*args: object) -> Post:
        prepared.append(args)
        return prepare(*args)  # type: ignore[arg-type]

    def run(posts: Sequence[Post]) -> list[list[Entity]]:
        time.sleep(0.05)
        at_run.append(len(prepared))
        return [[] for _ in posts]

    monkeypatch.setattr(recognizer, "prepare", count)
    monkeypatch.setattr(recognizer, "run_batches", run)
    monkeypatch.setattr(recognition, "_BATCHES_AHEAD", 2)
    recognizer.batch_size = 4
    source = write(tmp_path / "posts.jsonl", *chain(POSTS, POSTS))
    recognize_file(recognizer, source, tmp_path / "answers.jsonl")
    assert at_run[0] > 4
    assert at_run[1] <= 3 * 8
