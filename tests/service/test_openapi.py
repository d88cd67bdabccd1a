import re
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.http.problems import KINDS
from tests.service.conftest import Running, ScriptedRecognizer, Serve, form


@pytest.fixture
def document(client: httpx.Client) -> dict[str, Any]:
    loaded: dict[str, Any] = client.get("/openapi.json").json()
    return loaded


def test_the_form_is_described_with_an_example(document: dict[str, Any]) -> None:
    body = document["paths"]["/recognize"]["post"]["requestBody"]
    schema = body["content"]["multipart/form-data"]["schema"]
    assert body["required"] is True
    assert schema["required"] == ["text"]
    assert set(schema["properties"]) == {"text", "image"}
    assert schema["properties"]["text"]["example"]


def test_the_documented_problems_are_those_of_the_contract(document: dict[str, Any]) -> None:
    responses = document["paths"]["/recognize"]["post"]["responses"]
    codes = {
        (int(status), code)
        for status, response in responses.items()
        for code in re.findall(r"`(\w+)`", response["description"])
    }
    routing = {"not_found", "method_not_allowed"}  # of paths and methods that are not in the document
    assert codes == {(kind.status, code) for code, kind in KINDS.items() if code not in routing}
    assert set(responses) == {"200"} | {str(status) for status, _ in codes}


def test_every_problem_is_documented_as_the_document_that_is_sent(document: dict[str, Any]) -> None:
    responses = document["paths"]["/recognize"]["post"]["responses"]
    for status, response in responses.items():
        if status != "200":
            assert set(response["content"]) == {"application/problem+json"}
    assert "HTTPValidationError" not in document["components"]["schemas"]


@pytest.mark.parametrize(
    "parts",
    [form(), form(None), form(" "), form(b"\xff"), form("hi", b"x"), form("hi", b"x" * 250_000), form("x" * 1001)],
)
def test_what_is_sent_is_what_is_documented(
    client: httpx.Client, document: dict[str, Any], parts: list[tuple[str, Any]]
) -> None:
    answer = client.post("/recognize", files=parts) if parts else client.post("/recognize")
    documented = document["paths"]["/recognize"]["post"]["responses"][str(answer.status_code)]
    schema = documented["content"][answer.headers["content-type"]]["schema"]
    name = schema["$ref"].rsplit("/", 1)[1]
    definition = document["components"]["schemas"][name]
    assert set(definition["required"]) <= set(answer.json()) <= set(definition["properties"])
    if answer.status_code >= 400:
        assert f"`{answer.json()['code']}`" in documented["description"]


def test_a_key_is_asked_for_only_where_there_are_keys(
    document: dict[str, Any], scripted: ScriptedRecognizer, serve: Serve, tmp_path: Path
) -> None:
    """A document that wants what the service does not: clients made from it could not be used without a key."""
    assert "security" not in document["paths"]["/recognize"]["post"]
    assert "securitySchemes" not in document["components"]
    keys = tmp_path / "keys"
    keys.write_text("a-key")
    guarded = serve(scripted, api_keys_file=keys).client.get("/openapi.json").json()
    (scheme,) = guarded["components"]["securitySchemes"]
    assert guarded["paths"]["/recognize"]["post"]["security"] == [{scheme: []}]
    assert "security" not in guarded["paths"]["/info"]["get"]


def test_attention_is_documented_by_the_name_that_is_sent(document: dict[str, Any]) -> None:
    assert set(document["components"]["schemas"]["AttentionWeights"]["properties"]) == {"global", "regions"}


@pytest.mark.parametrize("path", ["/info", "/health", "/health/live", "/health/ready", "/metrics"])
def test_every_other_path_is_documented_and_answers(client: httpx.Client, document: dict[str, Any], path: str) -> None:
    assert "200" in document["paths"][path]["get"]["responses"]
    assert client.get(path).status_code == 200


def test_the_documentation_page_needs_no_other_server(shared: Running) -> None:
    page = shared.client.get("/docs")
    assert page.status_code == 200
    assert "://" not in page.text
    for address in re.findall(r'(?:src|href)="([^"]+)"', page.text):
        assert shared.client.get(address).status_code == 200
