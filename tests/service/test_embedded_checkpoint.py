"""Real posts, end to end: raw text and photo over a socket to the embedded checkpoint."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from model import Recognizer
from tests.service.conftest import Running, serving


@pytest.fixture(scope="module")
def running() -> Iterator[Running]:
    images: dict[str, Any] = {
        "max_body_bytes": 12_000_000,
        "max_image_bytes": 10_000_000,
        "max_image_pixels": 50_000_000,
    }
    with serving(Recognizer.from_pretrained(device="cpu"), **images) as it:
        yield it


@pytest.fixture(scope="module")
def pairs(shared_data: Path) -> list[dict[str, Any]]:
    folder = shared_data / "pairs"
    records = [json.loads(line) for line in (folder / "pairs.jsonl").read_text("utf-8").splitlines()]
    return [
        {
            "text": record["text"] or " ".join(record["tokens"]),
            "image": (folder / record["image"]).read_bytes(),
            "gold": mentions(record["tokens"], record["tags"]),
        }
        for record in records
    ]


def mentions(tokens: list[str], tags: list[str]) -> set[tuple[str, str]]:
    """Type and words without spaces, since the benchmark splits words that are whole in the raw text."""
    found: list[tuple[str, str]] = []
    for before, token, tag in zip(["O", *tags], tokens, tags, strict=False):
        if tag.startswith("I-") and before[2:] == tag[2:]:
            found[-1] = (tag[2:], found[-1][1] + token)
        elif tag != "O":
            found.append((tag[2:], token))
    return set(found)


@pytest.fixture(scope="module")
def counts(running: Running, pairs: list[dict[str, Any]]) -> tuple[int, int, int]:
    """Entities in the gold tags, in the answers, and in both."""
    gold = found = right = 0
    for post in pairs:
        answer = running.post(post["text"], post["image"])
        assert answer.status_code == 200
        assert answer.json()["image_used"] is True
        expected = {(kind, mention.removeprefix("#")) for kind, mention in post["gold"]}
        ours = {(entity["entity_group"], "".join(entity["word"].split())) for entity in answer.json()["entities"]}
        gold, found, right = gold + len(expected), found + len(ours), right + len(ours & expected)
    print(f"{right} of {gold} entities are found, {found} are answered")
    return gold, found, right


def test_recall_on_the_benchmark_pairs(counts: tuple[int, int, int]) -> None:
    gold, _, right = counts
    assert right / gold > 0.75


def test_precision_on_the_benchmark_pairs(counts: tuple[int, int, int]) -> None:
    _, found, right = counts
    assert right / found > 0.75


def test_offsets_slice_the_text_sent(running: Running, pairs: list[dict[str, Any]]) -> None:
    for post in pairs:
        text = f" \N{ZERO WIDTH SPACE}👩‍👩‍👧 {post['text']}\n"
        for entity in running.post(text, post["image"]).json()["entities"]:
            assert text[entity["start"] : entity["end"]] == entity["word"]
