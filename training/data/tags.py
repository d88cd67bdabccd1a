"""Tags of words, and the entities that they mark."""

from collections.abc import Iterable

from training.data.posts import TypedWords, is_type

TAG_FORM = "O, B-TYPE or I-TYPE (BIO, BIOES or BILOU)"
# BIO, and what BIOES, BILOU and BMEWO call the last word of an entity and the only one
_BEGINS, _CONTINUES, _ENDS, _IS_WHOLE = "B", ("I", "M"), ("E", "L"), ("S", "U", "W")
_PREFIXES = (_BEGINS, *_CONTINUES, *_ENDS, *_IS_WHOLE)


def entities_of_tags(tags: Iterable[str]) -> tuple[TypedWords, ...]:
    """Read tags as conlleval does: one that continues nothing, or another type, starts an entity; so IOB1 is read, too.

    Twitter-2015 writes OTHER for MISC.
    """
    entities: list[TypedWords] = []
    open_type = ""  # of the entity that may go on
    for position, tag in enumerate(tags):
        prefix, _, kind = tag.partition("-")
        kind = "MISC" if kind == "OTHER" else kind
        if kind and kind == open_type and prefix in (*_CONTINUES, *_ENDS):
            entities[-1] = entities[-1]._replace(end=position)
        elif prefix != "O":
            entities.append(TypedWords(position, position, kind))
        open_type = kind if prefix in (_BEGINS, *_CONTINUES) else ""
    return tuple(entities)


def is_tag(tag: str) -> bool:
    """Whether ``tag`` is O, or a prefix of BIO, BIOES, BILOU or BMEWO and a type."""
    prefix, _, kind = tag.partition("-")
    return tag == "O" or (prefix in _PREFIXES and is_type(kind))


def explain_number(tag: object) -> str:
    """How to convert a tag that is a number."""
    return (
        f"expected tags by name, found the number {tag}: write the names that the data set's list of labels has, such "
        "as B-PER for 1 (with Hugging Face's datasets: features['ner_tags'].feature.names)"
    )
