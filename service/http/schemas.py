"""What the service answers, as it stands in the OpenAPI document."""

from collections.abc import Sequence
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field

from model import Entity


class AttentionWeights(BaseModel):
    """Where an entity's span looked in the photo: the mean over the heads; all weights together sum to 1."""

    overall: Annotated[float, Field(serialization_alias="global", description="weight of the photo as a whole")]
    regions: Annotated[
        list[list[float]],
        Field(description="weights of the photo's square grid of regions, row by row from the top left"),
    ]


class FoundEntity(BaseModel):
    """A named entity of the text."""

    entity_group: Annotated[str, Field(description="its type; /info lists all of them", examples=["PER"])]
    word: Annotated[str, Field(description="its words, as they stand in the text", examples=["Kawhi Leonard"])]
    start: Annotated[
        int,
        Field(
            description="where it begins, in Unicode code points of the text as it was sent; JavaScript and Java count "
            "UTF-16 units, which differ behind an emoji",
            examples=[6],
        ),
    ]
    end: Annotated[int, Field(description="where it ends: text[start:end] is the word", examples=[19])]
    score: Annotated[float, Field(gt=0, le=1, description="its type's probability", examples=[0.997])]
    attention: Annotated[
        AttentionWeights | None, Field(description="with explain=true, for a post with a photo; else left out")
    ] = None


class ModelIdentity(BaseModel):
    """The checkpoint that answers."""

    name: Annotated[str, Field(examples=["smner-compact"])]
    revision: Annotated[str, Field(description="changes with any byte of the checkpoint", examples=["9b1c…"])]


class Recognition(BaseModel):
    """The answer to a post."""

    entities: Annotated[list[FoundEntity], Field(description="by position, none overlaps another")]
    image_used: Annotated[bool, Field(description="whether the post had a photo")]
    model: ModelIdentity
    request_id: Annotated[str, Field(description="the X-Request-ID of this answer", examples=["5f0c…"])]

    @classmethod
    def of(cls, entities: Sequence[Entity], *, image_used: bool, name: str, revision: str, request_id: str) -> Self:
        """The answer made of what the recognizer found."""
        return cls(
            entities=[_found(entity) for entity in entities],
            image_used=image_used,
            model=ModelIdentity(name=name, revision=revision),
            request_id=request_id,
        )


class Health(BaseModel):
    """The service can do its work."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"status": "ok"}]})

    status: Annotated[str, Field(description="ok; anything else is a problem document with status 503")] = "ok"


class FullHealth(Health):
    """The service is alive and ready."""

    model: ModelIdentity
    device: Annotated[str, Field(description="where the network runs", examples=["cuda:0"])]


class Limits(BaseModel):
    """What is refused above, and what the service takes on at once."""

    head_bytes: Annotated[int, Field(description="request line and headers; trailers, too")]
    head_seconds: Annotated[float, Field(description="for them to arrive")]
    unread_seconds: Annotated[float, Field(description="for the client to read an answer")]
    pipelined_requests: Annotated[int, Field(description="that may wait on a connection behind the one being answered")]
    body_bytes: int
    image_bytes: int
    image_pixels: int
    text_characters: int
    text_tokens: Annotated[int, Field(description="sub-tokens, of which a word has one or more")]
    pending_posts: Annotated[
        int, Field(description="posts answered at the same time; eight times as many are received")
    ]
    pending_bytes: Annotated[int, Field(description="bytes that have come of their bodies together")]
    batch_tokens: Annotated[int, Field(description="sub-tokens that run through the network together")]
    batch_images: Annotated[int, Field(description="photos that run through the network together")]
    batch_padding: Annotated[
        float | None, Field(description="sub-tokens of padding for each real one of a batch; null for no limit")
    ]
    image_cache_bytes: Annotated[int, Field(description="features of photos seen before")]
    deadline_seconds: float
    drain_seconds: Annotated[float, Field(description="what accepted posts get to finish at shutdown")]


class Info(BaseModel):
    """What is served and within which limits."""

    model: ModelIdentity
    device: Annotated[str, Field(examples=["cpu"])]
    labels: Annotated[list[str], Field(description="the entity types", examples=[["PER", "LOC", "ORG", "MISC"]])]
    image_formats: Annotated[list[str], Field(examples=[["JPEG", "PNG", "WEBP", "GIF"]])]
    limits: Limits
    versions: Annotated[dict[str, str], Field(examples=[{"smner": "0.1.0", "torch": "2.14.1"}])]


def _found(entity: Entity) -> FoundEntity:
    looked = entity.attention
    return FoundEntity(
        entity_group=entity.entity_group,
        word=entity.word,
        start=entity.start,
        end=entity.end,
        score=entity.score,
        attention=None if looked is None else AttentionWeights(overall=looked.overall, regions=looked.regions),
    )
