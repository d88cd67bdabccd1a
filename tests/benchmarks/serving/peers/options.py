"""The command-line flags of every peer."""

import argparse
from pathlib import Path

from model import Recognizer
from service.runtime import set_torch_threads


class Options(argparse.Namespace):
    """Where to listen and what to serve."""

    port: int
    checkpoint: Path
    device: str
    threads: int


def read_options() -> Options:
    """Parse the command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--device", required=True)
    parser.add_argument("--threads", type=int, required=True)
    return parser.parse_args(namespace=Options())


def load(options: Options) -> Recognizer:
    """Load the checkpoint, with as many threads as the service gives its model."""
    set_torch_threads(options.threads)
    return Recognizer.from_pretrained(options.checkpoint, device=options.device)
