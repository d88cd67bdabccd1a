"""A hub on this machine: the few paths of the Hugging Face hub that its clients call, spoken over real HTTP.

``serving()`` starts it; clients find it by HF_ENDPOINT. It keeps repositories in memory and every path that was asked
for. A model card is refused for what the hub refuses (https://huggingface.co/docs/hub/model-cards#model-card-metadata).
"""

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

import yaml
from huggingface_hub import ModelCard

_LICENSES = {"apache-2.0", "mit", "cc-by-4.0", "other"}  # of some ninety
_TASKS = {"token-classification", "image-text-to-text", "feature-extraction"}  # of some fifty
_RELATIONS = {"adapter", "finetune", "merge", "quantized"}
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_LANGUAGE = re.compile(r"[a-z]{2,3}|code|multilingual")  # ISO 639
_STRINGS = ("license", "pipeline_tag", "library_name", "base_model_relation")
_LISTS = ("tags", "metrics", "datasets")


def metadata_errors(content: str) -> list[str]:
    """What the hub would say against a card."""
    try:
        ModelCard(content)
    except ValueError as error:  # of the model index
        return [str(error)]
    data = yaml.safe_load(content.split("---\n")[1])
    one_or_more = {key: _listed(data.get(key)) for key in ("language", "base_model")}
    rules = {
        **{f'"{key}" must be a string': isinstance(data.get(key, ""), str) for key in _STRINGS},
        **{f'"{key}" must be an array of strings': _strings(data.get(key, [])) for key in _LISTS},
        '"license" must be one of the known ones': data.get("license") in (None, *_LICENSES),
        '"pipeline_tag" must be one of the known ones': data.get("pipeline_tag") in (None, *_TASKS),
        '"language" must be an ISO 639 code': all(map(_LANGUAGE.fullmatch, one_or_more["language"])),
        '"base_model" must be an id on the hub': all(map(_HUB_ID.fullmatch, one_or_more["base_model"])),
        '"base_model_relation" must be one of the known ones': data.get("base_model_relation") in (None, *_RELATIONS),
        '"model-index" has a result without its values': all(map(_is_result, _results(data))),
    }
    return [message for message, kept in rules.items() if not kept]


def _listed(value: Any) -> list[str]:
    return [value] if isinstance(value, str) else list(value or [])


def _strings(values: Any) -> bool:
    return isinstance(values, list) and all(isinstance(value, str) for value in values)


def _results(data: dict[str, Any]) -> list[dict[str, Any]]:
    return [result for model in data.get("model-index", []) for result in model["results"]]


def _is_result(result: dict[str, Any]) -> bool:
    named = [result["task"]["type"], result["dataset"]["type"], result["dataset"]["name"]]
    named += [metric["type"] for metric in result["metrics"]]
    return _strings(named) and all(isinstance(metric["value"], int | float) for metric in result["metrics"])


class Hub(ThreadingHTTPServer):
    """Repositories by name, each with its files; large files wait for their commit by SHA-256."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repositories: dict[str, dict[str, bytes]] = {}
        self.large: dict[str, bytes] = {}
        self.asked: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def commit_id(self, name: str) -> str:
        """Of 40 digits, and another for any other content."""
        content = "".join(f"{path} {hashlib.sha1(own).hexdigest()}" for path, own in self.repositories[name].items())  # noqa: S324
        return hashlib.sha1(content.encode()).hexdigest()  # noqa: S324 - as git's


@contextmanager
def serving() -> Iterator[Hub]:
    with Hub() as hub:
        thread = threading.Thread(target=hub.serve_forever)
        thread.start()
        try:
            yield hub
        finally:
            hub.shutdown()
            thread.join()


_NAME = r"(?P<name>[\w.-]+/[\w.-]+?)"
_ROUTES = [
    ("POST", r"/api/repos/create", "create"),
    ("POST", r"/api/validate-yaml", "validate"),
    ("POST", rf"/api/models/{_NAME}/preupload/main", "choose_mode"),
    ("POST", rf"/{_NAME}\.git/info/lfs/objects/batch", "offer_upload"),
    ("PUT", r"/upload/(?P<digest>\w+)", "upload"),
    ("POST", rf"/api/models/{_NAME}/commit/main", "commit"),
    ("GET", rf"/api/models/{_NAME}(/revision/\w+)?", "describe"),
    ("GET", rf"/api/models/{_NAME}/tree/\w+", "list_files"),
    ("GET", rf"/{_NAME}/resolve/\w+/(?P<path>.+)", "download"),
    ("HEAD", rf"/{_NAME}/resolve/\w+/(?P<path>.+)", "download"),
]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Hub

    def _route(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.server.asked.append(f"{self.command} {path}")
        self.body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        for method, pattern, name in _ROUTES:
            if method == self.command and (match := re.fullmatch(pattern, path)):
                parts = match.groupdict()
                if name not in ("create", "validate", "upload") and parts["name"] not in self.server.repositories:
                    self._answer(404, b"{}", {"X-Error-Code": "RepoNotFound"})
                else:
                    getattr(self, name)(**parts)
                return
        self._answer(404, b"{}")

    do_GET = do_HEAD = do_POST = do_PUT = _route  # noqa: N815 - as http.server wants them

    def create(self) -> None:
        asked = json.loads(self.body)
        name = f"{asked['organization']}/{asked['name']}"
        known = name in self.server.repositories
        self.server.repositories.setdefault(name, {})
        self._json({"url": f"{self.server.url}/{name}", "name": name}, 409 if known else 200)

    def validate(self) -> None:
        errors = metadata_errors(json.loads(self.body)["content"])
        said = {"errors": [{"message": message} for message in errors], "warnings": []}
        if errors and self.headers.get("Accept") == "text/plain":
            self._answer(400, "\n".join(errors).encode())
        else:
            self._json(said, 400 if errors else 200)

    def choose_mode(self, **_: str) -> None:
        asked = json.loads(self.body)["files"]
        modes = {file["path"]: "lfs" if file["path"].endswith(".safetensors") else "regular" for file in asked}
        self._json(
            {"files": [{"path": path, "uploadMode": mode, "shouldIgnore": False} for path, mode in modes.items()]}
        )

    def offer_upload(self, **_: str) -> None:
        objects = json.loads(self.body)["objects"]
        for each in objects:
            each["actions"] = {"upload": {"href": f"{self.server.url}/upload/{each['oid']}"}}
        self._json({"transfer": "basic", "objects": objects})

    def upload(self, digest: str) -> None:
        assert hashlib.sha256(self.body).hexdigest() == digest
        self.server.large[digest] = self.body
        self._answer(200, b"")

    def commit(self, name: str) -> None:
        files = self.server.repositories[name]
        for line in map(json.loads, self.body.splitlines()):
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.server.large[value["oid"]]
        commit = self.server.commit_id(name)
        self._json({"commitUrl": f"{self.server.url}/{name}/commit/{commit}", "commitOid": commit, "success": True})

    def describe(self, name: str) -> None:
        files = [{"rfilename": path} for path in self.server.repositories[name]]
        self._json({"id": name, "sha": self.server.commit_id(name), "siblings": files, "tags": [], "private": False})

    def list_files(self, name: str) -> None:
        files = self.server.repositories[name]
        self._json(
            [
                {"type": "file", "path": path, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}  # noqa: S324
                for path, content in files.items()
            ]
        )

    def download(self, name: str, path: str) -> None:
        headers = {"X-Repo-Commit": self.server.commit_id(name)}
        content = self.server.repositories[name].get(path)
        if content is None:
            self._answer(404, b"", headers | {"X-Error-Code": "EntryNotFound"})
        else:
            self._answer(200, content, headers | {"ETag": f'"{hashlib.sha1(content).hexdigest()}"'})  # noqa: S324

    def _json(self, value: Any, status: int = 200) -> None:
        self._answer(status, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for key, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""
