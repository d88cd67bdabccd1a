"""What a user does with the hub, in a process of its own: the hub's address is read when its library is imported.

Usage: python hub_client.py CHECKPOINT SMALL FOLDER; the second is in 8 bits. Prints what came back, as JSON.
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import HfApi, ModelCard, snapshot_download
from transformers import AutoModel, pipeline

from model import SMNER, Recognizer, SMNERProcessor

TEXT = "Kawhi Leonard wins the NBA award"


def push_parts(checkpoint: Path, name: str) -> None:
    SMNER.from_pretrained(checkpoint).push_to_hub(name)
    SMNERProcessor.from_pretrained(checkpoint).push_to_hub(name)
    ModelCard.load(checkpoint / "README.md").push_to_hub(name)


def push_whole(checkpoint: Path, name: str) -> None:
    HfApi().create_repo(name)
    HfApi().upload_folder(repo_id=name, folder_path=checkpoint, ignore_patterns="run/*")


def same_weights(name: str, checkpoint: Path) -> bool:
    local = SMNER.from_pretrained(checkpoint).state_dict()
    loaded = [AutoModel.from_pretrained(name).state_dict(), SMNER.from_pretrained(name).state_dict()]
    return all(torch.equal(state[key], local[key]) for state in loaded for key in local)


def problem(work: Callable[[], object]) -> str:
    try:
        work()
    except (ValueError, OSError) as error:
        return str(error)
    return ""


def main(checkpoint: Path, small: Path, folder: Path) -> dict[str, Any]:
    push_parts(checkpoint, "someone/parts")
    push_whole(small, "someone/whole")
    card = ModelCard.load(checkpoint / "README.md")
    card.data.license = "free for all"
    snapshot_download("someone/whole", local_dir=folder)
    processor = SMNERProcessor.from_pretrained("someone/parts")
    return {
        "parts": same_weights("someone/parts", checkpoint),
        "whole": same_weights("someone/whole", small),
        "answers": {
            name: pipeline("multimodal-ner", model=name, device="cpu")(TEXT)
            for name in ("someone/parts", "someone/whole")
        },
        "tokens": processor.tokenize(TEXT).input_ids,
        "revision": Recognizer.from_pretrained(folder, device="cpu").revision,
        "bad card": problem(lambda: card.push_to_hub("someone/parts")),
        "pickle": problem(lambda: AutoModel.from_pretrained("someone/pickle")),
        "absent": problem(lambda: SMNERProcessor.from_pretrained("someone/absent")),
    }


if __name__ == "__main__":
    print(json.dumps(main(*map(Path, sys.argv[1:]))))
