from concurrent.futures import ThreadPoolExecutor

from prometheus_client.parser import text_string_to_metric_families

from tests.service.conftest import Brake, Running, ScriptedRecognizer, Serve, eventually

NAMES = {
    "smner_requests_total",
    "smner_request_seconds",
    "smner_stage_seconds",
    "smner_requests_in_flight",
    "smner_queue_depth",
    "smner_batch_size",
    "smner_rejected_total",
    "smner_entities_total",
    "smner_posts_total",
    "smner_image_cache_hits_total",
    "smner_image_cache_misses_total",
    "smner_device_errors_total",
    "smner_log_lines_dropped_total",
    "smner_model_info",
}

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def scrape(running: Running) -> Samples:
    text = running.client.get("/metrics").text
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(samples: Samples, metric: str, /, **labels: str) -> float:
    return samples.get((metric, frozenset(labels.items())), 0.0)


def test_every_metric_exists_from_the_start(running: Running) -> None:
    samples = scrape(running)
    names = {name.removesuffix("_count") for name, _ in samples}
    assert names >= NAMES - {"smner_requests_total", "smner_request_seconds"}  # these begin with the first request
    assert value(samples, "smner_model_info", name="tiny", revision="r1", device="cpu") == 1
    assert value(samples, "smner_requests_in_flight") == 1  # the scrape itself


def test_post_is_counted_in_every_metric(running: Running, jpeg: bytes) -> None:
    found = running.post("Kawhi Leonard", jpeg).json()["entities"]
    samples = scrape(running)
    assert value(samples, "smner_requests_total", route="/recognize", method="POST", status="200") == 1
    assert value(samples, "smner_request_seconds_count", route="/recognize") == 1
    for stage in ("receive", "decode", "queue", "model"):
        assert value(samples, "smner_stage_seconds_count", stage=stage) == 1
    assert value(samples, "smner_batch_size_sum") == 1
    assert value(samples, "smner_posts_total", image="used") == 1
    assert value(samples, "smner_posts_total", image="absent") == 0
    for entity_type in ("PER", "LOC", "ORG", "MISC"):
        expected = sum(entity["entity_group"] == entity_type for entity in found)
        assert value(samples, "smner_entities_total", entity_group=entity_type) == expected


def test_refusal_is_counted_by_code(running: Running) -> None:
    running.post(" ")
    samples = scrape(running)
    assert value(samples, "smner_rejected_total", code="empty_text") == 1
    assert value(samples, "smner_requests_total", route="/recognize", method="POST", status="422") == 1


def test_buckets_end_above_the_deadline(shared: Running) -> None:
    shared.post()
    edges = {
        float(dict(labels)["le"])
        for name, labels in scrape(shared)
        if name == "smner_request_seconds_bucket" and dict(labels)["route"] == "/recognize"
    }
    assert min(edges) == 0.001
    deadline = shared.client.get("/info").json()["limits"]["deadline_seconds"]
    assert sorted(edges)[-2] >= 1.5 * deadline
    assert sorted(edges)[-3] >= deadline


def test_labels_never_repeat_what_clients_sent(shared: Running) -> None:
    shared.client.get("/secret/path")
    shared.client.request("BREW", "/recognize")
    shared.client.get("/info?token=secret")
    text = shared.client.get("/metrics").text
    assert "secret" not in text
    assert "BREW" not in text
    assert 'route="none"' in text


def test_queue_depth_counts_waiting_posts(running: Running, brake: Brake) -> None:
    with ThreadPoolExecutor(2) as pool:
        posts = [pool.submit(running.post)]
        brake.wait_for_batch()
        posts.append(pool.submit(running.post))
        eventually(lambda: value(scrape(running), "smner_queue_depth") == 1)
        brake.release()
        assert [post.result().status_code for post in posts] == [200, 200]


def test_failed_probe_is_not_a_rejected_post(scripted: ScriptedRecognizer, serve: Serve) -> None:
    brake = Brake(scripted)
    running = serve(scripted, wait=False)
    running.client.get("/health/ready")
    samples = scrape(running)
    assert value(samples, "smner_rejected_total", code="not_ready") == 0
    assert value(samples, "smner_requests_total", route="/health/ready", method="GET", status="503") == 1
    brake.release()
