"""Refuses the keys of other tools in a JSON post, which would silently leave it untagged or without its photo."""

from collections.abc import Mapping
from difflib import get_close_matches

_SPANS = 'write "entities": [{"start": 0, "end": 4, "type": "PER"}] beside "text", with offsets in code points'
_TAGS = 'write "tags": ["B-PER", "O"] beside "tokens", each tag by its name'
_ADVICE = {
    **dict.fromkeys(("label", "labels", "span", "spans", "ent", "ents", "entity", "annotation", "annotations"), _SPANS),
    **dict.fromkeys(("ner", "ner_spans", "entity_spans", "entity_mentions", "named_entities"), _SPANS),
    **dict.fromkeys(("ner_tags", "ner_labels", "ner_tag", "fine_ner_tags", "bio", "bio_tags", "iob_tags"), _TAGS),
}
_ALTERNATIVES = (("id",), ("image",), ("tokens", "text"), ("tags", "entities"))
_SIMILARITY = 0.8  # "entites" and "entities" have 0.93, "image_id" and "image" 0.77
_MIN_LENGTH = 4  # of a key that may be misspelled


def refused_key(record: Mapping[str, object]) -> str | None:
    """What is wrong with the first key that looks as if it were read, and is not; None if there is none."""
    given = {key for key, value in record.items() if value is not None}
    missing = [key for keys in _ALTERNATIVES if given.isdisjoint(keys) for key in keys]
    read = {key for keys in _ALTERNATIVES for key in keys}
    for key in record:
        if key not in given or key in read:
            continue
        if advice := _ADVICE.get(key.casefold()):
            return f'"{key}" is not read: {advice}'
        if meant := _meant(key, missing):
            return f'"{key}" is not read: did you mean "{meant}"?'
    return None


def _meant(key: str, missing: list[str]) -> str | None:
    """The missing key that ``key`` is a misspelling of; a number at its end makes it another one's."""
    if (folded := key.casefold()) in missing:
        return folded
    if key[-1:].isdigit():
        return None
    long = [name for name in missing if len(name) >= _MIN_LENGTH]
    return next(iter(get_close_matches(folded, long, n=1, cutoff=_SIMILARITY)), None)
