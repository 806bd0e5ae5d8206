"""The uses of libraries' private APIs, each with its reason. `tests/test_private_api.py` fails when a library changes one.

There are two exceptions. `cli/onion_cli.py` overrides `LightningCLI._parse_ckpt_path`, which would let a checkpoint's
hyperparameters override explicit flags, and `training/resume.py` corrects positions in the `loops` of a checkpoint.
"""

from argparse import ArgumentParser
from collections.abc import Iterable
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import lightning.pytorch as pl
import torch
from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.strategies import DDPStrategy, Strategy
from lightning.pytorch.strategies.launchers import _MultiProcessingLauncher
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.attention import SDPBackend
from torch.nn.parallel import DistributedDataParallel
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import PreTrainedModel

if TYPE_CHECKING:
    import datasets

__all__ = [
    "FakeTensorMode",  # tensors without memory
    "TorchDispatchMode",  # sees every operation; torch documents both classes, but their modules are private
    "attached_trainer",
    "attention_implementation",
    "attention_kernel",
    "attention_products",
    "cpu_has_bfloat16",
    "dataset_fingerprint",
    "drop_anonymous",
    "dump_checkpoint",
    "forget_sigterm_broadcast",
    "gather_in_background",
    "hide_gguf_bar",
    "ignore_in_ddp",
    "ignore_requeue_checkpoints",
    "int8_product",
    "option_strings",
    "row_to_log",
    "run_validation",
    "set_process_group_timeout",
    "starts_ranks_midway",
    "uncount_optimizer_step",
]


def attached_trainer(module: pl.LightningModule) -> pl.Trainer | None:
    """Return the Trainer that a module is attached to, or None. The public property raises where there is none."""
    return module._trainer


def dump_checkpoint(trainer: pl.Trainer) -> dict[str, Any]:
    """Return a checkpoint without `Trainer.save_checkpoint`'s barrier, for when the other ranks may be gone."""
    checkpoint: dict[str, Any] = trainer._checkpoint_connector.dump_checkpoint()
    return checkpoint


def row_to_log(trainer: pl.Trainer) -> dict[str, float]:
    """Return the row that Lightning is about to log for this optimizer step; empty if it logs none.

    Loggers get it after the last hook in which a checkpoint can be saved, and a kill in between would lose it.
    """
    connector = trainer._logger_connector
    figures = {name: float(value) for name, value in connector.metrics["log"].items()}
    if not figures or not connector.should_update_logs:
        return {}
    return figures | {"epoch": trainer.current_epoch, "step": trainer.fit_loop.epoch_loop._batches_that_stepped}


def uncount_optimizer_step(trainer: pl.Trainer) -> None:
    """Subtract a step that the gradient scaler skipped from `global_step` and from the loggers' step.

    Lightning counts it as if it had been taken. Call this inside the `optimizer_step` hook: what Lightning adds after it is
    subtracted in advance.
    """
    epoch_loop = trainer.fit_loop.epoch_loop
    steps = epoch_loop.automatic_optimization.optim_progress.optimizer.step
    for counts in (steps.total, steps.current):
        counts.ready -= 1
        counts.completed -= 1
    epoch_loop._batches_that_stepped -= 1
    for result in epoch_loop._results.values():
        if result.meta.on_step and not result.meta.on_epoch:
            result.reset()  # otherwise the values of the step before would be logged again


def forget_sigterm_broadcast(trainer: pl.Trainer) -> None:
    """Keep Lightning from asking rank 0 before each micro-batch whether it received SIGTERM.

    Each rank would wait twice for its GPU. This project's own handler is installed, and shares signals once a step.
    """
    trainer.fit_loop.epoch_loop._broadcast_sigterm_tensor = lambda: None  # type: ignore[method-assign]


def gather_in_background(layers: Iterable[Any]) -> None:
    """Let layers of FSDP2 gather their weights on a CPU while others compute. On a GPU, it has a stream for it."""
    for layer in layers:
        layer._set_unshard_async_op(True)


def ignore_in_ddp(module: torch.nn.Module, names: list[str]) -> None:
    """Exclude parameters and buffers from DDP's broadcasts. Call this before DDP wraps the module."""
    DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(module, names)


def set_process_group_timeout(strategy: DDPStrategy, limit: timedelta) -> timedelta | None:
    """Set the time limit for each collective of the ranks that Lightning connects, and return what it was configured with."""
    before: timedelta | None = strategy._timeout
    strategy._timeout = limit
    return before


def ignore_requeue_checkpoints(trainer: pl.Trainer) -> None:
    """Keep Lightning from loading the newest `hpc_ckpt_*` of its root folder into every run under SLURM."""
    connector = trainer._checkpoint_connector
    name = type(connector).__name__
    connector.__class__ = type(name, (type(connector),), {"_hpc_resume_path": None})


def option_strings(parser: ArgumentParser) -> list[str]:
    """Return all flags of a parser as they are typed, such as `-c` and `--config`."""
    return [word for action in parser._actions for word in action.option_strings]


def run_validation(trainer: pl.Trainer) -> None:
    """Run the validation that is due at the position of a resumed run. Lightning would skip it."""
    loop = trainer.fit_loop.epoch_loop.val_loop
    trainer.validating = True
    loop.restarting = False
    loop.run()
    trainer.training = True


def starts_ranks_midway(strategy: Strategy) -> bool:
    """Return whether a strategy forks or spawns its ranks from the running program (`ddp_spawn`, `ddp_notebook`)."""
    return isinstance(strategy.launcher, _MultiProcessingLauncher)


def drop_anonymous(logger: WandbLogger) -> None:
    """Remove an argument that Lightning always passes to `wandb.init`, and that W&B warns about."""
    logger._wandb_init.pop("anonymous", None)


def attention_implementation(model: PreTrainedModel) -> str:
    """Return the name of a model's attention implementation, to restore it later. Only the setter is public."""
    name: str = model.config._attn_implementation
    return name


def attention_kernel(query: torch.Tensor, key: torch.Tensor) -> str:
    """Return which kernel `scaled_dot_product_attention` chooses for causal attention: flash, efficient, cudnn or math.

    Args:
        query: (rows, heads, length, head size).
        key: (rows, key-value heads, length, head size); the values have the same shape.
    """
    grouped = query.shape[1] != key.shape[1]
    choice = torch._fused_sdp_choice(query, key, key, None, 0.0, True, enable_gqa=grouped)
    return SDPBackend(choice).name.lower().removesuffix("_attention")


class AttentionProducts(NamedTuple):
    """The matrix products in an attention kernel, and the position of the queries in its arguments; the keys follow."""

    products: int
    query: int


def attention_products(operation: Any) -> AttentionProducts | None:
    """Return what an operation computes if it is the attention kernel that torch chooses on a CPU, or its gradient.

    The gradient computes the scores again, and four products of their size.
    """
    known = {
        torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: AttentionProducts(2, 0),
        torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: AttentionProducts(5, 1),
    }
    return known.get(operation)


def dataset_fingerprint(rows: "datasets.Dataset") -> str:
    """Return the fingerprint of a dataset, which `datasets` computes and uses as the key of its own cache."""
    fingerprint: str = rows._fingerprint
    return fingerprint


def hide_gguf_bar() -> None:
    """Turn off the bar that transformers draws while it reads a GGUF file; its own setting for bars does not reach it."""
    from transformers import modeling_gguf_pytorch_utils as reader

    reader.tqdm = partial(reader.tqdm, disable=True)


def cpu_has_bfloat16() -> bool:
    """Return whether this CPU multiplies in bfloat16 natively. torch has no public query for it."""
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def int8_product(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Multiply a few rows by 8-bit weights, which are read once and not converted first; torch has it for CPUs, in bfloat16.

    Args:
        x: bfloat16, (rows, in_features).
        weight: int8, (out_features, in_features).

    Returns:
        bfloat16, (rows, out_features).
    """
    scales = torch.ones(len(weight), dtype=x.dtype)
    product: torch.Tensor = torch.ops.aten._weight_int8pack_mm(x, weight, scales)
    return product
