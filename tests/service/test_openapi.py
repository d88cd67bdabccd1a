import base64
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


def test_form_is_described_with_an_example(document: dict[str, Any]) -> None:
    body = document["paths"]["/recognize"]["post"]["requestBody"]
    schema = body["content"]["multipart/form-data"]["schema"]
    assert body["required"] is True
    assert schema["required"] == ["text"]
    assert set(schema["properties"]) == {"text", "image"}
    assert schema["properties"]["text"]["example"]


def test_json_body_is_described_with_examples(document: dict[str, Any], client: httpx.Client) -> None:
    media = document["paths"]["/recognize"]["post"]["requestBody"]["content"]["application/json"]
    assert media["schema"]["required"] == ["text"]
    assert set(media["schema"]["properties"]) == {"text", "image"}
    for example in media["examples"].values():
        assert client.post("/recognize", json=example["value"]).status_code == 200


def test_batch_is_described_with_an_example(document: dict[str, Any], client: httpx.Client) -> None:
    operation = document["paths"]["/recognize/batch"]["post"]
    media = operation["requestBody"]["content"]["application/json"]
    posts = media["schema"]["properties"]["posts"]
    assert (posts["minItems"], posts["maxItems"]) == (1, 32)
    assert set(posts["items"]["properties"]) == {"id", "text", "image"}
    answer = client.post("/recognize/batch", json=media["example"])
    assert all("entities" in result for result in answer.json()["results"])
    assert "422" not in operation["responses"]
    schema = operation["responses"]["200"]["content"]["application/json"]["schema"]
    assert schema["$ref"].endswith("/BatchRecognition")
    assert "request_id" not in document["components"]["schemas"]["PostProblem"]["properties"]


def test_image_pattern_is_base64_in_lines_or_not(document: dict[str, Any]) -> None:
    media = document["paths"]["/recognize"]["post"]["requestBody"]["content"]["application/json"]
    pattern = re.compile(media["schema"]["properties"]["image"]["pattern"])
    for size in range(100):
        assert pattern.search(base64.encodebytes(bytes(size)).decode())
        assert pattern.search(base64.b64encode(bytes(size)).decode())
    for wrong in ("A", "AA", "AAA", "A===", "AAAA=", "AA==A", "AA==AAAA", "AAA_", "AA A", "data:,AAAA"):
        assert not pattern.search(wrong), wrong


def test_documented_problems_are_those_of_the_contract(document: dict[str, Any]) -> None:
    responses = document["paths"]["/recognize"]["post"]["responses"]
    codes = {
        (int(status), code)
        for status, response in responses.items()
        for code in re.findall(r"`(\w+)`", response["description"])
    }
    routing = {(404, "not_found"), (405, "method_not_allowed")}  # of paths and methods outside the document
    assert codes | routing == {(kind.status, code) for code, kind in KINDS.items()}
    assert set(responses) == {"200"} | {str(status) for status, _ in codes}
    table = re.findall(r"\| (\d+) \| `(\w+)` \|", document["info"]["description"])
    assert {(int(status), code) for status, code in table} == codes | routing


def test_problems_are_documented_as_problem_documents(document: dict[str, Any]) -> None:
    responses = document["paths"]["/recognize"]["post"]["responses"]
    for status, response in responses.items():
        if status != "200":
            assert set(response["content"]) == {"application/problem+json"}
    assert "HTTPValidationError" not in document["components"]["schemas"]


@pytest.mark.parametrize(
    "parts",
    [form(), form(None), form(" "), form(b"\xff"), form("hi", b"x"), form("hi", b"x" * 250_000), form("x" * 1001)],
)
def test_answers_are_as_documented(
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


def test_key_is_documented_only_if_needed(
    document: dict[str, Any], scripted: ScriptedRecognizer, serve: Serve, tmp_path: Path
) -> None:
    """Clients generated from a document that requires a key could not be used without one."""
    assert "security" not in document["paths"]["/recognize"]["post"]
    assert "securitySchemes" not in document["components"]
    keys = tmp_path / "keys"
    keys.write_text("app:a-key")
    guarded = serve(scripted, api_keys_file=keys).client.get("/openapi.json").json()
    (scheme,) = guarded["components"]["securitySchemes"]
    assert guarded["paths"]["/recognize"]["post"]["security"] == [{scheme: []}]
    assert "security" not in guarded["paths"]["/info"]["get"]


def test_attention_is_documented_by_its_alias(document: dict[str, Any]) -> None:
    assert set(document["components"]["schemas"]["AttentionWeights"]["properties"]) == {"global", "regions"}


@pytest.mark.parametrize("path", ["/info", "/health", "/health/live", "/health/ready", "/metrics"])
def test_other_paths_are_documented_and_answer(client: httpx.Client, document: dict[str, Any], path: str) -> None:
    assert {"200", "500"} <= set(document["paths"][path]["get"]["responses"])
    assert client.get(path).status_code == 200


def test_documentation_page_needs_no_other_server(shared: Running) -> None:
    page = shared.client.get("/docs")
    assert page.status_code == 200
    assert "://" not in page.text
    for address in re.findall(r'(?:src|href)="([^"]+)"', page.text):
        assert shared.client.get(address).status_code == 200
