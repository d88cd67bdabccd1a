"""The teacher of a run: a trained network whose answers to every training post are computed once and kept."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor
from tqdm import tqdm

from model import SMNER, SMNEROutput, SMNERProcessor
from model.checkpoint import load_model, verify_checkpoint
from model.device import choose_device
from model.preprocessing.processor import Batch
from training.data.dataset import Collator, PostDataset
from training.data.posts import LabeledPost
from training.features.shards import TensorShards
from training.learning.distributed import on_main_process
from training.scoring.prediction import run_model

_SHARD = 1024  # posts, half a minute of work for a network of BERT-base's size on two cores


class Teacher:
    """Answers posts as texts alone, without their images.

    Args:
        checkpoint: its folder.
        types: the student's entity types, in the order of its classes.
        max_span_width: the student's.

    Raises:
        InvalidCheckpoint: the checkpoint cannot be loaded.
        ValueError: the teacher lacks the student's types or its widest spans.
    """

    def __init__(self, checkpoint: Path, *, types: Sequence[str], max_span_width: int, bfloat16: bool) -> None:
        self.revision = verify_checkpoint(checkpoint)
        self._network: SMNER = load_model(checkpoint).to(choose_device("auto"))
        self._processor = SMNERProcessor.from_pretrained(checkpoint)
        config = self._network.config
        if sorted(config.entity_types) != sorted(types):
            raise ValueError(
                f"the teacher {checkpoint} knows {', '.join(config.entity_types)}, "
                f"but the training data have {', '.join(types)}"
            )
        if config.max_span_width < max_span_width:
            raise ValueError(
                f"the teacher {checkpoint} sees spans of up to {config.max_span_width} words, "
                f"but max_span_width is {max_span_width}"
            )
        self._classes = [0, *(config.label2id[kind] for kind in types)]
        self._widths = max_span_width
        self._bfloat16 = bfloat16

    def answer(self, posts: Sequence[LabeledPost], folder: Path) -> list[Tensor]:
        """Compute the logits of all spans of each post, (words, widths, 1 + types) float16 by first word and width − 1.

        They are kept in shards beside ``folder``, so a killed call loses at most one, and a second call computes
        nothing. Entries of spans that leave the post mean nothing.

        Raises:
            UnusablePost: a text is too long for the teacher.
            OSError: a shard cannot be written.
        """
        metadata = {"teacher": self.revision, "posts": _digest(posts), "widths": str(self._widths)}
        shards = TensorShards(folder, [str(number) for number in range(len(posts))], metadata, size=_SHARD)
        on_main_process(lambda: self._write(posts, shards))
        stored = (load_file(path)["features"] for path in shards.paths)
        words = [len(post.words) for post in posts]
        lengths = [words[first : first + _SHARD] for first in range(0, len(posts), _SHARD)]
        return [own for logits, sizes in zip(stored, lengths, strict=True) for own in torch.split(logits, sizes)]

    def lend_weights(self, network: SMNER) -> None:
        """Give the student the teacher's weights to start with.

        Raises:
            ValueError: it is another network.
        """
        weights, own = self._network.state_dict(), network.state_dict()
        if other := sorted(
            name
            for name in weights | own
            if name not in weights or name not in own or weights[name].shape != own[name].shape
        ):
            raise ValueError(f"start_from_teacher: that is another network, which differs in {', '.join(other[:3])}")
        network.load_state_dict(weights)

    def _write(self, posts: Sequence[LabeledPost], shards: TensorShards) -> None:
        missing = shards.begin()
        done = len(posts) - sum(len(numbers) for _, numbers in missing)
        with tqdm(total=len(posts), initial=done, desc="asking the teacher", unit="post") as progress:
            for shard, numbers in missing:
                shards.write(shard, numbers, torch.cat(self._logits([posts[int(number)] for number in numbers])))
                progress.update(len(numbers))

    def _logits(self, posts: Sequence[LabeledPost]) -> list[Tensor]:
        texts = PostDataset([replace(post, image=None, image_id=None) for post in posts], self._processor)
        collator = Collator(self._processor, self._network.config.label2id, self._network.config.max_span_width)
        return run_model(self._network, texts, collator.inputs, self._read)

    def _read(self, network: SMNER, batch: Batch) -> list[Tensor]:
        with torch.autocast(batch["input_ids"].device.type, torch.bfloat16, enabled=self._bfloat16):
            output: SMNEROutput = network(**batch)
        assert output.logits is not None
        assert output.spans is not None
        posts, words = batch["morphs"].shape
        grid = output.logits.new_zeros(posts, words, network.config.max_span_width, len(self._classes))
        grid[:, output.spans.starts, output.spans.ends - output.spans.starts] = output.logits[..., self._classes]
        lengths = (batch["morphs"] != 0).sum(1)
        return [own[:length, : self._widths].half().cpu() for own, length in zip(grid, lengths, strict=True)]


def _digest(posts: Sequence[LabeledPost]) -> str:
    return hashlib.sha256(json.dumps([(post.words, post.line_starts) for post in posts]).encode()).hexdigest()
