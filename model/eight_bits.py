"""Teaches transformers to read weights in 8 bits, wherever it loads them from; ``import model`` registers it.

The network computes in floating point: weights are restored as they are read (:mod:`model.weights`).
"""

from typing import Any

from torch import Tensor
from transformers.core_model_loading import ConversionOps
from transformers.quantizers import HfQuantizer, register_quantization_config, register_quantizer
from transformers.utils.quantization_config import QuantizationConfigMixin

from model.modeling.configuration import EIGHT_BITS
from model.weights import SCALE, restore


@register_quantization_config(EIGHT_BITS)
class EightBitConfig(QuantizationConfigMixin):
    """What :class:`model.SMNERConfig` says of a checkpoint in 8 bits."""

    quant_method = EIGHT_BITS
    dequantize = True


@register_quantizer(EIGHT_BITS)
class EightBitReader(HfQuantizer):
    """Reads each weight together with its scale, and forgets afterwards that there was one."""

    serialized_names = {"weight": ["weight", f"weight{SCALE}"]}  # noqa: RUF012 - as in the base class

    def get_load_operations(self) -> dict[str, Any]:
        """How transformers is to read weights."""
        return {"dequantize": _Restore}

    def _process_model_after_weight_loading(self, model: Any, **_: Any) -> Any:
        model.config.weight_format = "float32"
        return model

    def is_serializable(self) -> bool:
        """Whether transformers could store 8 bits again; :func:`model.checkpoint.save_checkpoint` does."""
        return False

    @property
    def is_trainable(self) -> bool:
        """The restored weights are like any others."""
        return True


class _Restore(ConversionOps):
    """A weight and, if it has one, its scale → the weight in the precision that is asked for."""

    def __init__(self, hf_quantizer: EightBitReader) -> None:
        self.hf_quantizer = hf_quantizer  # tells transformers not to convert the steps to floating point

    def convert(
        self, input_dict: dict[str, list[Tensor]], *, full_layer_name: str, model: Any, **_: Any
    ) -> dict[str, Tensor]:
        """Restore one weight."""
        (weight,), (scale,) = input_dict["weight"], input_dict.get(f"weight{SCALE}", [None])
        wanted = model.get_parameter_or_buffer(full_layer_name).dtype
        return {full_layer_name: restore(weight, scale).to(wanted)}

    @property
    def reverse_op(self) -> ConversionOps:
        """What saving does: the weights that are stored are in floating point, which stay as they are."""
        return self
