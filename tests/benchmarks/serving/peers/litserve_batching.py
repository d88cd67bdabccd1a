"""LitServe (https://github.com/Lightning-AI/LitServe) with its own batching."""

from dataclasses import asdict
from typing import Any

import litserve
from fastapi import Request

from model import Entity, Post, Recognizer
from tests.benchmarks.serving.peers.options import Options, load, read_options


class Api(litserve.LitAPI):
    """Decodes, batches and answers inside LitServe's worker."""

    def __init__(self, options: Options) -> None:
        super().__init__(max_batch_size=16, batch_timeout=0.005, api_path="/recognize")
        self.options = options
        self.recognizer: Recognizer

    def setup(self, device: str) -> None:  # noqa: ARG002 LitServe's signature
        self.recognizer = load(self.options)

    def decode_request(self, request: Request) -> Post:  # the annotation makes LitServe read a form
        form: Any = request
        return self.recognizer.prepare(form["text"], form["image"].file.read())

    def batch(self, inputs: list[Post]) -> list[Post]:
        return inputs

    def predict(self, x: list[Post]) -> list[list[Entity]]:
        return self.recognizer.run(x)

    def unbatch(self, output: list[list[Entity]]) -> list[list[Entity]]:
        return output

    def encode_response(self, output: list[Entity]) -> dict[str, Any]:
        return {"entities": [asdict(entity) for entity in output]}


if __name__ == "__main__":
    options = read_options()
    server = litserve.LitServer(Api(options), accelerator="cpu" if options.device == "cpu" else "auto", timeout=60)
    server.run(host="127.0.0.1", port=options.port, generate_client_file=False, log_level="warning")
