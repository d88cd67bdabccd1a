"""The weights in a checkpoint's folder, in floating point or in 8 bits.

A matrix ``NAME`` in 8 bits is an int8 tensor of that name; ``NAME.scale`` (rows, groups) float16 has a factor for each
64 neighbors in a row, or for a whole row whose length is no multiple of 64: symmetric quantization as in Dettmers and
Zettlemoyer 2023, section 2, "block-wise". Vectors stay float32. Files are as Hugging Face writes them: one, or several
with an index.
"""

import json
from pathlib import Path
from typing import Literal

import torch
from safetensors.torch import load_file
from torch import Tensor

WEIGHTS_FILE = "model.safetensors"
INDEX_FILE = f"{WEIGHTS_FILE}.index.json"
WeightFormat = Literal["float32", "float16", "int8"]

_GROUP = 64
_SCALE = ".scale"


def round_weights(state: dict[str, Tensor], weight_format: WeightFormat) -> dict[str, Tensor]:
    """What :func:`read_weights` will return for ``state`` once it is stored."""
    return _restore(stored_weights(state, weight_format))


def read_weights(folder: Path) -> dict[str, Tensor]:
    """Read the weights, 8-bit ones restored; floating point in float32.

    Raises:
        OSError, ValueError, KeyError, safetensors.SafetensorError: they cannot be read.
    """
    return _restore({name: tensor for path in weight_files(folder) for name, tensor in load_file(path).items()})


def weight_files(folder: Path) -> list[Path]:
    """The files with the weights of a checkpoint.

    Raises:
        OSError, ValueError, KeyError: the index cannot be read.
    """
    index = folder / INDEX_FILE
    if not index.is_file():
        return [folder / WEIGHTS_FILE]
    return [folder / name for name in sorted(set(json.loads(index.read_text("utf-8"))["weight_map"].values()))]


def max_file_size(weight_format: WeightFormat) -> str:
    """The size of a file with weights; 8-bit ones may come along in git, whose hosts refuse files of 100 MB."""
    return "95MB" if weight_format == "int8" else "100GB"


def stored_weights(state: dict[str, Tensor], weight_format: WeightFormat) -> dict[str, Tensor]:
    """The tensors that a checkpoint stores for the network's."""
    stored: dict[str, Tensor] = {}
    for name, tensor in state.items():
        if not tensor.is_floating_point():
            stored[name] = tensor
        elif weight_format == "int8":
            stored |= _quantize(name, tensor) if tensor.dim() > 1 else {name: tensor.float()}
        else:
            stored[name] = tensor.to(getattr(torch, weight_format))
    return stored


def _restore(stored: dict[str, Tensor]) -> dict[str, Tensor]:
    scales = {name: tensor for name, tensor in stored.items() if name.endswith(_SCALE) and tensor.dim() > 1}
    state: dict[str, Tensor] = {}
    for name, tensor in stored.items():
        if name + _SCALE in scales:
            scale = scales[name + _SCALE].float()
            state[name] = (tensor.view(*scale.shape, -1) * scale[..., None]).view(tensor.shape)
        elif name not in scales:
            state[name] = tensor.float() if tensor.is_floating_point() else tensor
    return state


def _quantize(name: str, tensor: Tensor) -> dict[str, Tensor]:
    rows = tensor.float().flatten(1)
    grouped = rows.view(len(rows), -1, _GROUP if rows.shape[1] % _GROUP == 0 else rows.shape[1])
    scale = (grouped.abs().amax(-1) / 127).half()  # (rows, groups)
    steps = grouped / scale.float()[..., None].clamp(min=torch.finfo(torch.float32).tiny)
    return {name: steps.round().clamp(-127, 127).to(torch.int8).view(tensor.shape), name + _SCALE: scale}
