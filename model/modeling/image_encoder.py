"""Encodes images as a global vector and a grid of regions (section 3.2).

Notation: N images, C channels of the last feature map, m = h · w regions (7 · 7 for a 224 × 224 image).
"""

import copy
from collections.abc import Callable
from itertools import pairwise
from typing import Any, Self

import timm
import torch
import torchvision.models
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval


class ImageEncoder(nn.Module):
    """A convolutional trunk up to its last feature map, before pooling.

    Args:
        name: ``torchvision:NAME`` (a ResNet) or ``timm:NAME`` (any backbone with a feature map). Weights are random, so
            nothing is downloaded.
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        self.trunk, self.feature_size = build_trunk(name)
        for module in self.trunk.modules():
            vars(module)["_is_hf_initialized"] = True  # keeps the trunk's own initialization

    def train(self, mode: bool = True) -> Self:
        """Set the mode; a frozen encoder, and every batch norm, stays in evaluation mode.

        A batch of a few images is too small to estimate the statistics of a batch norm.
        """
        super().train(mode and any(parameter.requires_grad for parameter in self.parameters()))
        for module in self.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()
        return self

    def forward(self, pixel_values: Tensor) -> Tensor:
        """Encode images.

        Args:
            pixel_values: (N, 3, H, W) float, normalized with the encoder's mean and deviation.

        Returns:
            V: (N, 1 + m, C) float; row 0 is the mean of the map, rows 1..m are the map in row-major order.
        """
        feature_map: Tensor = self.trunk(pixel_values)  # (N, C, h, w)
        regions = feature_map.flatten(2).transpose(1, 2)  # (N, m, C)
        return torch.cat([regions.mean(1, keepdim=True), regions], 1)


@torch.no_grad()
def fold_for_inference(encoder: ImageEncoder, *, size: int) -> None:
    """Make an encoder faster without changing its features: fold batch norms into convolutions, use channels last.

    Modules are paired in registration order. If a backbone runs them in another order, which a random image of ``size``
    pixels a side reveals, its batch norms stay. Folded weights differ from the checkpoint's and cannot be saved.
    """
    encoder.eval().requires_grad_(False).to(memory_format=torch.channels_last)
    folded = copy.deepcopy(encoder.trunk)
    _fold_batch_norms(folded)
    weight = next(encoder.parameters())
    image = torch.rand(2, 3, size, size, dtype=weight.dtype, device=weight.device)
    expected = encoder.trunk(image)
    tolerance = 1e-4 if weight.dtype == torch.float32 else 1e-2
    if torch.allclose(folded(image), expected, rtol=tolerance, atol=tolerance * float(expected.abs().max())):
        encoder.trunk = folded
        refuse_to_save(encoder)


def refuse_to_save(encoder: nn.Module) -> None:
    """Let an encoder whose weights are no longer a checkpoint's raise ValueError when it is saved."""
    encoder.register_state_dict_pre_hook(_refuse)  # type: ignore[no-untyped-call]  # torch has no types here


def _refuse(*_: object) -> None:
    raise ValueError(
        "an encoder was folded or rounded for inference; SMNER.from_pretrained and, with precision float32, "
        "Recognizer.from_pretrained(fold=False) load a model that can be saved"
    )


def _fold_batch_norms(module: nn.Module) -> None:
    for child in module.children():
        _fold_batch_norms(child)
    names = list(module._modules)
    for name, following in pairwise(names):
        convolution, norm = module._modules[name], module._modules[following]
        if isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
            module._modules[name] = fuse_conv_bn_eval(convolution, norm)
            # timm's batch norms carry the activation that follows them
            module._modules[following] = getattr(norm, "act", None) or nn.Identity()


def build_trunk(name: str, *, pretrained: bool = False) -> tuple[nn.Module, int]:
    """Build the trunk ``name`` and return it with its C; ``pretrained`` downloads its library's weights."""
    library, _, architecture = name.partition(":")
    builders: dict[str, Callable[[str, bool], tuple[nn.Module, int]]] = {"torchvision": _torchvision, "timm": _timm}
    if library not in builders:
        raise ValueError(f"image encoder {name!r} is not of the form torchvision:NAME or timm:NAME")
    return builders[library](architecture, pretrained)


def _torchvision(architecture: str, pretrained: bool) -> tuple[nn.Module, int]:
    resnet = torchvision.models.get_model(architecture, weights="DEFAULT" if pretrained else None)
    layers = dict(resnet.named_children())
    if not {"layer4", "avgpool", "fc"} <= layers.keys():
        raise ValueError(f"torchvision:{architecture} is not a ResNet; timm:{architecture} may do")
    feature_size = layers.pop("fc").in_features
    layers.pop("avgpool")
    return nn.Sequential(*layers.values()), int(feature_size)


class _TimmTrunk(nn.Module):
    def __init__(self, backbone: Any) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, pixel_values: Tensor) -> Tensor:
        features: Tensor = self.backbone.forward_features(pixel_values)
        return features


def _timm(architecture: str, pretrained: bool) -> tuple[nn.Module, int]:
    if not timm.is_model(architecture):
        raise ValueError(f"timm has no model called {architecture!r}")
    backbone: Any = timm.create_model(architecture, pretrained=pretrained, num_classes=0)
    with torch.no_grad():
        shape = backbone.eval().forward_features(torch.zeros(1, *backbone.pretrained_cfg["input_size"])).shape
    if len(shape) != 4 or shape[1] != backbone.num_features:
        raise ValueError(f"timm:{architecture} ends in {tuple(shape)}, not in a feature map (N, C, h, w)")
    return _TimmTrunk(backbone), int(backbone.num_features)
