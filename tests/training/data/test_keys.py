import json
from pathlib import Path

import pytest

from training.data.errors import InvalidLine
from training.data.keys import refused_key
from training.data.readers import read_posts

TEXT: dict[str, object] = {"text": "Nora in Oslo"}
WORDS: dict[str, object] = {"tokens": ["Nora", "in", "Oslo"]}


@pytest.mark.parametrize(
    ("record", "advice"),
    [
        (TEXT | {"label": [[0, 4, "PER"]]}, '"label" is not read: write "entities": [{"start": 0'),  # doccano
        (TEXT | {"labels": []}, '"labels" is not read: write "entities"'),
        (
            WORDS | {"labels": ["B-PER", "O", "B-LOC"]},
            '"labels" is not read: write "tags": ["B-PER", "O"] beside "tokens"',
        ),
        (TEXT | {"mentions": [{"start": 0, "end": 4, "type": "PER"}]}, '"mentions" is not read: write "entities"'),
        (TEXT | {"mentions": [[0, 4, "PER"]]}, '"mentions" is not read: write "entities"'),
        *[
            (WORDS | {key: ["B-PER", "O", "B-LOC"]}, f'"{key}" is not read: write "tags"')
            for key in (
                *("ner-tags", "nerTags", "NERTags", "ner_label", "labels_ner", "bio_labels", "ne_tags", "iob", "IOB2"),
                *("gold_tags", "tags-ner", "token_labels", "bioes", "bilou_tags", "label", "spans", "entity_tags"),
            )
        ],
        *[
            (TEXT | {key: [[0, 4, "PER"]]}, f'"{key}" is not read: write "entities"')
            for key in ("gold_entities", "goldEntities", "spans_ner", "ner-spans", "Named_Entities", "annots", "ents")
        ],
        ({"words": ["Nora"], "ner_tags": [1]}, '"ner_tags" is not read: write "tags"'),
        (
            TEXT | {"spans": [{"start": 0, "end": 4, "label": "PER"}]},
            '"spans" is not read: write "entities"',
        ),  # Prodigy
        ({"tokenized_text": ["Nora"], "ner": [[0, 0, "PER"]]}, '"ner" is not read: write "entities"'),  # GLiNER
        (WORDS | {"ner_tags": [1, 0, 2]}, '"ner_tags" is not read: write "tags": ["B-PER", "O"] beside "tokens", each'),
        (WORDS | {"NER_tags": ["B-PER", "O", "B-LOC"]}, '"NER_tags" is not read: write "tags"'),
        *[
            (TEXT | {key: []}, f'"{key}" is not read: did you mean "entities"?')
            for key in ("entites", "Entities", "ENTITIES", "entitities", "enitites", "entitiy", "entitys")
        ],
        (WORDS | {"tag": ["O"]}, '"tag" is not read: did you mean "tags"?'),
        ({"Text": "hi"}, '"Text" is not read: did you mean "text"?'),
        ({"token": ["hi"]}, '"token" is not read: did you mean "tokens"?'),
        (TEXT | {"images": ["1.jpg"]}, '"images" is not read: did you mean "image"?'),
        (TEXT | {"ID": 5}, '"ID" is not read: did you mean "id"?'),
    ],
)
def test_keys_of_other_tools_are_refused(record: dict[str, object], advice: str) -> None:
    """Posts with these keys were read as untagged."""
    assert (refused_key(record) or "").startswith(advice)


@pytest.mark.parametrize(
    "key",
    [
        *(
            "lang",
            "url",
            "created_at",
            "likes",
            "caption",
            "dataset",
            "user",
            "hashtags",
            "source",
            "image_id",
            "title",
        ),
        *(
            "image_url",
            "full_text",
            "text_id",
            "context",
            "date",
            "split",
            "score",
            "meta",
            "_id",
            "idx",
            "type",
            "test",
        ),
        *("pos_tags", "mentions", "topics", "image2", "stage", "ids", "model", "request_id", "image_used", "width"),
    ],
)
def test_other_keys_are_let_through(key: str) -> None:
    assert refused_key(TEXT | {key: "anything"}) is None


@pytest.mark.parametrize("users", [[], ["@nba"], [{"screen_name": "nba"}], "@nba", 2])
def test_mentions_of_users_are_let_through(users: object) -> None:
    assert refused_key(TEXT | {"mentions": users}) is None


def test_a_key_beside_its_namesake_is_harmless() -> None:
    both = TEXT | {
        "entities": [],
        "tag": "sports",
        "image": "1.jpg",
        "images": ["1.jpg", "2.jpg"],
        "id": 1,
        "ID": 2,
    }
    assert refused_key(both) is None
    assert refused_key(TEXT | {"label": None}) is None


def test_the_line_of_a_refused_key_is_named(tmp_path: Path) -> None:
    file = tmp_path / "train.jsonl"
    file.write_text("\n".join(json.dumps(record) for record in (TEXT, TEXT | {"entites": []})), "utf-8")
    with pytest.raises(InvalidLine, match=rf'{file}:2: "entites" is not read: did you mean "entities"\?'):
        read_posts(file)


@pytest.mark.parametrize("name", ["posts/posts", "pairs/pairs"])
def test_real_posts_have_no_refused_keys(shared_data: Path, name: str) -> None:
    lines = (shared_data / f"{name}.jsonl").read_text("utf-8").splitlines()
    assert {refused_key(json.loads(line)) for line in lines} == {None}
