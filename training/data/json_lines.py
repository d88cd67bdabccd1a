"""Reading posts from JSON lines, objects with the fields of :class:`_Record`."""

import json
from collections import Counter
from collections.abc import Callable
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import AfterValidator, AliasChoices, BaseModel, BeforeValidator, Field, ValidationError, model_validator

from model.preprocessing.visible_text import read_visible
from model.preprocessing.words import Word, join_words, split_words
from training.data.errors import InvalidLine
from training.data.images import find_image, first_file
from training.data.keys import refused_key
from training.data.posts import LabeledPost, TypedWords, UnusableImage, is_encodable, is_type
from training.data.tags import TAG_FORM, entities_of_tags, explain_number, is_tag

_KINDS = {"missing": "given", "int_type": "an integer", "list_type": "a list", "string_type": "a string"}


def read_json_line(path: Path, number: int, line: str, images: Path | None) -> LabeledPost:
    """Read the post in line ``number``; raises InvalidLine saying what was expected and what was found."""
    try:
        record = _Record.model_validate(json.loads(line, object_pairs_hook=_object))
    except ValidationError as error:
        raise InvalidLine(path, number, *_explain(error)) from error
    except (ValueError, RecursionError) as error:
        raise InvalidLine(path, number, f"expected a JSON object ({error})", line) from error
    image, missing = _image(record, path, images)
    return LabeledPost(
        id=f"line {number}" if record.id is None else record.id,
        words=tuple(word.text for word in record.words),
        entities=record.typed_words,
        image=image,
        unusable_image=missing,
        image_id=Path(record.image).stem if record.image else None,
        place=(path, number),
        line_starts=tuple(i for i, (before, word) in enumerate(pairwise(record.words), 1) if before.line != word.line),
    )


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Refuses a key that is given twice, of which the last one would count."""
    found = dict(pairs)
    if len(found) < len(pairs):
        ((repeated, _),) = Counter(key for key, _ in pairs).most_common(1)
        raise ValueError(f'"{repeated}" is given twice')
    return found


def _satisfies(check: Callable[[str], bool], expected: str) -> AfterValidator:
    def validate(value: str) -> str:
        if not check(value):
            raise ValueError(expected)
        return value

    return AfterValidator(validate)


_Encodable = Annotated[str, _satisfies(is_encodable, "a string without half a surrogate pair")]
_Type = Annotated[str, _satisfies(is_type, "a name without white space, and not O")]
_Tag = Annotated[str, _satisfies(is_tag, TAG_FORM)]


class _Entity(BaseModel, strict=True):
    """An entity by its offsets in code points; its ``word``, if given, reveals offsets that count something else."""

    start: int
    end: int
    type: _Type = Field(validation_alias=AliasChoices("type", "entity_group"))
    word: Any = None

    def locate(self, text: str, words: list[Word]) -> TypedWords:
        """The words between the offsets; white space at the edges is ignored."""
        start, end = self.start, self.end
        found = text[start:end]
        if not 0 <= start < end <= len(text):
            raise ValueError(f"expected 0 ≤ start < end ≤ {len(text)} code points, found {start} and {end}")
        if isinstance(self.word, str) and _as_read(self.word) != _as_read(found):
            raise ValueError(
                f"expected {self.word!r} at {start} to {end}, found {found!r}; offsets count Unicode code points"
            )
        inside = [i for i, word in enumerate(words) if word.start < end and word.end > start]
        if not inside:
            raise ValueError(f"expected an entity to have a word, but {start} to {end} is white space")
        for word in words[inside[0] : inside[-1] + 1]:
            if word.start < start or word.end > end:
                raise ValueError(
                    f"expected an entity of whole words, but {found!r} ({start} to {end}) cuts {word.text!r} "
                    f"({word.start} to {word.end})"
                )
        if words[inside[0]].line != words[inside[-1]].line:
            raise ValueError(
                f"expected an entity within one line, but {found!r} ({start} to {end}) crosses a line break"
            )
        return TypedWords(inside[0], inside[-1], self.type)


class _Record(BaseModel, strict=True):
    """``tokens`` and perhaps ``tags``, or ``text`` and perhaps ``entities``; without either, the post is untagged.

    ``image`` is a path relative to the image folder or, without one, to the file's own folder.
    """

    id: Annotated[_Encodable | None, BeforeValidator(lambda given: None if given is None else str(given))] = None
    image: _Encodable | None = None
    tokens: list[str] | None = None
    text: str | None = None
    tags: list[_Tag] | None = None
    entities: list[_Entity] | None = None

    @cached_property
    def words(self) -> list[Word]:
        return split_words(self.text or "") if self.tokens is None else join_words(self.tokens)

    @cached_property
    def typed_words(self) -> tuple[TypedWords, ...] | None:
        if self.entities is None:
            return None if self.tags is None else entities_of_tags(self.tags)
        return tuple(sorted(entity.locate(self.text or "", self.words) for entity in self.entities))

    @model_validator(mode="before")
    @classmethod
    def _has_no_foreign_keys(cls, given: object) -> object:
        if isinstance(given, dict) and (fault := refused_key(given)):
            raise ValueError(fault)
        return given

    @model_validator(mode="after")
    def _fields_agree(self) -> Self:
        if not self.words or not all(word.text for word in self.words):
            raise ValueError('expected "tokens", a list of words, or "text" that is not blank')
        if broken := [token for token in self.tokens or () if not token.isspace() and len(token.split()) > 1]:
            raise ValueError(f"expected tokens without white space, found {broken[0]!r}")
        if self.tags is not None and len(self.tags) != len(self.words):
            raise ValueError(f'expected {len(self.words)} "tags", one a token, found {len(self.tags)}')
        if self.entities is not None and (self.tokens is not None or self.tags is not None):
            raise ValueError('expected "entities" beside "text" alone, without "tokens" and "tags"')
        for before, after in pairwise(self.typed_words or ()):
            if after.start <= before.end:
                word = self.words[after.start].text
                raise ValueError(f"expected entities that do not overlap, found two with the word {word!r}")
        return self


def _explain(error: ValidationError) -> tuple[str, object]:
    """What was expected and what was found, in a sentence, and the value that was found."""
    fault = error.errors(include_url=False)[0]
    field, kind, value = ".".join(map(str, fault["loc"])), fault["type"], fault["input"]
    own = str(fault["ctx"]["error"]) if kind == "value_error" else ""
    if own and not field:
        return own, value
    if field.startswith("tags.") and (isinstance(value, int) or str(value).isdecimal()):
        return explain_number(value), value
    subject = f'"{field}" to be ' if field else ""
    expected = own or _KINDS.get(kind, "a JSON object")  # else it is model_type
    return f"expected {subject}{expected}, found {value!r}"[:300], value


def _as_read(text: str) -> str:
    """What a reader sees, without case and white space, which another tagger's ``word`` may lack."""
    return "".join(read_visible(text).text.split()).casefold()


def _image(record: _Record, path: Path, images: Path | None) -> tuple[Path | None, UnusableImage | None]:
    """The image of a post, or else the one that it names and that is missing; an ``id`` need not have an image."""
    if not record.image:
        return None if record.id is None else find_image(images, record.id), None
    named = Path(record.image)
    image = first_file(*([path.parent / named] if images is None else [images / named, images / named.name]))
    return image, UnusableImage(record.image, "missing") if image is None else None
