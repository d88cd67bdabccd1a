"""A batch of large photos is in memory once, as it was sent."""

import base64
import json
from pathlib import Path

import httpx

from tests.service.process import serving_process

MIB = 2**20
JSON = {"Content-Type": "application/json"}


def test_batch_of_photos_is_kept_once(served_checkpoint: Path, jpeg: bytes) -> None:
    """Parsed as one string with an emoji, each of its characters took four bytes, and the photos came on top."""
    photo = base64.b64encode(jpeg + bytes(9 * MIB)).decode()  # decoders do not read behind the end
    posts = [{"id": number, "text": f"post {number} 🏀", "image": photo} for number in range(8)]
    body = json.dumps({"posts": posts}, ensure_ascii=False).encode()
    limits = ("--max-batch-body-bytes", str(256 * MIB), "--image-cache-mb", "0")
    with serving_process("--checkpoint", str(served_checkpoint), *limits) as server:
        server.reset_peak()
        before = server.memory
        answer = httpx.post(f"{server.address}/recognize/batch", content=body, headers=JSON, timeout=60)
        assert all(result["image_used"] for result in answer.json()["results"])
        print(f"{len(body) / MIB:.0f} MiB sent, {(server.peak_memory - before) / MIB:.0f} MiB more at the peak")
        assert server.peak_memory - before < 2 * len(body)
        assert server.metric("smner_requests_in_flight") == 1  # this one
        assert server.stop() == 0
