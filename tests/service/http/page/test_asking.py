"""Requests of the page: examples, progress, cancellation, problems, API keys."""

import re
from pathlib import Path

import pytest
from playwright.sync_api import Page, Route, expect

from service.http.problems import KINDS
from tests.service.conftest import API_KEY, Brake, Running, ScriptedRecognizer, Serve, eventually
from tests.service.http.page.conftest import ENTITIES, Open, answer_with, ask, refuse_with


def test_examples_answer_in_one_click(tab: Page) -> None:
    examples = tab.get_by_role("group", name="Examples").get_by_role("button")
    expect(examples).to_have_count(3)
    for example in examples.all():
        with tab.expect_response("**/recognize?explain=true") as response:
            example.click()
        assert response.value.ok
        expect(tab.locator("#status")).to_contain_text("found by tiny")
        assert tab.locator("#text").input_value() == (example.text_content() or "").strip()
        expect(tab.locator("#attention img")).to_be_visible()


def test_second_click_cancels_the_first_request(running: Running, brake: Brake, open_page: Open) -> None:
    tab = open_page(running)
    ask(tab, "Kawhi Leonard")
    brake.wait_for_batch()
    ask(tab, "Toronto wins")
    eventually(lambda: 'route="/recognize",status="499"} 1.0' in running.client.get("/metrics").text)
    brake.release()
    expect(tab.locator("#status")).to_contain_text("found by tiny")
    assert tab.locator("#entities tbody td:nth-child(2)").all_text_contents() == [
        entity["word"] for entity in running.post("Toronto wins").json()["entities"]
    ]


def test_long_request_shows_time_and_can_be_canceled(running: Running, brake: Brake, open_page: Open) -> None:
    tab = open_page(running)
    ask(tab, "Kawhi Leonard")
    expect(tab.get_by_role("status").filter(has_text="Reading the post")).to_be_visible()
    expect(tab.locator("#elapsed")).to_have_text("1 of at most 30 s")
    expect(tab.locator("#answer")).to_have_attribute("aria-busy", "true")
    tab.get_by_role("button", name="Cancel").click()
    expect(tab.locator("#status")).to_have_text("Canceled.")
    expect(tab.locator("#progress")).to_be_hidden()
    eventually(lambda: 'route="/recognize",status="499"} 1.0' in running.client.get("/metrics").text)
    brake.release()


@pytest.mark.parametrize("code", sorted(KINDS))
def test_every_problem_becomes_a_sentence(tab: Page, code: str) -> None:
    refuse_with(tab, KINDS[code].status, code, "the thing has 12000 parts; the limit is 10000")
    ask(tab)
    alert = tab.get_by_role("alert")
    expect(alert).to_contain_text("The thing has 12,000 parts; the limit is 10,000.")
    expect(alert.locator(".headline")).to_have_text(re.compile(r"^(The|There) .+\.$"))
    expect(alert.locator(".headline")).not_to_have_text("The service did not answer.")
    expect(alert).to_contain_text(f"{KINDS[code].status} · {code} · request abc")
    expect(tab.locator("#found")).to_be_hidden()


def test_real_limit_is_named_with_the_value(tab: Page) -> None:
    ask(tab, "x" * 1001)
    expect(tab.get_by_role("alert")).to_contain_text("The text has 1001 characters; the limit is 1000.")
    expect(tab.locator("#count")).to_have_text("1,001 of at most 1,000 characters: 1 too many")
    ask(tab, " ")
    expect(tab.get_by_role("alert")).to_contain_text("The text has 1 characters, all white space.")


def test_characters_are_counted_as_the_service_does(tab: Page) -> None:
    tab.locator("#text").fill("👩‍🚀")
    expect(tab.locator("#count")).to_contain_text("3 of at most 1,000 characters")


def test_bytes_of_a_limit_are_readable(tab: Page) -> None:
    refuse_with(tab, 413, "body_too_large", "the request body has at least 20971520 bytes; the limit is 14680064")
    ask(tab)
    expect(tab.get_by_role("alert")).to_contain_text(
        "The request body has at least 20 MiB (20,971,520 bytes); the limit is 14 MiB (14,680,064 bytes)."
    )


def test_real_deadline_is_explained(scripted: ScriptedRecognizer, serve: Serve, open_page: Open) -> None:
    running = serve(scripted, deadline_seconds=0.5)
    brake = Brake(scripted)
    tab = open_page(running)
    ask(tab)
    expect(tab.get_by_role("alert")).to_contain_text("The service took too long.")
    expect(tab.get_by_role("alert")).to_contain_text("the limit is 0.5 s.")
    brake.release()


def test_overload_counts_down_to_another_try(tab: Page) -> None:
    refuse_with(tab, 503, "overloaded", "64 posts are being answered; the limit is 64", {"Retry-After": "2"})
    ask(tab)
    again = tab.locator("#again")
    expect(again).to_have_text("Try again in 2 s")
    expect(again).to_be_disabled()
    expect(again).to_have_text("Try again in 1 s")
    expect(again).to_have_text("Try again")
    tab.unroute_all()
    answer_with(tab, ENTITIES)
    again.click()
    expect(tab.locator("mark")).to_have_count(2)
    expect(tab.locator("#problem")).to_have_text("")
    expect(again).to_be_hidden()


def test_retry_after_may_be_a_date(tab: Page) -> None:
    tab.clock.install(time="2026-11-28T10:00:00Z")
    refuse_with(tab, 503, "not_ready", "warming up", {"Retry-After": "Sat, 28 Nov 2026 10:01:00 GMT"})
    ask(tab)
    expect(tab.locator("#again")).to_have_text(re.compile(r"Try again in (60|59) s"))


@pytest.mark.parametrize(
    ("status", "headline"),
    [
        (413, "The post is too large."),
        (502, "The service takes no posts right now."),
        (504, "The service took too long."),
        (418, "The answer makes no sense."),
        (200, "The answer makes no sense."),
    ],
)
def test_answers_of_a_proxy_are_explained(tab: Page, status: int, headline: str) -> None:
    page = "<html><h1>nginx</h1></html>"
    tab.route("**/recognize?*", lambda route: route.fulfill(status=status, body=page, content_type="text/html"))
    ask(tab)
    expect(tab.get_by_role("alert").locator(".headline")).to_have_text(headline)


def test_offline_and_stopped_service_are_told_apart(tab: Page) -> None:
    tab.route("**/recognize?*", lambda route: route.abort("connectionrefused"))
    ask(tab)
    expect(tab.get_by_role("alert")).to_contain_text("The service does not answer.")
    tab.unroute_all()
    tab.context.set_offline(True)
    ask(tab)
    expect(tab.get_by_role("alert")).to_contain_text("This device is offline.")
    tab.context.set_offline(False)
    tab.get_by_role("button", name="Try again").click()
    expect(tab.locator("#status")).to_contain_text("found by tiny")


def test_page_works_without_info(open_page: Open) -> None:
    tab = open_page()
    tab.route("**/info", lambda route: route.abort())
    tab.reload()
    ask(tab)
    expect(tab.locator("#status")).to_contain_text("found by tiny")


def test_key_is_asked_for_and_kept(scripted: ScriptedRecognizer, serve: Serve, open_page: Open, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text(f"tests:{API_KEY}")
    tab = open_page(serve(scripted, api_keys_file=keys))
    urls: list[str] = []
    tab.on("request", lambda request: urls.append(request.url))
    key = tab.get_by_label("API key")
    expect(key).to_be_hidden()
    ask(tab)
    expect(tab.get_by_role("alert")).to_contain_text("The request has no API key. Enter a valid one")
    expect(key).to_be_focused()
    for wrong, sentence in (("wrong", "The API key is not valid."), ("schlüssel", "No service has this API key.")):
        key.fill(wrong)
        tab.keyboard.press("Enter")
        expect(tab.get_by_role("alert")).to_contain_text(sentence)
    key.fill(API_KEY)
    tab.keyboard.press("Enter")
    expect(tab.locator("#status")).to_contain_text("found by tiny")
    tab.reload()
    expect(key).to_have_value(API_KEY)
    ask(tab)
    expect(tab.locator("#status")).to_contain_text("found by tiny")
    assert not [url for url in (*urls, tab.url) if API_KEY in url]
    assert tab.evaluate("localStorage.length") == 0
    assert tab.context.cookies() == []


def test_control_and_enter_send_the_post(tab: Page) -> None:
    answer_with(tab, ENTITIES)
    tab.locator("#text").fill("hi")
    tab.keyboard.press("Control+Enter")
    expect(tab.locator("mark")).to_have_count(2)


def test_page_works_behind_a_path_prefix(open_page: Open, shared: Running) -> None:
    tab = open_page()
    address = str(shared.client.base_url).rstrip("/")

    def forward(route: Route) -> None:
        route.fulfill(response=route.fetch(url=route.request.url.replace("/ner/", "/", 1)))

    tab.route("**/ner/**", forward)
    tab.goto(f"{address}/ner/")
    ask(tab)
    expect(tab.locator("#status")).to_contain_text("found by tiny")
    expect(tab.locator("#snippet")).to_contain_text(f"{address}/ner/recognize?explain=true")
