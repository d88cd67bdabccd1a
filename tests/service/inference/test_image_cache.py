import io

import httpx
import pytest
import torch
from PIL import Image

from service.inference.image_cache import ImageCache
from tests.service.conftest import Running, ScriptedRecognizer, Serve

TEXT = "RT @NBA: Kawhi Leonard joins Toronto"


def image_of(colour: str) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (64, 64), colour).save(buffer, "PNG")
    return buffer.getvalue()


def test_features_are_found_again_by_the_bytes_of_the_image() -> None:
    cache, features = ImageCache(1000), torch.ones(2, 3)
    cache.keep(cache.key(b"photo"), features)
    found = cache.look_up(cache.key(b"photo"))
    assert found is not None
    assert torch.equal(found, features)
    assert cache.look_up(cache.key(b"another")) is None


def test_a_image_does_not_keep_the_batch_it_was_encoded_in() -> None:
    """Features come as views of their batch: one that stayed held the memory of all, whatever the bound."""
    cache = ImageCache(1000)
    cache.keep(b"a", torch.ones(16, 3)[0])
    kept = cache.peek(b"a")
    assert kept is not None
    assert kept.untyped_storage().nbytes() == kept.nbytes


def test_the_features_not_used_for_longest_make_room() -> None:
    cache = ImageCache(2 * 6 * 4)  # two tensors of six floats
    for key in (b"a", b"b"):
        cache.keep(key, torch.ones(6))
    cache.look_up(b"a")
    cache.keep(b"c", torch.ones(6))
    assert [cache.peek(key) is not None for key in (b"a", b"b", b"c")] == [True, False, True]


def test_features_larger_than_the_cache_are_not_kept() -> None:
    cache = ImageCache(4)
    cache.keep(b"a", torch.ones(6))
    assert cache.peek(b"a") is None


def test_lookups_are_counted_and_peeks_are_not() -> None:
    lookups: list[bool] = []
    cache = ImageCache(100, on_lookup=lookups.append)
    cache.keep(b"a", torch.ones(1))
    cache.peek(b"a")
    cache.look_up(b"a")
    cache.look_up(b"b")
    assert lookups == [True, False]


@pytest.fixture
def running(scripted: ScriptedRecognizer, serve: Serve) -> Running:
    return serve(scripted)


def entities(answer: httpx.Response) -> object:
    """What was found; never nothing, since nothing equals nothing whatever the photo."""
    assert answer.json()["entities"]
    return answer.json()["entities"]


def test_a_image_seen_before_is_neither_decoded_nor_encoded_and_answers_the_same(
    running: Running, scripted: ScriptedRecognizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = running.post(TEXT, image=image_of("red"))

    def refuse(*_: object) -> None:
        raise AssertionError("the photo was read again")

    monkeypatch.setattr(scripted.processor, "decode_image", refuse)
    monkeypatch.setattr(scripted, "encode_images", refuse)
    second = running.post(TEXT, image=image_of("red"))
    assert entities(first) == entities(second)
    assert second.json()["image_used"] is True


def test_another_image_is_not_mistaken_for_it(running: Running) -> None:
    answers = [entities(running.post(TEXT, image=image_of(colour))) for colour in ("red", "white", "red")]
    assert answers[0] == answers[2] != answers[1]


def test_hits_and_misses_are_on_the_metrics(running: Running) -> None:
    for colour in ("red", "red", "blue"):
        running.post(TEXT, image=image_of(colour))
    metrics = running.client.get("/metrics").text
    assert "smner_image_cache_hits_total 1.0" in metrics
    assert "smner_image_cache_misses_total 2.0" in metrics


def test_zero_megabytes_switch_it_off(scripted: ScriptedRecognizer, serve: Serve) -> None:
    running = serve(scripted, image_cache_mb=0)
    answers = [entities(running.post(TEXT, image=image_of("red"))) for _ in range(2)]
    assert answers[0] == answers[1]
    assert "smner_image_cache_hits_total 0.0" in running.client.get("/metrics").text
