"""A program: how fast GLiNER (https://github.com/urchade/GLiNER) finds entities in texts, one JSON object a line.

    PYTHON gliner_texts.py --tokenizer model/smner-compact --threads 2 < texts.jsonl

It needs a Python with ``gliner``, whose transformers is older than this project's, so it imports nothing from here. It
prints posts per second for each batch size, the best of them, and the milliseconds of a text that is asked alone.

The network is gliner_small-v2.1's with random weights, whose arithmetic takes as long as that of real ones. The
tokenizer has another vocabulary, so the embedding table has fewer rows, and a post may be cut into more or fewer
pieces. Random scores would find entities all over a text, so a threshold of 1 lets none pass: building them costs
nothing here.
"""

import argparse
import json
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib.metadata import version
from itertools import cycle, islice
from pathlib import Path
from statistics import median
from typing import Any

import torch

LABELS = ("person", "location", "organization", "miscellaneous")
_NONE_PASSES = 1.0  # threshold

# https://huggingface.co/microsoft/deberta-v3-small/blob/main/config.json
_ENCODER = {
    "model_type": "deberta-v2",
    "num_hidden_layers": 6,
    "hidden_size": 768,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "type_vocab_size": 0,
    "max_position_embeddings": 512,
    "position_biased_input": False,
    "relative_attention": True,
    "max_relative_positions": -1,
    "position_buckets": 256,
    "pos_att_type": ["p2c", "c2p"],
    "norm_rel_ebd": "layer_norm",
    "share_att_key": True,
    "layer_norm_eps": 1e-7,
}
# https://huggingface.co/urchade/gliner_small-v2.1/blob/main/gliner_config.json
_GLINER = {
    "hidden_size": 512,
    "span_mode": "markerV0",
    "max_width": 12,
    "max_len": 384,
    "subtoken_pooling": "first",
    "words_splitter_type": "whitespace",
    "num_rnn_layers": 1,
}


def main() -> None:
    """Measure, and print a JSON object."""
    options = parser().parse_args()
    torch.set_num_threads(options.threads)
    model = load(options.tokenizer, options.device)
    texts = read_texts(sys.stdin)
    rates = {
        size: rate(model, texts, size, options.seconds, threads=options.threads, batches=options.batches)
        for size in options.batch_sizes
    }
    alone = lone(model, list(islice(turned(texts, 0), options.lone)))
    best = max(rates, key=lambda size: rates[size])
    answer = {
        "versions": {name: version(name) for name in ("gliner", "torch", "transformers")},
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "posts_per_second": rates,
        "best": {"batch_size": best, "posts_per_second": rates[best]},
        "lone_milliseconds": 1000 * median(alone),
        "lone_seconds": alone,
    }
    print(json.dumps(answer))


def read_texts(lines: Iterable[str]) -> list[str]:
    """The ``text`` of each line that is not empty."""
    return [json.loads(line)["text"] for line in lines if line.strip()]


def load(tokenizer_folder: Path, device: str) -> Any:
    """GLiNER with random weights."""
    from gliner import GLiNER

    torch.manual_seed(0)
    config = _GLINER | {"model_name": str(tokenizer_folder), "encoder_config": dict(_ENCODER)}
    return GLiNER.from_config(config, backbone_from_pretrained=False, map_location=device, local_files_only=True)


def rate(model: Any, texts: Sequence[str], size: int, seconds: float, *, threads: int, batches: int) -> float:
    """Texts per second in batches of ``size``, with as many ``batches`` at once."""

    def work(first: int) -> float:
        """A thread's own rate, so that no thread's last batch counts as a wait for the others."""
        source, done = turned(texts, first), 0
        find(model, list(islice(source, size)))  # the first batch of a thread is slower
        begun = time.perf_counter()
        while done == 0 or time.perf_counter() < begun + seconds:
            find(model, list(islice(source, size)))
            done += size
        return done / (time.perf_counter() - begun)

    with ThreadPoolExecutor(batches, initializer=partial(_set_threads, threads)) as pool:
        return sum(pool.map(work, range(0, len(texts), -(-len(texts) // batches))))


def turned(texts: Sequence[str], first: int) -> Iterator[str]:
    """All texts over and over, from the one at ``first`` on."""
    return islice(cycle(texts), first, None)


def find(model: Any, texts: list[str]) -> None:
    """Look for entities in one batch."""
    model.inference(texts, list(LABELS), threshold=_NONE_PASSES, batch_size=len(texts))


def lone(model: Any, texts: Sequence[str]) -> list[float]:
    """Seconds that each text takes alone."""
    find(model, [texts[0]])
    seconds = []
    for text in texts:
        begun = time.perf_counter()
        find(model, [text])
        seconds.append(time.perf_counter() - begun)
    return seconds


def _set_threads(count: int) -> None:
    torch.get_num_threads()  # or torch overwrites the thread's number with its default at first use
    torch.set_num_threads(count)


def parser() -> argparse.ArgumentParser:
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = flags.add_argument
    add("--tokenizer", type=Path, required=True, help="folder with a tokenizer's files")
    add("--device", default="cpu", help="one of torch's (%(default)s)")
    add("--threads", type=int, required=True, help="of torch's operations")
    add("--batches", type=int, default=1, help="that run at once (%(default)s)")
    add("--batch-sizes", type=int, nargs="+", default=[4, 8, 16, 32], help="to measure %(default)s")
    add("--seconds", type=float, default=8.0, help="how long each batch size is measured (%(default)s)")
    add("--lone", type=int, default=60, help="texts that are asked alone (%(default)s)")
    return flags


if __name__ == "__main__":
    main()
