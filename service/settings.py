"""Every option of the service, once: a field here is a flag of ``smner-serve`` and an ``SMNER_…`` variable."""

import os
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError
from pydantic_settings import BaseSettings, SettingsConfigDict

_MIB = 2**20


def available_cores() -> int:
    """CPU cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class Settings(BaseSettings):
    """Serve SMNER over HTTP. Every option is also an environment variable: --max-body-bytes is SMNER_MAX_BODY_BYTES."""

    model_config = SettingsConfigDict(
        env_prefix="SMNER_",
        env_ignore_empty=True,  # compose hands over "" for a variable that is not set
        frozen=True,
        cli_prog_name="smner-serve",
        cli_kebab_case=True,
        cli_hide_none_type=True,
        cli_avoid_json=True,
        cli_exit_on_error=False,  # smner-serve says it in one line
    )

    host: Annotated[
        str,
        Field(
            min_length=1,
            description="address to listen on; the default is reached from this machine alone, 0.0.0.0 from everywhere",
        ),
    ] = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535, description="TCP port; 0 takes a free one")] = 8000
    checkpoint: Annotated[Path | None, Field(description="checkpoint folder; the embedded one when not given")] = None
    device: Annotated[
        str,
        Field(pattern=r"^(auto|cpu|cuda(:\d+)?)$", description="auto (CUDA if there is any), cpu, cuda or cuda:N"),
    ] = "auto"

    precision: Annotated[
        Literal["float32", "bfloat16"],
        Field(description="of the network's arithmetic; bfloat16 is for GPUs that have it, its scores are coarser"),
    ] = "float32"

    max_body_bytes: Annotated[
        int, Field(ge=1024, le=1024 * _MIB, description="largest request body, in bytes, counted as it arrives")
    ] = 12 * _MIB
    max_image_bytes: Annotated[int, Field(ge=1, le=1024 * _MIB, description="largest photo file, in bytes")] = 10 * _MIB
    max_image_pixels: Annotated[
        int,
        # of more than that Pillow refuses to read the header, whatever is asked of it
        Field(ge=1, le=2 * 89_478_485, description="largest photo, in pixels, read from its header"),
    ] = 50_000_000
    max_text_characters: Annotated[
        int,
        Field(ge=1, le=1_000_000, description="longest text, in Unicode code points; the model's limit comes on top"),
    ] = 10_000

    max_pending_posts: Annotated[
        int,
        Field(
            ge=1,
            le=100_000,
            description="posts being decoded, queued or run at once; eight times as many may be on their way. The rest "
            "gets 503",
        ),
    ] = 64
    max_pending_bytes: Annotated[
        int,
        Field(
            ge=1024,
            le=1024 * 1024 * _MIB,
            description="bytes that have come of those posts' bodies together; a post that would be more gets 503. One "
            "of unknown length is let in as if it were the largest; at least --max-body-bytes",
        ),
    ] = 256 * _MIB
    max_batch_tokens: Annotated[
        int,
        Field(ge=1, le=10_000_000, description="sub-tokens in a batch, padding included; at least the model's limit"),
    ] = 4096
    max_batch_images: Annotated[
        int,
        Field(
            ge=1, le=10_000, description="photos in a batch; a GPU needs memory for as many as the next power of two"
        ),
    ] = 16
    max_batch_padding: Annotated[
        float | None,
        Field(
            ge=0,
            description="sub-tokens of padding in a batch for each real one, so that posts of unlike length run apart; "
            "if not given, 0.2 on a CPU and no limit on a GPU",
        ),
    ] = None
    image_cache_mb: Annotated[
        int,
        Field(ge=0, le=1_000_000, description="MiB for the features of photos seen before; 0 switches the cache off"),
    ] = 256
    api_keys_file: Annotated[
        Path | None,
        Field(
            description="file with API keys, one a line, of which POST /recognize then wants one; read anew on change"
        ),
    ] = None
    deadline_seconds: Annotated[
        float,
        Field(gt=0, le=3600, description="seconds from a request's first byte to its answer, all stages together"),
    ] = 30.0
    decode_workers: Annotated[
        int,
        Field(
            default_factory=lambda: max(1, available_cores() // 2),
            ge=1,
            le=256,
            description="threads that decode photos; half the cores when not given",
        ),
    ]
    model_threads: Annotated[
        int,
        Field(
            default_factory=available_cores,
            ge=1,
            le=1024,
            description="threads of the network's operations on a CPU, two batches at once from two on; "
            "all cores when not given",
        ),
    ]
    shutdown_delay_seconds: Annotated[
        float,
        Field(
            ge=0,
            le=3600,
            description="seconds after SIGTERM in which posts are still taken, while `/health/ready` answers 503: "
            "as long as a load balancer takes to notice",
        ),
    ] = 0.0
    drain_seconds: Annotated[
        float, Field(ge=0, le=3600, description="seconds that accepted requests get to finish after that")
    ] = 30.0
    log_format: Annotated[
        Literal["auto", "json", "console"],
        Field(description="auto is console on a terminal and json elsewhere; logs go to standard error"),
    ] = "auto"

    @field_validator("max_pending_bytes")
    @classmethod
    def _holds_one_body(cls, value: int, info: ValidationInfo) -> int:
        largest = info.data.get("max_body_bytes", 0)
        if value < largest:
            raise PydanticCustomError(
                "too_few_bytes", "must be at least max-body-bytes, {largest}", {"largest": largest}
            )
        return value
