import io

import httpx
import pytest
import torch
from PIL import Image

from service.inference.image_cache import ImageCache
from tests.service.conftest import Running, ScriptedRecognizer, Serve

TEXT = "RT @NBA: Kawhi Leonard joins Toronto"


def image_of(color: str) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (64, 64), color).save(buffer, "PNG")
    return buffer.getvalue()


def test_features_are_found_by_the_images_bytes() -> None:
    cache, features = ImageCache(1000), torch.ones(2, 3)
    cache.put(cache.key(b"image"), features)
    found = cache.look_up(cache.key(b"image"))
    assert found is not None
    assert torch.equal(found, features)
    assert cache.look_up(cache.key(b"another")) is None


def test_cached_features_do_not_keep_their_batch() -> None:
    """Features are views of their batch, so a cached one kept the memory of all, whatever the limit."""
    cache = ImageCache(1000)
    cache.put(b"a", torch.ones(16, 3)[0])
    kept = cache.peek(b"a")
    assert kept is not None
    assert kept.untyped_storage().nbytes() == kept.nbytes


def test_least_recently_used_features_are_evicted() -> None:
    cache = ImageCache(2 * 6 * 4)  # two tensors of six floats
    for key in (b"a", b"b"):
        cache.put(key, torch.ones(6))
    cache.look_up(b"a")
    cache.put(b"c", torch.ones(6))
    assert [cache.peek(key) is not None for key in (b"a", b"b", b"c")] == [True, False, True]


def test_features_larger_than_the_cache_are_ignored() -> None:
    cache = ImageCache(4)
    cache.put(b"a", torch.ones(6))
    assert cache.peek(b"a") is None


def test_lookups_are_counted_but_not_peeks() -> None:
    lookups: list[bool] = []
    cache = ImageCache(100, on_lookup=lookups.append)
    cache.put(b"a", torch.ones(1))
    cache.peek(b"a")
    cache.look_up(b"a")
    cache.look_up(b"b")
    assert lookups == [True, False]


def entities(answer: httpx.Response) -> object:
    """At least one, or comparing them would show nothing."""
    assert answer.json()["entities"]
    return answer.json()["entities"]


def test_cached_image_is_not_read_again(
    running: Running, scripted: ScriptedRecognizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = running.post(TEXT, image=image_of("red"))

    def refuse(*_: object) -> None:
        raise AssertionError("the image was read again")

    monkeypatch.setattr(scripted.processor, "decode_image", refuse)
    monkeypatch.setattr(scripted, "encode_images", refuse)
    second = running.post(TEXT, image=image_of("red"))
    assert entities(first) == entities(second)
    assert second.json()["image_used"] is True


def test_another_image_is_not_mistaken_for_it(running: Running) -> None:
    answers = [entities(running.post(TEXT, image=image_of(color))) for color in ("red", "white", "red")]
    assert answers[0] == answers[2] != answers[1]


def test_hits_and_misses_are_counted(running: Running) -> None:
    for color in ("red", "red", "blue"):
        running.post(TEXT, image=image_of(color))
    metrics = running.client.get("/metrics").text
    assert "smner_image_cache_hits_total 1.0" in metrics
    assert "smner_image_cache_misses_total 2.0" in metrics


def test_zero_megabytes_turn_it_off(scripted: ScriptedRecognizer, serve: Serve) -> None:
    running = serve(scripted, image_cache_mb=0)
    answers = [entities(running.post(TEXT, image=image_of("red"))) for _ in range(2)]
    assert answers[0] == answers[1]
    assert "smner_image_cache_hits_total 0.0" in running.client.get("/metrics").text
