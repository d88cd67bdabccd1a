import asyncio
import time
from collections.abc import Iterator

import pytest

from model import InvalidPost
from service.app import build_pipeline
from service.inference.deadline import Deadline
from service.inference.pipeline import Pipeline, RecognizedPost
from service.inference.stage_times import STAGES, StageTimes
from service.metrics import Metrics
from service.settings import Settings
from tests.service.conftest import ScriptedRecognizer, eventually

TEXT = "RT @NBA: Kawhi Leonard joins Toronto"


@pytest.fixture
def pipeline(scripted: ScriptedRecognizer) -> Iterator[Pipeline]:
    pipeline = build_pipeline(Settings(), scripted, Metrics(scripted, stages=STAGES, codes=(), deadline_seconds=30))
    pipeline.start()
    eventually(lambda: pipeline.engine.ready)
    yield pipeline
    pipeline.stop()


def recognize(pipeline: Pipeline, image: bytes | None, times: StageTimes) -> RecognizedPost:
    with pipeline.limiter.acquire(0) as permit:
        work = pipeline.recognize(
            TEXT,
            image,
            explain=False,
            permit=permit,
            deadline=Deadline(time.monotonic(), 10),
            stage_times=times,
            request_id="r",
        )
        return asyncio.run(work)


def test_pipeline_answers_like_the_recognizer(pipeline: Pipeline, scripted: ScriptedRecognizer, jpeg: bytes) -> None:
    for image in (None, jpeg):
        times = StageTimes()
        expected = RecognizedPost(scripted.recognize(TEXT, image), image_used=image is not None)
        assert recognize(pipeline, image, times) == expected
        assert tuple(times) == STAGES
    assert pipeline.limiter.permits_held == 0


def test_stage_times_of_failed_posts_are_recorded(pipeline: Pipeline) -> None:
    times = StageTimes()
    with pytest.raises(InvalidPost):
        recognize(pipeline, b"no image", times)
    assert list(times) == ["decode"]
