"""Refuses the keys of other tools in a JSON post, which would silently leave it untagged or without its photo."""

import re
from collections.abc import Collection, Mapping
from difflib import get_close_matches

_SPANS = 'write "entities": [{"start": 0, "end": 4, "type": "PER"}] beside "text", with offsets in code points'
_TAGS = 'write "tags": ["B-PER", "O"] beside "tokens", each tag by its name'
_SCHEME = "ner|bio|bioes?|bmewo|bilou|iob[12]?|iobes"
_QUALIFIER = f"{_SCHEME}|ne|named|entity|gold|true|fine|coarse|token|word|span|char"
_SPAN_NOUN = "spans?|ents?|entity|entities|mentions?|annotations?|annots?"
_NOUN = f"{_SPAN_NOUN}|tags?|labels?"
# Keys that may hold tags or entities, without case, - and _: labels, ner_tags, goldEntities, spans-ner, iob.
_TAGGING = re.compile(f"(?:{_QUALIFIER})*(?:{_NOUN})(?:{_QUALIFIER})*|(?:{_QUALIFIER})*(?:{_SCHEME})")
_OF_SPANS = re.compile(f".*(?:{_SPAN_NOUN}).*|ner")
_NEARLY_READ = ("tag", "tags", "entities")  # misspellings of keys that are read
_MENTIONS = ("mention", "mentions")  # of entities, or of users
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
        if advice := _advice(key, record[key], given):
            return f'"{key}" is not read: {advice}'
        if meant := _meant(key, missing):
            return f'"{key}" is not read: did you mean "{meant}"?'
    return None


def _advice(key: str, value: object, given: Collection[str]) -> str | None:
    """How to write what a key of another tool holds; None if it is no such key."""
    folded = re.sub("[-_]", "", key.casefold())
    if folded in _NEARLY_READ or not _TAGGING.fullmatch(folded) or (folded in _MENTIONS and not _has_spans(value)):
        return None
    if "tokens" in given:
        return _TAGS
    return _SPANS if "text" in given or _OF_SPANS.fullmatch(folded) else _TAGS


def _has_spans(value: object) -> bool:
    items = value if isinstance(value, list) else []
    return any(isinstance(item, list) or (isinstance(item, dict) and "start" in item) for item in items)


def _meant(key: str, missing: list[str]) -> str | None:
    """The missing key that ``key`` is a misspelling of; a number at its end makes it another one's."""
    if (folded := key.casefold()) in missing:
        return folded
    if key[-1:].isdigit():
        return None
    long = [name for name in missing if len(name) >= _MIN_LENGTH]
    return next(iter(get_close_matches(folded, long, n=1, cutoff=_SIMILARITY)), None)
