"""Linear layers with frozen weights in 8 or 4 bit.

bitsandbytes quantizes the weights. These layers then take the place of its own, which quantize activations as well, save
their input for the backward pass, and wait for the GPU twice in each layer. See the tests for what else they do.
"""

from typing import Any

import torch
import torch.nn.functional as F
from bitsandbytes.functional import QuantState, dequantize_4bit, dequantize_blockwise
from bitsandbytes.nn import Linear4bit, Linear8bitLt

from onion_lightning.private_api import int8_product

__all__ = ["FrozenLinear", "Int8Linear", "Nf4Linear", "freeze_quantized_layers"]

FEW_ROWS = 64  # smaller than any number of features
PACKED_ROWS = 8  # for more, converting the weights and multiplying is as fast or faster
PIECE = 2**19  # weights that are dequantized at a time on a CPU: 2 MB in float32, which its cache holds
BLOCKS = (4096, 2048, 1024, 512, 256, 128, 64)  # weights with one scale, in the kernel of bitsandbytes


class FrozenProduct(torch.autograd.Function):
    """The product of an input with the weights of a `FrozenLinear`.

    The backward pass needs the weights alone, and dequantizes them again: nothing is saved between the two.
    """

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, layer: "FrozenLinear") -> torch.Tensor:
        ctx.layer = layer
        return F.linear(x, layer.dequantize(), layer.bias)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None]:
        [gradient] = gradients  # (..., out_features)
        weight = ctx.layer.dequantize()  # (out_features, in_features)
        return gradient.to(weight.dtype) @ weight, None


class FrozenLinear(torch.nn.Linear):
    """A linear layer whose quantized weights are never trained. A subclass says how they are dequantized.

    peft inserts its ordinary adapters, because this is a `torch.nn.Linear`. It creates them in float32, because the dtype of
    the weight is not a floating one; an attribute named `compute_dtype` would make it round them.

    Args:
        shape: of the dequantized weight, (out_features, in_features).
        weight: the quantized weight.
        bias: (out_features,), in the output dtype; or None.
        output_dtype: of the dequantized weight, the product and the output.
    """

    def __init__(
        self, shape: torch.Size, weight: torch.Tensor, bias: torch.Tensor | None, output_dtype: torch.dtype
    ) -> None:
        torch.nn.Module.__init__(self)  # that of Linear would allocate a weight
        self.out_features, self.in_features = shape
        self.weight = frozen(weight)
        self.register_parameter("bias", None if bias is None else frozen(bias))
        self.output_dtype = output_dtype

    def dequantize(self) -> torch.Tensor:
        """Return the weight in the output dtype, (out_features, in_features)."""
        raise NotImplementedError

    def lengths(self) -> dict[str, int]:
        """Return the lengths of the weight and its scales, where they are whole: a rank may have a share of them."""
        raise NotImplementedError

    @property
    def W_q(self) -> torch.Tensor:
        """The quantized weight: the DoRA of peft calls `dequantize` of a layer that has this attribute."""
        return self.weight

    def product(self, x: torch.Tensor) -> torch.Tensor:
        """Map (..., in_features) to (..., out_features) in the output dtype, where no gradient is wanted."""
        return F.linear(x, self.dequantize(), self.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (..., in_features) to (..., out_features), in the output dtype."""
        x = x.to(self.output_dtype)
        if not torch.is_grad_enabled():
            return self.product(x)
        output: torch.Tensor = FrozenProduct.apply(x, self)
        return output


class Int8Linear(FrozenLinear):
    """8-bit weights with a scale for each row, as in LLM.int8() (Dettmers et al. 2022).

    Args:
        weight: int8, (out_features, in_features).
        row_maximum: largest absolute value of each row of the original weight, float32, (out_features,).
        bias: as for `FrozenLinear`.
        output_dtype: as for `FrozenLinear`.
    """

    def __init__(
        self, weight: torch.Tensor, row_maximum: torch.Tensor, bias: torch.Tensor | None, output_dtype: torch.dtype
    ) -> None:
        super().__init__(weight.shape, weight, bias, output_dtype)
        self.scale = frozen(row_maximum.unsqueeze(1) * (1.0 / 127.0))  # (out_features, 1)
        self.code = frozen(
            torch.arange(256, dtype=torch.uint8, device=weight.device).view(torch.int8).float()
        )  # (256,)
        self.block = next((block for block in BLOCKS if self.in_features % block == 0), None)

    def lengths(self) -> dict[str, int]:
        return {"weight": self.out_features, "scale": self.out_features}

    def dequantize(self) -> torch.Tensor:
        if self.block is not None and self.weight.is_cuda:
            return self.dequantize_blocks(self.block)
        if self.output_dtype == torch.float32 or self.weight.is_cuda:
            return self.weight.to(self.output_dtype).mul_(self.scale)
        return self.dequantize_pieces()

    def dequantize_pieces(self) -> torch.Tensor:
        """Return the same weight bit for bit, some rows at a time: a float32 copy of all of it costs more than the product.

        Multiplying a 16-bit tensor by float32 scales in place makes two such copies.
        """
        rows = max(1, PIECE // self.in_features)
        if rows >= self.out_features:
            return torch.mul(self.weight, self.scale).to(self.output_dtype)
        weight = torch.empty(self.weight.shape, dtype=self.output_dtype, device=self.weight.device)
        pieces = (tensor.split(rows) for tensor in (weight, self.weight, self.scale))
        for piece, codes, scale in zip(*pieces, strict=True):
            piece.copy_(torch.mul(codes, scale))
        return weight

    def dequantize_blocks(self, block: int) -> torch.Tensor:
        """Return the same weight bit for bit, from one kernel instead of two; a row is some blocks with the same scale.

        Args:
            block: weights in a block, a divisor of in_features.
        """
        scales = self.scale.expand(-1, self.in_features // block).contiguous()
        state = QuantState(scales, code=self.code, blocksize=block, dtype=self.output_dtype)
        weight: torch.Tensor = dequantize_blockwise(self.weight.view(torch.uint8), state)
        return weight

    def product(self, x: torch.Tensor) -> torch.Tensor:
        """For few rows on a CPU, as in generation, multiply by the codes and scale the output instead of the weights.

        In float16 the output might overflow before it is scaled, and a GPU dequantizes faster than it converts the codes.
        """
        rows = x.numel() // self.in_features
        if rows > FEW_ROWS or self.output_dtype == torch.float16 or x.is_cuda:
            return super().product(x)
        product = self.product_of_codes(x, rows).mul_(self.scale[:, 0])
        return product if self.bias is None else product.add_(self.bias)

    def product_of_codes(self, x: torch.Tensor, rows: int) -> torch.Tensor:
        if rows <= PACKED_ROWS and x.dtype == torch.bfloat16:
            product = int8_product(x.reshape(rows, self.in_features), self.weight)
            return product.view(*x.shape[:-1], self.out_features)
        return F.linear(x, self.weight.to(x.dtype))


class Nf4Linear(FrozenLinear):
    """4-bit weights in blocks of 64 with quantized scales, as in QLoRA (Dettmers et al. 2023).

    Args:
        weight: two 4-bit codes a byte, uint8, (out_features * in_features / 2, 1).
        quant_state: scales and codebook of bitsandbytes; its tensors become parameters, which move with the layer.
        bias: as for `FrozenLinear`.
        output_dtype: as for `FrozenLinear`.
    """

    def __init__(
        self, weight: torch.Tensor, quant_state: QuantState, bias: torch.Tensor | None, output_dtype: torch.dtype
    ) -> None:
        super().__init__(quant_state.shape, weight, bias, output_dtype)
        nested = quant_state.state2
        self.absmax = frozen(quant_state.absmax)  # uint8, (blocks,)
        self.code = frozen(quant_state.code)  # float32, (16,)
        self.offset = frozen(quant_state.offset.reshape(1))  # float32, (1,): FSDP2 shards no scalars
        self.nested_absmax = frozen(nested.absmax)  # float32, (blocks / 256,)
        self.nested_code = frozen(nested.code)  # float32, (256,)

    def lengths(self) -> dict[str, int]:
        blocks = -(-self.out_features * self.in_features // 64)
        codes = -(-self.out_features * self.in_features // 2)
        return {"weight": codes, "absmax": blocks, "nested_absmax": -(-blocks // 256)}

    def quant_state(self) -> QuantState:
        """Return the scales and codebook in the form that bitsandbytes takes."""
        nested = QuantState(self.nested_absmax, code=self.nested_code, blocksize=256, dtype=torch.float32)
        return QuantState(
            self.absmax,
            torch.Size((self.out_features, self.in_features)),
            self.code,
            blocksize=64,
            quant_type="nf4",
            dtype=self.output_dtype,
            offset=self.offset,
            state2=nested,
        )

    def dequantize(self) -> torch.Tensor:
        weight: torch.Tensor = dequantize_4bit(self.weight, self.quant_state())
        return weight


def frozen(tensor: torch.Tensor) -> torch.nn.Parameter:
    return torch.nn.Parameter(tensor, requires_grad=False)


def freeze_quantized_layers(model: torch.nn.Module, output_dtype: torch.dtype) -> None:
    """Replace the quantized layers of bitsandbytes in a model by those of this module, in place, without copying weights.

    Args:
        model: loaded through transformers, on its device.
        output_dtype: of the new layers.
    """
    for name, layer in list(model.named_modules()):
        match layer:
            case Linear8bitLt():
                new: FrozenLinear = Int8Linear(layer.weight.data, layer.weight.SCB, layer.bias, output_dtype)
                new.out_features = layer.out_features  # more than the rows of a share
            case Linear4bit():
                new = Nf4Linear(layer.weight.data, layer.weight.quant_state, layer.bias, output_dtype)
            case _:
                continue
        model.set_submodule(name, new)
