"""The answers of the service, as the OpenAPI document describes them."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from service.http.problems import PostProblem


class AttentionWeights(BaseModel):
    """Where in the photo an entity's span looked: weights averaged over the heads, which sum to 1."""

    model_config = ConfigDict(from_attributes=True)

    overall: Annotated[float, Field(serialization_alias="global", description="weight of the photo as a whole")]
    regions: Annotated[list[list[float]], Field(description="weights of a square grid of regions, from the top left")]


class FoundEntity(BaseModel):
    """A named entity of the text."""

    model_config = ConfigDict(from_attributes=True)  # of model.Entity

    entity_group: Annotated[str, Field(description="its type; /info lists all types", examples=["PER"])]
    word: Annotated[str, Field(description="its words, as they stand in the text", examples=["Kawhi Leonard"])]
    start: Annotated[
        int, Field(description="where it begins, in code points; JavaScript has UTF-16 units", examples=[6])
    ]
    end: Annotated[int, Field(description="where it ends: text[start:end] is the word", examples=[19])]
    score: Annotated[float, Field(gt=0, le=1, description="the probability of its type", examples=[0.997])]
    attention: Annotated[AttentionWeights | None, Field(description="with explain=true, for a post with a photo")] = (
        None
    )
    scores: Annotated[
        dict[str, float] | None,
        Field(description="with explain=true, the probability of every type", examples=[{"PER": 0.91, "LOC": 0.03}]),
    ] = None


class ModelIdentity(BaseModel):
    """The checkpoint that answers."""

    model_config = ConfigDict(from_attributes=True)  # of model.Recognizer

    name: Annotated[str, Field(examples=["smner-compact"])]
    revision: Annotated[str, Field(description="changes with any byte of the checkpoint", examples=["9b1c…"])]


class Recognition(BaseModel):
    """The answer to a post."""

    entities: Annotated[list[FoundEntity], Field(description="ordered by position, without overlaps")]
    image_used: Annotated[bool, Field(description="whether the post had a photo")]
    model: ModelIdentity
    request_id: Annotated[str, Field(description="the X-Request-ID of this answer", examples=["5f0c…"])]


class RecognizedPost(BaseModel):
    """The answer to one post of a batch."""

    id: Annotated[Any, Field(description="as it was sent; left out if the post has none")] = None
    entities: Annotated[list[FoundEntity], Field(description="ordered by position, without overlaps")]
    image_used: Annotated[bool, Field(description="whether the post had a photo")]


class FailedPost(BaseModel):
    """The answer to a post of a batch that could not be answered otherwise; it costs no other post."""

    id: Annotated[Any, Field(description="as it was sent; left out if the post has none")] = None
    error: PostProblem


class BatchRecognition(BaseModel):
    """The answer to a batch."""

    results: Annotated[list[RecognizedPost | FailedPost], Field(description="one for each post, in their order")]
    model: ModelIdentity
    request_id: Annotated[str, Field(description="the X-Request-ID of this answer", examples=["5f0c…"])]


class Health(BaseModel):
    """The check passed."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"status": "ok"}]})

    status: Annotated[str, Field(description="ok; a failed check is a problem document with status 503")] = "ok"


class FullHealth(Health):
    """The service is alive and ready."""

    model: ModelIdentity
    device: Annotated[str, Field(description="where the network runs", examples=["cuda:0"])]


class Limits(BaseModel):
    """The limits on a request, and on what the service does at once."""

    head_bytes: Annotated[int, Field(description="size of the request line and headers; also of trailers")]
    head_seconds: Annotated[float, Field(description="time for them to arrive")]
    unread_seconds: Annotated[float, Field(description="time for the client to read an answer")]
    pipelined_requests: Annotated[int, Field(description="requests waiting on a connection for the one before them")]
    body_bytes: Annotated[int, Field(description="size of the body of a post")]
    batch_body_bytes: Annotated[int, Field(description="size of the body of a batch")]
    request_posts: Annotated[int, Field(description="posts in a batch")]
    image_bytes: int
    image_pixels: int
    text_characters: int
    text_tokens: Annotated[
        int, Field(description="sub-tokens that the model reads at once; a longer text is read in windows")
    ]
    pending_posts: Annotated[int, Field(description="posts answered at once; eight times as many may be uploading")]
    pending_bytes: Annotated[int, Field(description="bytes received of their bodies, together")]
    batch_tokens: Annotated[int, Field(description="sub-tokens in a batch, padding included")]
    batch_images: Annotated[int, Field(description="photos in a batch")]
    batch_padding: Annotated[float | None, Field(description="sub-tokens of padding per real one; null for no limit")]
    image_cache_bytes: Annotated[int, Field(description="size of the cached features of photos")]
    deadline_seconds: float
    drain_seconds: Annotated[float, Field(description="time that accepted posts get to finish at shutdown")]


class Info(BaseModel):
    """The checkpoint, its entity types, the limits and the versions."""

    model: ModelIdentity
    device: Annotated[str, Field(examples=["cpu"])]
    labels: Annotated[list[str], Field(description="the entity types", examples=[["PER", "LOC", "ORG", "MISC"]])]
    image_formats: Annotated[list[str], Field(examples=[["JPEG", "PNG", "WEBP", "GIF", "AVIF"]])]
    limits: Limits
    versions: Annotated[dict[str, str], Field(examples=[{"torch": "2.14.1"}])]
