"""Image encoders: their pretrained weights, and a frozen one that turns images into features."""

import hashlib
import json
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, Self

import timm
import torch
from torch import Tensor, nn

from model.device import choose_device
from model.modeling.image_encoder import ImageEncoder, build_trunk
from model.preprocessing.image_scaling import SCALING
from model.preprocessing.images import ImageSettings


@dataclass(frozen=True, slots=True)
class FrozenImageEncoder:
    """An image encoder that is not trained, and the image settings it expects."""

    name: str
    network: ImageEncoder
    image_settings: ImageSettings

    @classmethod
    def load(cls, name: str, weights: str | None, *, pretrained: bool = True, device: str = "auto") -> Self:
        """Build ``torchvision:NAME`` or ``timm:NAME``, with pretrained (see :func:`load_trunk`) or random weights."""
        network = ImageEncoder(name).requires_grad_(False).eval()
        if pretrained:
            load_trunk(network.trunk, name, weights)
        return cls(name, network.to(choose_device(device)), image_settings(name))

    @torch.inference_mode()
    def encode(self, images: Tensor) -> Tensor:
        """Encode uint8 images (N, 3, size, size) as float16 features (N, 1 + m, C) of m regions, on the CPU."""
        device = next(self.network.parameters()).device
        features: Tensor = self.network(self.image_settings.normalize(images.to(device)))
        return features.half().cpu()

    def fingerprint(self) -> str:
        """JSON with all that features depend on: the SHA-256 of the weights, the image settings, how images are scaled.

        The weights are hashed in half precision, so that an encoder matches its copy in a half-precision checkpoint.
        """
        digest = hashlib.sha256()
        for key, tensor in self.network.state_dict().items():
            digest.update(key.encode())
            rounded = tensor.half() if tensor.is_floating_point() else tensor
            digest.update(rounded.cpu().contiguous().numpy().tobytes())
        return json.dumps({"weights": digest.hexdigest(), "scaling": SCALING, **self.image_settings.to_dict()})


def image_settings(image_encoder: str | None) -> ImageSettings:
    """Size, mean and deviation that an image encoder was trained with; ImageNet's for torchvision and None."""
    library, _, architecture = (image_encoder or "").partition(":")
    published: Any = timm.get_pretrained_cfg(architecture) if library == "timm" else None
    if published is None:
        return ImageSettings()
    return ImageSettings(size=published.input_size[-1], mean=published.mean, deviation=published.std)


def load_trunk(trunk: nn.Module, encoder: str, weights: str | None) -> None:
    """Fill a trunk with weights: a ``.pth`` file's, those of the one in ``package:NAME``, or, if None, published ones.

    Raises:
        ValueError: there is no such file of weights, or its tensors do not fit.
    """
    if weights is None:
        trunk.load_state_dict(build_trunk(encoder, pretrained=True)[0].state_dict())
        return
    scheme, _, name = weights.partition(":")
    found = sorted(Path(str(files(name))).rglob("*.pth")) if scheme == "package" else [Path(weights)]
    if len(found) != 1:
        raise ValueError(f"{weights}: expected one .pth file, found {len(found)}")
    try:
        tensors = torch.load(found[0], map_location="cpu", weights_only=True)
    except (UnpicklingError, RuntimeError, EOFError) as error:
        raise ValueError(f"{found[0]}: not a .pth file of weights") from error
    if not isinstance(tensors, dict) or not all(isinstance(tensor, Tensor) for tensor in tensors.values()):
        raise ValueError(f"{found[0]}: expected a .pth file with a dict of tensors by name")
    load_by_position(trunk, tensors)


def load_by_position(module: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Load tensors that come in the module's order under other names; a classifier's at the end are ignored.

    Raises:
        ValueError: a shape differs, or there are too few.
    """
    own = module.state_dict()
    if len(tensors) < len(own):
        raise ValueError(f"{len(tensors)} tensors do not fill the {len(own)} of the encoder")
    for (name, current), (other, tensor) in zip(own.items(), tensors.items(), strict=False):
        if current.shape != tensor.shape:
            raise ValueError(f"{other} {tuple(tensor.shape)} does not fit {name} {tuple(current.shape)}")
    module.load_state_dict(dict(zip(own, tensors.values(), strict=False)))
