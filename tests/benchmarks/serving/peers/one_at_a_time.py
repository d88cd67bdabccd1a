"""What FastAPI's tutorial leads to: a model behind a route, with a lock since it serves one caller at a time."""

import threading
from dataclasses import asdict
from typing import Annotated, Any

import uvicorn
from fastapi import FastAPI, Form, UploadFile

from tests.benchmarks.serving.peers.options import load, read_options

app = FastAPI()
options = read_options()
recognizer = load(options)
lock = threading.Lock()


@app.get("/health")
def health() -> str:
    return "ok"


@app.post("/recognize")
def recognize(text: Annotated[str, Form()], image: UploadFile | None = None) -> dict[str, Any]:
    content = None if image is None else image.file.read()
    with lock:
        return {"entities": [asdict(entity) for entity in recognizer.recognize(text, content)]}


if __name__ == "__main__":
    uvicorn.run(app, port=options.port, log_level="warning", timeout_graceful_shutdown=5)
