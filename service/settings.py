"""The options of the service; each field is a flag of ``smner-serve`` and an ``SMNER_…`` environment variable."""

import os
import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError
from pydantic_settings import BaseSettings, SettingsConfigDict

_MIB = 2**20
_ORIGIN = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://(?:[A-Za-z0-9_.-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")
_DEFAULT_PORT = re.compile(r"^(http://.*):80$|^(https://.*):443$")


def available_cores() -> int:
    """The number of CPU cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class Settings(BaseSettings):
    """Serve SMNER over HTTP. Every option is also an environment variable: --max-body-bytes is SMNER_MAX_BODY_BYTES."""

    model_config = SettingsConfigDict(
        env_prefix="SMNER_",
        env_ignore_empty=True,  # compose passes "" for a variable that is not set
        frozen=True,
        use_attribute_docstrings=True,  # as the help texts
        cli_prog_name="smner-serve",
        cli_kebab_case=True,
        cli_hide_none_type=True,
        cli_avoid_json=True,
        cli_exit_on_error=False,  # smner-serve prints a single line
    )

    host: Annotated[str, Field(min_length=1)] = "127.0.0.1"
    """address to listen on; 127.0.0.1 is reached only from this machine, 0.0.0.0 from anywhere"""
    port: Annotated[int, Field(ge=0, le=65535)] = 8000
    """TCP port; 0 takes a free one"""
    metrics_port: Annotated[int | None, Field(ge=0, le=65535)] = None
    """TCP port for `/metrics`, which then leaves --port, and for health checks, which are on both"""
    checkpoint: str | None = None
    """checkpoint folder, or the name of one that comes along: smner-compact (served if not set) or smner-base"""
    device: Annotated[str, Field(pattern=r"^(auto|cpu|cuda(:\d+)?)$")] = "auto"
    """auto (CUDA if available), cpu, cuda or cuda:N"""
    precision: Literal["auto", "float32", "tf32", "bfloat16", "float16"] = "auto"
    """of the encoders; auto is float32, but tf32 on CUDA and bfloat16 for photos on a CPU that has it"""

    max_body_bytes: Annotated[int, Field(ge=1024, le=1024 * _MIB)] = 14 * _MIB
    """largest body of a single post, in bytes, counted as it arrives; base64 makes a photo longer by a third"""
    max_batch_body_bytes: Annotated[int, Field(ge=1024, le=1024 * _MIB)] = 64 * _MIB
    """largest body of a batch, in bytes: 32 photos of 1.5 MiB as base64. Four such batches may arrive at once"""
    max_request_posts: Annotated[int, Field(ge=1, le=1000)] = 32
    """most posts in a batch"""
    max_image_bytes: Annotated[int, Field(ge=1, le=1024 * _MIB)] = 10 * _MIB
    """largest photo file, in bytes; as base64, of what it stands for"""
    # Pillow refuses to read the header of anything larger, whatever its own limit is set to
    max_image_pixels: Annotated[int, Field(ge=1, le=2 * 89_478_485)] = 50_000_000
    """largest photo, in pixels, according to its header"""
    max_text_characters: Annotated[int, Field(ge=1, le=1_000_000)] = 10_000
    """longest text, in Unicode code points"""

    max_pending_posts: Annotated[int, Field(ge=1, le=100_000)] = 64
    """posts being decoded, queued or run at once, half of them for batches; eight times as many may be uploading"""
    max_pending_bytes: Annotated[int, Field(ge=1024, le=1024 * 1024 * _MIB)] = 256 * _MIB
    """bytes received of those posts' bodies; at least --max-batch-body-bytes, the assumed size if none is announced"""
    max_batch_tokens: Annotated[int, Field(ge=1, le=10_000_000)] = 4096
    """sub-tokens in a batch, padding included; at least the model's limit"""
    max_batch_images: Annotated[int, Field(ge=1, le=10_000)] = 16
    """photos in a batch; a GPU needs memory for the next power of two"""
    max_batch_padding: Annotated[float | None, Field(ge=0)] = None
    """sub-tokens of padding in a batch for each real one; if not set, 0.2 on a CPU and no limit on a GPU"""
    image_cache_mb: Annotated[int, Field(ge=0, le=1_000_000)] = 256
    """MiB for the features of recent photos; 0 turns the cache off"""
    api_keys_file: Path | None = None
    """file of API keys, a line `NAME:KEY` for each; posts then need one. Reloaded when it changes"""
    cors_origins: str | None = None
    """origins whose pages may call the service, such as https://a.example,http://localhost:3000; * is any"""
    page: Literal["on", "off"] = "on"
    """on serves the page to try posts in a browser, at `/`; off answers 404 there"""
    deadline_seconds: Annotated[float, Field(gt=0, le=3600)] = 30.0
    """seconds from a request's first byte to its answer, all stages together"""
    decode_workers: Annotated[int, Field(default_factory=lambda: max(1, available_cores() // 2), ge=1, le=256)]
    """threads that decode photos; half the cores if not set"""
    model_threads: Annotated[int, Field(default_factory=available_cores, ge=1, le=1024)]
    """threads for the network on a CPU, all cores if not set; with two or more, two batches run at once"""
    shutdown_delay_seconds: Annotated[float, Field(ge=0, le=3600)] = 0.0
    """seconds after SIGTERM in which posts are accepted but `/health/ready` is 503, so that load balancers notice"""
    drain_seconds: Annotated[float, Field(ge=0, le=3600)] = 30.0
    """seconds that accepted requests get to finish after that delay"""
    log_format: Literal["auto", "json", "console"] = "auto"
    """auto is console on a terminal and json elsewhere; logs go to standard error"""

    @field_validator("metrics_port")
    @classmethod
    def _is_another_port(cls, value: int | None, info: ValidationInfo) -> int | None:
        if value and value == info.data.get("port"):  # 0 takes any free one
            raise PydanticCustomError("same_port", "must be another port than --port")
        return value

    @field_validator("max_pending_bytes")
    @classmethod
    def _holds_one_body(cls, value: int, info: ValidationInfo) -> int:
        for name in ("max_body_bytes", "max_batch_body_bytes"):
            if value < (largest := info.data.get(name, 0)):
                limit = f"{name.replace('_', '-')}, {largest}"
                raise PydanticCustomError("too_few_bytes", "must be at least {limit}", {"limit": limit})
        return value

    @field_validator("cors_origins")
    @classmethod
    def _are_origins(cls, value: str | None) -> str | None:
        for origin in _split(value):
            if origin != "*" and not _ORIGIN.fullmatch(origin):
                raise PydanticCustomError(
                    "origin",
                    "'{origin}' is no origin; one is SCHEME://HOST or SCHEME://HOST:PORT, without a path",
                    {"origin": origin},
                )
        return value

    @property
    def allowed_origins(self) -> list[str]:
        """The ``cors_origins`` as browsers write them: lower case, without the port that the scheme implies."""
        return [_DEFAULT_PORT.sub(r"\1\2", origin.lower()) for origin in _split(self.cors_origins)]


def _split(origins: str | None) -> list[str]:
    return [origin for part in (origins or "").split(",") if (origin := part.strip())]
