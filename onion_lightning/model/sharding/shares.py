"""Lets transformers load a model of which each rank keeps some rows of the decoder layers' linear weights.

Its quantizers get one weight at a time, as it is in the file. Files are mapped into memory: of a weight in 8 or 16 bit, only
the rows that are kept are read.
"""

from dataclasses import dataclass
from typing import Any, cast

import torch
from transformers import BitsAndBytesConfig, PreTrainedModel
from transformers.core_model_loading import ConversionOps
from transformers.integrations.bitsandbytes import Bnb4bitQuantize, Bnb8bitQuantize
from transformers.quantizers.auto import register_quantizer
from transformers.quantizers.base import HfQuantizer
from transformers.quantizers.quantizer_bnb_4bit import Bnb4BitHfQuantizer
from transformers.quantizers.quantizer_bnb_8bit import Bnb8BitHfQuantizer

from onion_lightning.model.sharding.layers import own_rows

__all__ = ["Share", "share_config"]


@dataclass(frozen=True)
class Share:
    """The rows that a rank keeps.

    Attributes:
        rank: of this process, among those that share the weights.
        size: number of these ranks.
        device: that the rows are quantized and kept on.
    """

    rank: int
    size: int
    device: torch.device

    def rows(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return a copy of this rank's rows, on the device."""
        return own_rows(tensor, self.rank, self.size).to(self.device, copy=True)


def share_config(share: Share, config: BitsAndBytesConfig | None) -> BitsAndBytesConfig:
    """Return the `quantization_config` of a share.

    Args:
        share: the rows to keep.
        config: that of the whole model, or None if it is not quantized.
    """
    config = config or BitsAndBytesConfig()
    config.quant_method = "share_8bit" if config.load_in_8bit else "share_4bit" if config.load_in_4bit else "share"
    config.share = share
    return config


class Sharing:
    """What the quantizers have in common: which rows of which weights are kept."""

    quantization_config: Any

    def is_shared(self, model: PreTrainedModel, name: str) -> bool:
        """Return whether a weight is that of a linear layer in a decoder layer."""
        module_name, _, own_name = name.rpartition(".")
        module, layers = model.get_submodule(module_name), cast(torch.nn.Module, model.get_decoder().layers)
        linear = isinstance(module, torch.nn.Linear) and own_name == "weight"
        return linear and any(module is one for one in layers.modules())

    def rows(self, model: PreTrainedModel, name: str, values: Any) -> torch.Tensor:
        """Return this rank's rows of a weight, or all of them, on its device."""
        value = values[0] if isinstance(values, list) else values
        share = self.quantization_config.share
        rows: torch.Tensor = share.rows(value) if self.is_shared(model, name) else value.to(share.device)
        return rows


class QuantizeRows(Bnb8bitQuantize):
    """Quantizes this rank's rows: each has a scale of its own."""

    def convert(self, input_dict: dict[str, Any], model: Any = None, **more: Any) -> dict[str, torch.Tensor]:
        rows = {name: self.hf_quantizer.rows(model, name, values) for name, values in input_dict.items()}
        return super().convert(rows, model=model, **more)


class QuantizeAndKeepRows(Bnb4bitQuantize):
    """Quantizes a whole weight, because one offset belongs to all of it, and keeps this rank's part of codes and scales."""

    def convert(self, input_dict: dict[str, Any], model: Any = None, **more: Any) -> dict[str, torch.Tensor]:
        share = self.hf_quantizer.quantization_config.share
        whole = {name: [values[0].to(share.device)] for name, values in input_dict.items()}
        converted = super().convert(whole, model=model, **more)
        for name, weight in converted.items():
            if self.hf_quantizer.is_shared(model, name):
                state = weight.quant_state
                weight.data, state.absmax = share.rows(weight.data), share.rows(state.absmax)
                state.state2.absmax = share.rows(state.state2.absmax)
        return converted


class KeepRows(ConversionOps):
    """Keeps this rank's rows of a weight that is not quantized."""

    def __init__(self, quantizer: "RowQuantizer") -> None:
        self.hf_quantizer = quantizer

    def convert(self, input_dict: dict[str, Any], model: Any = None, **more: Any) -> dict[str, torch.Tensor]:
        return {name: self.hf_quantizer.rows(model, name, values) for name, values in input_dict.items()}


@register_quantizer("share_8bit")
class RowInt8Quantizer(Sharing, Bnb8BitHfQuantizer):
    """Loads this rank's rows in 8 bit."""

    def get_quantize_ops(self) -> ConversionOps:
        return QuantizeRows(self)


@register_quantizer("share_4bit")
class RowNf4Quantizer(Sharing, Bnb4BitHfQuantizer):
    """Loads this rank's part in 4 bit."""

    def get_quantize_ops(self) -> ConversionOps:
        return QuantizeAndKeepRows(self)


@register_quantizer("share")
class RowQuantizer(Sharing, HfQuantizer):
    """Loads this rank's rows as they are."""

    def param_needs_quantization(self, model: PreTrainedModel, param_name: str, **options: Any) -> bool:
        return self.is_shared(model, param_name)

    def get_quantize_ops(self) -> ConversionOps:
        return KeepRows(self)

    def is_serializable(self) -> bool:
        return False

    @property
    def is_trainable(self) -> bool:
        return True
