"""What a checkpoint says about its training, for programs: ``training.json``. The model card is written from it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, ValidationError

from model.errors import InvalidCheckpoint
from training.data.training_data import TrainingData
from training.recipes.recipe import Recipe

RECORD_FILE = "training.json"


class Source(BaseModel):
    """Posts of one source that the network was trained on.

    Attributes:
        posts, images: how many, and how many of them have an image that could be used.
        sha256: of the file with the posts.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    posts: int
    images: int
    sha256: str | None


class TrainingRecord(BaseModel):
    """How a checkpoint came about.

    Attributes:
        recipe: without local paths.
        held_out: how many untagged posts were kept out of training.
        remarks: sentences for the card that somebody wrote, in Markdown.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    recipe: Recipe
    sources: list[Source]
    held_out: int = 0
    remarks: list[str] = []

    @classmethod
    def of(cls, recipe: Recipe, data: TrainingData, images: Mapping[str, int]) -> Self:
        """Describe a run; ``images`` counts the training posts of each source with a usable image."""
        sources = [
            Source(name=part.name, posts=len(part.train), images=images[part.name], sha256=part.checksums.get("train"))
            for part in data.parts
        ]
        public = {key: _public(value) for key, value in recipe.model_dump().items()}
        return cls(recipe=Recipe(**public), sources=sources, held_out=len(data.held_out))

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read a checkpoint's record.

        Raises:
            InvalidCheckpoint: it has none, or one that cannot be read.
        """
        path = folder / RECORD_FILE
        try:
            return cls.model_validate_json(path.read_bytes())
        except OSError as error:
            raise InvalidCheckpoint(f"{path}: cannot be read ({error.strerror}); a card is written from it") from error
        except ValidationError as error:
            faults = "; ".join(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors())
            raise InvalidCheckpoint(f"{path}: {faults}") from error

    def to_json(self) -> str:
        """What :meth:`read` reads."""
        return self.model_dump_json(indent=2) + "\n"


def _public(value: object) -> object:
    """Return a recipe's value; reduce a local path to its name."""
    if isinstance(value, str) and (Path(value).is_absolute() or Path(value).is_dir()):
        return Path(value).name
    return value
