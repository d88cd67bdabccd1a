"""The weights in a checkpoint's folder, in floating point or in 8 bits.

A matrix ``NAME.weight`` in 8 bits is an int8 tensor of that name; ``NAME.weight.scale`` (rows, groups) float16 has a
factor for each 64 neighbors in a row, or for a whole row whose length is no multiple of 64: symmetric quantization as
in Dettmers and Zettlemoyer 2023, section 2, "block-wise". All else stays float32. Files are as Hugging Face writes
them: one, or several with an index. :mod:`model.eight_bits` reads them.
"""

import json
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

WEIGHTS_FILE = "model.safetensors"
INDEX_FILE = f"{WEIGHTS_FILE}.index.json"
WeightFormat = Literal["float32", "float16", "int8"]

_GROUP = 64
SCALE = ".scale"
_QUANTIZED = "weight"  # how the names of matrices end


def round_weights(state: dict[str, Tensor], weight_format: WeightFormat) -> dict[str, Tensor]:
    """What a checkpoint that stores ``state`` will be read as."""
    stored = stored_weights(state, weight_format)
    return {name: restore(stored[name], stored.get(name + SCALE)) for name in state}


def restore(tensor: Tensor, scale: Tensor | None) -> Tensor:
    """A stored tensor in float32, unless it is one of whole numbers.

    Args:
        tensor: (rows, …) int8 if there is a scale.
        scale: (rows, groups) float16.

    Raises:
        ValueError: the scale is missing.
        RuntimeError: the scale is another tensor's.
    """
    if scale is not None:
        return (tensor.view(len(tensor), scale.shape[1], -1) * scale.float()[..., None]).view(tensor.shape)
    if tensor.dtype == torch.int8:
        raise ValueError(f"{tensor.dtype} without its scale")
    return tensor.float() if tensor.is_floating_point() else tensor


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
            matrix = tensor.dim() > 1 and name.endswith(_QUANTIZED)
            stored |= _quantize(name, tensor) if matrix else {name: tensor.float()}
        else:
            stored[name] = tensor.to(getattr(torch, weight_format))
    return stored


def _quantize(name: str, tensor: Tensor) -> dict[str, Tensor]:
    rows = tensor.float().flatten(1)
    grouped = rows.view(len(rows), -1, _GROUP if rows.shape[1] % _GROUP == 0 else rows.shape[1])
    scale = (grouped.abs().amax(-1) / 127).half()  # (rows, groups)
    steps = grouped / scale.float()[..., None].clamp(min=torch.finfo(torch.float32).tiny)
    return {name: steps.round().clamp(-127, 127).to(torch.int8).view(tensor.shape), name + SCALE: scale}
