"""Predicts the memory of a training run from the base model's config and the flags. No weights are read.

The real module is built on fake tensors, and its training step runs on them: there is no formula to keep up to date.
"""

from dataclasses import dataclass
from typing import Any

import torch
from transformers import PretrainedConfig

from onion_lightning.errors import OnionError, shorten
from onion_lightning.model.adapters.settings import TargetModules
from onion_lightning.model.base_model import LoadIn, compute_dtype
from onion_lightning.model.module import OnionModule
from onion_lightning.model.optimization.optimizer import OptimizerName
from onion_lightning.planning.fake_model import count_parameters, frozen_linear_layers, tensors_of
from onion_lightning.planning.live_memory import storage_bytes
from onion_lightning.planning.tracer import Tracer
from onion_lightning.planning.training_step import DeviceType, StepMemory

__all__ = ["CUDA_CONTEXT", "MemoryPlan", "SharedLayers", "flags_of", "predict_memory"]

CUDA_CONTEXT = 500_000_000  # bytes of the driver, the kernels and cuBLAS: an assumption, it varies with the card
# Layers in memory beside a rank's share: the one in use, the next one, which is gathered meanwhile, and a buffer: on CUDA,
# the one in which the layer in use arrived, which FSDP2 keeps; gloo has one of its own.
GATHERED = 3
PASSES = 2  # that gather a layer: forward and backward. What gradient checkpointing recomputes is inside the second.


@dataclass(frozen=True)
class SharedLayers:
    """The decoder layers of which each rank keeps a share, with --model.shard.

    Attributes:
        ranks: that share them.
        count: number of layers.
        size: bytes of the frozen tensors of all layers. FSDP2 pads their first dimension to a multiple of the ranks.
        gathered: bytes of layers that a rank has gathered at a time, at most.
    """

    ranks: int
    count: int
    size: int
    gathered: int

    @property
    def share(self) -> int:
        """Bytes that a rank keeps."""
        return self.size // self.ranks

    @property
    def received(self) -> int:
        """Bytes that a rank receives for a micro-batch."""
        return PASSES * (self.size - self.share)


@dataclass(frozen=True)
class MemoryPlan:
    """The memory of a training run on one device, in bytes, and the size of the model and of the computation.

    Attributes:
        linear: frozen linear layers, quantized or not; of sharded decoder layers a share, norms included.
        embeddings: embeddings, output layer, norms and other frozen tensors.
        adapters: LoRA weights.
        gradients: of the adapters.
        buckets: a second copy of the gradients, which DDP communicates; 0 on one rank.
        optimizer: state of AdamW.
        activations: what the decoder keeps from the forward pass for the backward pass.
        logits: logits and loss: their largest addition to the activations.
        workspace: dequantized weights, temporary and recomputed tensors: their largest addition to the activations, in
            the decoder.
        step: temporary tensors of the optimizer step, when there are no activations.
        parameters: number of parameters of the base model.
        trainable: number of parameters of the adapters.
        trained_tensors: number of tensors that they are in.
        products: floating-point operations of the matrix products of a micro-batch, forward and backward.
        attention: the same of its attention kernels.
        shared: the layers that are sharded; None if none are.
    """

    linear: int
    embeddings: int
    adapters: int
    gradients: int
    buckets: int
    optimizer: int
    activations: int
    logits: int
    workspace: int
    step: int
    parameters: int
    trainable: int
    trained_tensors: int
    products: int
    attention: int
    shared: SharedLayers | None = None

    @property
    def gathered(self) -> int:
        """Sharded layers that a rank has gathered at a time, while the decoder runs."""
        return 0 if self.shared is None else self.shared.gathered

    @property
    def weights(self) -> int:
        """Base weights: what is there after loading, without adapters."""
        return self.linear + self.embeddings

    @property
    def constant(self) -> int:
        """What exists throughout training."""
        return self.weights + self.adapters + self.gradients + self.buckets + self.optimizer

    @property
    def total(self) -> int:
        """The peak. Logits and workspace are not needed at the same time, nor are activations and the optimizer step."""
        return self.constant + max(self.activations + max(self.logits, self.workspace + self.gathered), self.step)

    def parts(self) -> dict[str, int]:
        """Return the parts and the peak in bytes, by a name to print."""
        return {
            "weights": self.weights,
            "adapters, gradients, optimizer": self.constant - self.weights,
            "activations": self.activations,
            "logits": self.logits,
            "workspace": self.workspace + self.gathered,
            "peak": self.total,
        }

    def fits(self, available: int, spare: float = 0.1) -> bool:
        """Return whether the peak and a CUDA context fit, with a share to spare for fragmentation.

        Args:
            available: memory of the card in bytes.
            spare: fraction of it that must stay free.
        """
        return self.total + CUDA_CONTEXT <= (1 - spare) * available


def flags_of(module: OnionModule) -> dict[str, Any]:
    """Return the flags of a module that its memory depends on, as arguments of `predict_memory`."""
    names = "load_in lora_rank target_modules gradient_checkpointing lora_dropout use_dora optimizer"
    return {name: getattr(module, name) for name in names.split()}


def predict_memory(
    config: PretrainedConfig,
    *,
    load_in: LoadIn,
    precision: str,
    lora_rank: int,
    target_modules: TargetModules,
    gradient_checkpointing: bool,
    rows: int,
    length: int,
    lora_dropout: float = 0.05,
    use_dora: bool = False,
    optimizer: OptimizerName = "adamw",
    ranks: int = 1,
    shares: int = 1,
    device_type: DeviceType = "cuda",
) -> MemoryPlan:
    """Predict the peak memory of a training run on one device, from the second micro-batch on.

    Takes a few seconds for Llama-2 7B, allocates nothing to speak of, and leaves the random state as it was.

    Args:
        config: of the base model, see `load_config`.
        load_in: as --model.load_in.
        precision: as --trainer.precision.
        lora_rank: as --model.lora_rank.
        target_modules: as --model.target_modules.
        gradient_checkpointing: as --model.gradient_checkpointing.
        rows: in a micro-batch, --data.batch_size.
        length: of every row in tokens, all of them supervised; at most --data.max_length.
        lora_dropout: as --model.lora_dropout.
        use_dora: as --model.use_dora.
        optimizer: as --model.optimizer; a paged state counts as if it stayed on the GPU.
        ranks: more than one adds the buckets of DDP.
        shares: number of ranks that share the frozen layers, 1 with --model.shard false.
        device_type: cuda or cpu, which differ in dropout and in the optimizer step.

    Raises:
        OnionError: a flag is out of range, the model has no such layers, or its training step cannot be traced.
    """
    flags = {
        "base_model": config.name_or_path or config.model_type,
        "load_in": load_in,
        "lora_rank": lora_rank,
        "lora_dropout": lora_dropout,
        "use_dora": use_dora,
        "optimizer": optimizer.removeprefix("paged_"),
        "target_modules": target_modules,
        "gradient_checkpointing": gradient_checkpointing,
        "seed": 0,
    }
    tracer = Tracer(config, flags, compute_dtype(precision), device_type)
    try:
        with torch.random.fork_rng(devices=[]):
            module = tracer.load(config.num_hidden_layers)
            state, step = tracer.optimizer(module)
            traced = tracer.all_layers(rows, length)
    except RuntimeError as error:
        raise OnionError(
            f"--model.base_model {flags['base_model']}: the memory of its training step cannot be predicted"
            f" ({shorten(error)}); measure a step instead."
        ) from error
    shared = None if shares == 1 else share_layers(module, shares)
    return make_plan(module, state, step, traced, ranks, shared)


def make_plan(
    module: OnionModule, state: int, step: int, traced: StepMemory, ranks: int, shared: SharedLayers | None
) -> MemoryPlan:
    """Add up the tensors of a module, and what was traced."""
    linear = [one for layer in frozen_linear_layers(module.language_model) for one in tensors_of(layer)]
    frozen = [one for one in (*module.parameters(), *module.buffers()) if not one.requires_grad]
    trained = [one for one in module.parameters() if one.requires_grad]
    apart = linear if shared is None else frozen_in_layers(module)
    known = {id(one) for one in apart}
    parameters, trainable = count_parameters(module)
    gradients = sum(one.nbytes for one in trained)
    return MemoryPlan(
        linear=storage_bytes(linear) if shared is None else shared.share,
        embeddings=storage_bytes(one for one in frozen if id(one) not in known),
        adapters=storage_bytes(trained),
        gradients=gradients,
        buckets=gradients if ranks > 1 else 0,
        optimizer=state,
        activations=traced.activations,
        logits=traced.loss,
        workspace=traced.layers,
        step=step,
        parameters=parameters,
        trainable=trainable,
        trained_tensors=len(trained),
        products=traced.products,
        attention=traced.attention,
        shared=shared,
    )


def frozen_in_layers(module: OnionModule) -> list[torch.Tensor]:
    """Return the frozen parameters of the decoder layers, those that `shard_layers` shards."""
    layers: Any = module.language_model.get_decoder().layers
    return [one for one in layers.parameters() if not one.requires_grad]


def share_layers(module: OnionModule, ranks: int) -> SharedLayers:
    size = sum(-(-len(one) // ranks) * ranks * (one.nbytes // len(one)) for one in frozen_in_layers(module))
    count = module.language_model.config.get_text_config().num_hidden_layers
    return SharedLayers(ranks, count, size, GATHERED * size // count)
