import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import pytest

from model import Recognizer
from model.bulk import plan
from model.bulk.outcome import Outcome
from model.bulk.recognition import BulkRun, Share, here
from model.bulk.worker import Job, Worker
from model.post_files.recognition import recognize_file
from tests.model.bulk.folders import TEXT, contents, read_table, some_posts, write_lines, write_table

Answer = Callable[..., Outcome]
SKIPPED = b"\x50\x2a\x4d\x18\x04\0\0\0size"  # a frame that pzstd writes before its own


@pytest.fixture
def answer(tiny_checkpoint: Path) -> Answer:
    """Answer posts in this process, like the command does."""
    recognizer = Recognizer.from_pretrained(tiny_checkpoint, device="cpu", batch_size=2)

    def answer(source: object, output: object, shard: str | None = None, images: str | None = None) -> Outcome:
        run = BulkRun(str(source), str(output), Share.parse(shard), checkpoint=str(tiny_checkpoint))
        inputs, outputs = run.addresses
        worker = Worker(recognizer, Job(inputs=inputs, outputs=outputs, images=images), threads=1)
        return run.answer(here(worker), print)

    return answer


@pytest.fixture
def posts(tmp_path: Path) -> Path:
    """Five files, of all formats; one is much longer than the others."""
    folder = tmp_path / "posts"
    write_table(folder / "long.parquet", some_posts(60))
    write_table(folder / "deep" / "short.parquet", some_posts(3, 100))
    write_lines(folder / "a.jsonl", some_posts(20, 200))
    write_lines(folder / "b.jsonl.gz", [*some_posts(3, 300), {"id": "broken"}])
    write_lines(folder / "c.ndjson.zst", some_posts(3, 400))
    (folder / "c.ndjson.zst").write_bytes(SKIPPED + (folder / "c.ndjson.zst").read_bytes())
    return folder


def test_a_table_is_answered_by_a_table(answer: Answer, tmp_path: Path, recognizer: Recognizer, jpeg: bytes) -> None:
    """A row for each post in the same order, and a bad post costs no other."""
    rows: list[dict[str, Any]] = [
        {"id": 7, "text": TEXT, "image": jpeg},
        {"id": 8, "text": "", "image": None},
        {"id": None, "text": TEXT, "image": b"no photo"},
        {"id": 9, "text": "a", "image": None},
    ]
    write_table(tmp_path / "posts" / "a.parquet", rows)
    outcome = answer(tmp_path / "posts" / "*.parquet", tmp_path / "answers")
    assert str(outcome) == "2 posts answered, 2 failed"
    first, second, third, fourth = read_table(tmp_path / "answers" / "a.parquet")
    assert [row["id"] for row in (first, second, third, fourth)] == [7, 8, None, 9]
    expected = recognizer.recognize(TEXT, jpeg)
    assert [(found["word"], found["start"], found["end"]) for found in first["entities"]] == [
        (entity.word, entity.start, entity.end) for entity in expected
    ]
    assert set(first["entities"][0]) == {"entity_group", "word", "start", "end", "score"}
    assert (first["row"], first["text"], first["image_used"], first["error"]) == (0, TEXT, True, None)
    assert second == {"id": 8, "row": 1, "text": None, "entities": None, "image_used": None} | {
        "error": "the text is empty"
    }
    assert "the photo" in third["error"]
    assert fourth["image_used"] is False


def test_lines_are_answered_as_single_files(
    answer: Answer, posts: Path, tmp_path: Path, recognizer: Recognizer
) -> None:
    answer(posts / "*.jsonl", tmp_path / "answers")
    recognizer.batch_size = 2
    recognize_file(recognizer, posts / "a.jsonl", tmp_path / "single.jsonl")
    bulk, single = (
        [json.loads(line) for line in path.read_text().splitlines()]
        for path in (tmp_path / "answers" / "a.jsonl", tmp_path / "single.jsonl")
    )
    for answers in (bulk, single):
        for line in answers:  # scores depend on the neighbors in a batch
            line["entities"] = [found["word"] for found in line["entities"]]
    assert bulk == single


def test_shards_together_equal_one_run(answer: Answer, posts: Path, tmp_path: Path) -> None:
    """Byte for byte, with the summary, which the last one writes; more shards than files are idle."""
    answer(posts, tmp_path / "whole")
    shards = [answer(posts, tmp_path / "shared", f"{k}/7") for k in range(7)]
    assert contents(tmp_path / "shared") == contents(tmp_path / "whole")
    assert len(contents(tmp_path / "whole")) == 6
    assert [shard.counts.posts for shard in shards].count(0) == 2
    assert [shard.left for shard in shards] == [4, 3, 2, 1, 0, 0, 0]


def test_the_summary_counts_every_post(answer: Answer, posts: Path, tmp_path: Path) -> None:
    answer(posts, tmp_path / "answers")
    summary = json.loads((tmp_path / "answers" / "_SUMMARY.json").read_text())
    assert (summary["posts"], summary["answered"], summary["failed"], summary["files"]) == (90, 89, 1, 5)
    assert summary["checkpoint"]["name"] == "tiny"
    assert len(summary["checkpoint"]["revision"]) == 64
    assert summary["versions"]["torch"]


def test_the_same_command_goes_on(answer: Answer, posts: Path, tmp_path: Path) -> None:
    """What is there is not answered again, but counted; leftovers of a killed run are removed."""
    output = tmp_path / "answers"
    answer(posts, output)
    whole = contents(output)
    (output / "a.jsonl").unlink()
    (output / "_SUMMARY.json").unlink()
    (output / ".a.jsonl.0123.partial").write_bytes(b"half")
    before = (output / "long.parquet").stat().st_mtime_ns
    outcome = answer(posts, output)
    assert contents(output) == whole
    assert [part.source for part in outcome.answered] == ["a.jsonl"]
    assert (outcome.counts.posts, outcome.counts.failed) == (90, 1)
    assert (output / "long.parquet").stat().st_mtime_ns == before


def test_a_new_file_is_answered_beside_others(answer: Answer, posts: Path, tmp_path: Path) -> None:
    answer(posts, tmp_path / "answers")
    write_lines(posts / "new.jsonl", some_posts(2))
    assert [part.source for part in answer(posts, tmp_path / "answers").answered] == ["new.jsonl"]
    assert json.loads((tmp_path / "answers" / "_SUMMARY.json").read_text())["posts"] == 92


def test_other_posts_are_answered_beside_others(answer: Answer, posts: Path, tmp_path: Path) -> None:
    """What was known of the earlier ones stays known: neither their files nor the checkpoint may change."""
    for _ in range(2):
        for name in ("a.jsonl", "*.parquet"):
            answer(posts / name, tmp_path / "answers")
    with pytest.raises(FileExistsError, match="has answers with checkpoint"):
        BulkRun(str(posts / "*.gz"), str(tmp_path / "answers"), Share())
    write_lines(posts / "a.jsonl", some_posts(21))
    with pytest.raises(FileExistsError, match=r"a\.jsonl has changed"):
        answer(posts / "a.jsonl", tmp_path / "answers")


def test_a_changed_file_is_refused(answer: Answer, posts: Path, tmp_path: Path) -> None:
    """Until its answers are removed."""
    answer(posts, tmp_path / "answers")
    write_lines(posts / "a.jsonl", some_posts(21))
    with pytest.raises(
        FileExistsError, match=r"a\.jsonl has changed since .*answers/a\.jsonl was written; remove that"
    ):
        answer(posts, tmp_path / "answers")
    (tmp_path / "answers" / "a.jsonl").unlink()
    assert answer(posts, tmp_path / "answers").counts.posts == 91


def test_a_file_changed_before_its_turn_is_named(posts: Path, tmp_path: Path, tiny_checkpoint: Path) -> None:
    """Its parts might be of two files; so there is no summary."""
    run = BulkRun(str(posts), str(tmp_path / "answers"), Share(), checkpoint=str(tiny_checkpoint))
    source, output = run.addresses
    worker = Worker(Recognizer.from_pretrained(tiny_checkpoint), Job(inputs=source, outputs=output), threads=1)
    write_lines(posts / "a.jsonl", some_posts(21))
    outcome = run.answer(here(worker), print)
    assert outcome.errors == [f"{posts}/a.jsonl changed during the run; remove its answers"]
    assert not (tmp_path / "answers" / "_SUMMARY.json").exists()


def test_another_checkpoint_is_refused(answer: Answer, posts: Path, tmp_path: Path) -> None:
    answer(posts, tmp_path / "answers")
    with pytest.raises(FileExistsError, match=r"has answers with checkpoint .*, not .*; choose another output"):
        BulkRun(str(posts), str(tmp_path / "answers"), Share())
    (tmp_path / "answers" / "_RUN.json").unlink()
    with pytest.raises(FileExistsError, match=r"_RUN\.json does not; choose another output"):
        answer(posts, tmp_path / "answers")


def test_answers_never_mix_with_posts(answer: Answer, posts: Path) -> None:
    """But they may lie beneath: a pattern that matches them, too, reads none of them."""
    for output in (posts, f"{posts}/"):
        with pytest.raises(FileExistsError, match="has the posts; choose another folder"):
            answer(posts / "*.jsonl", output)
    for _ in range(2):
        assert answer(posts / "**" / "*.parquet", posts / "answers").counts.posts == 63
    with pytest.raises(FileExistsError, match="has the posts; choose another folder"):
        answer(posts / "deep", posts)


def test_links_are_followed(answer: Answer, posts: Path, tmp_path: Path) -> None:
    """As those in a cache of the hub; one that leads nowhere is a file that cannot be read."""
    folder = tmp_path / "links"
    folder.mkdir()
    (folder / "a.jsonl").symlink_to(posts / "a.jsonl")
    assert answer(folder, tmp_path / "answers").counts.posts == 20
    write_lines(posts / "a.jsonl", some_posts(21))
    with pytest.raises(FileExistsError, match=r"a\.jsonl has changed"):
        answer(folder, tmp_path / "answers")
    (folder / "b.jsonl").symlink_to("nowhere")
    assert "b.jsonl cannot be read" in answer(folder / "b*", tmp_path / "others").errors[0]


def test_hidden_folders_are_ignored(answer: Answer, posts: Path, tmp_path: Path) -> None:
    """As a Delta table's log, which is a table of something else; not the one that was asked for."""
    write_table(posts / "_delta_log" / "0.checkpoint.parquet", [{"name": "a"}])
    write_lines(posts / ".git" / "a.jsonl", some_posts(1))
    assert answer(posts, tmp_path / "answers").counts.posts == 90
    assert answer(posts / ".git", tmp_path / "others").counts.posts == 1


def test_a_damaged_file_costs_only_itself(answer: Answer, posts: Path, tmp_path: Path) -> None:
    """It has no answers, so there is no summary; mended, it is answered by the same command."""
    whole = (posts / "b.jsonl.gz").read_bytes()
    (posts / "b.jsonl.gz").write_bytes(whole[:-9])
    (posts / "d.parquet").write_bytes(b"PAR1 nothing")
    write_table(posts / "e.parquet", [{"name": "a"}])
    outcome = answer(posts, tmp_path / "answers")
    assert outcome.counts.posts == 86
    damaged, wrong, other = sorted(outcome.errors)
    assert "b.jsonl.gz: the gzip data are damaged after line 4" in damaged
    assert "d.parquet cannot be read: Parquet magic bytes not found" in wrong
    assert "e.parquet has neither a column text nor tokens, but name" in other
    assert (
        not list((tmp_path / "answers").glob("[bde._]*.*t*")) or not (tmp_path / "answers" / "_SUMMARY.json").exists()
    )
    (posts / "b.jsonl.gz").write_bytes(whole)
    (posts / "d.parquet").unlink()
    (posts / "e.parquet").unlink()
    assert answer(posts, tmp_path / "answers").counts.posts == 90
    assert (tmp_path / "answers" / "_SUMMARY.json").exists()


def test_a_large_table_is_answered_in_parts(answer: Answer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Consecutive row groups; rows are numbered as in the file."""
    monkeypatch.setattr(plan, "PART_ROWS", 25)
    monkeypatch.setattr(plan, "_SMALL_BYTES", 0)
    write_table(tmp_path / "posts" / "a.parquet", some_posts(70), row_group_size=10)
    answer(tmp_path / "posts", tmp_path / "answers")
    names = [f"a-{i:05}-of-00003.parquet" for i in range(3)]
    parts = [read_table(tmp_path / "answers" / name) for name in names]
    assert [len(rows) for rows in parts] == [30, 30, 10]
    assert [(row["row"], row["id"]) for rows in parts for row in rows] == [(i, f"p{i}") for i in range(70)]


def test_a_store_is_read_and_written(answer: Answer, posts: Path, tmp_path: Path, jpeg: bytes) -> None:
    """As from here to here; photos are in another folder of it."""
    store = fsspec.filesystem("memory")
    store.put(f"{posts}/", "/posts/", recursive=True)
    store.pipe("/photos/b/a.jpg", jpeg)
    names = ["b/a.jpg", "memory://photos/b/a.jpg", "b/missing.jpg", "s3://elsewhere/a.jpg"]
    lines = "".join(json.dumps({"text": "a", "image": name}) + "\n" for name in names)
    store.pipe("/posts/photos.jsonl", lines.encode())
    try:
        outcome = answer("memory://posts/**/*", "memory://answers", images="memory://photos")
        assert (outcome.counts.posts, outcome.counts.images_used, outcome.counts.failed) == (94, 2, 3)
        store.get("/answers/", str(tmp_path / "fetched"), recursive=True)
        answer(posts, tmp_path / "answers")
        fetched, direct = contents(tmp_path / "fetched"), contents(tmp_path / "answers")
        assert fetched.pop("_SUMMARY.json") != direct.pop("_SUMMARY.json")
        errors = [json.loads(line).get("error") for line in fetched.pop("photos.jsonl").splitlines()]
        assert errors[2:] == [
            "there is no photo memory:///photos/b/missing.jpg",
            "the photo s3://elsewhere/a.jpg is not in memory:///photos",
        ]
        assert fetched == direct
    finally:
        store.rm("/posts", recursive=True)
        store.rm("/photos", recursive=True)
        store.rm("/answers", recursive=True)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("*.csv", r"posts\.csv: the name ends in none of"),
        ("*.tsv", "there are no files of posts"),
        ("absent/", "absent"),
        ("*.jsonl", r"\\udcff\.jsonl': the name is not UTF-8"),
    ],
)
def test_what_is_not_read_is_named(answer: Answer, tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "posts.csv").touch()
    (tmp_path / os.fsdecode(b"\xff.jsonl")).touch()
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        answer(tmp_path / name, tmp_path / "answers")


@pytest.mark.parametrize("text", ["3", "16/16", "-1/4", "a/b", "0/0", "1/2/3"])
def test_a_shard_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"expected K/N, with K from 0 to N - 1"):
        Share.parse(text)
