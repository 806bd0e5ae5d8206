"""What a checkpoint holds of a module and its place in the run, and how a run goes on from there."""

from typing import TYPE_CHECKING, Any, cast

import lightning.pytorch as pl
from lightning.pytorch.loggers import WandbLogger

from onion_lightning.errors import OnionError
from onion_lightning.training.checkpoint_io import META

if TYPE_CHECKING:
    from onion_lightning.model.module import OnionModule

__all__ = ["ADAPTER_FLAGS", "check_adapters", "go_on", "pack", "prefix"]

ADAPTER_FLAGS = ("base_model", "load_in", "lora_rank", "lora_alpha", "lora_dropout", "target_modules")
TRAINING_FLAGS = ("learning_rate", "weight_decay", "warmup_ratio")


def pack(module: "OnionModule", checkpoint: dict[str, Any]) -> None:
    """Keep adapters only, and say where in the epoch the run stands, in optimizer steps."""
    trainable = {name for name, parameter in module.named_parameters() if parameter.requires_grad}
    checkpoint["state_dict"] = {k: v for k, v in checkpoint["state_dict"].items() if k in trainable}
    trainer, data = module.trainer, cast(Any, module.trainer).datamodule
    step = trainer.global_step - module.epoch_began
    if "loops" in checkpoint:
        rewind_progress(checkpoint["loops"], step, trainer.accumulate_grad_batches)
    wandb_id = next((lg.version for lg in trainer.loggers if isinstance(lg, WandbLogger)), None)
    # What `OnionModule.load_from_checkpoint` builds the module with.
    checkpoint[module.CHECKPOINT_HYPER_PARAMS_KEY] = {n: getattr(module, n) for n in (*ADAPTER_FLAGS, *TRAINING_FLAGS)}
    checkpoint[META] = {
        "flags": module.adapter_flags() | prefix("data.", data.flags()) | {"seed_everything": module.seed},
        "training": prefix("model.", {name: getattr(module, name) for name in TRAINING_FLAGS}),
        "architecture": module.architecture,
        "position": {"epoch": module.current_epoch, "step": step},
        "rows": data.fingerprint,
        "world_size": trainer.world_size,
        "wandb_id": None if wandb_id is None else str(wandb_id),
    }


def check_adapters(module: "OnionModule", checkpoint: dict[str, Any]) -> None:
    """Refuse adapters of another shape.

    Raises:
        OnionError: the checkpoint is another base model's or has other adapters.
    """
    expected = {name: p.shape for name, p in module.named_parameters() if p.requires_grad}
    found = {name: value.shape for name, value in checkpoint["state_dict"].items()}
    if expected != found:
        raise OnionError(
            f"--ckpt_path: its adapters do not fit --model.base_model {module.base_model} with --model.lora_rank"
            f" {module.lora_rank} and --model.target_modules {module.target_modules}; it was made with"
            f" {checkpoint[META]['flags']}."
        )


def go_on(module: "OnionModule", checkpoint: dict[str, Any]) -> None:
    """Set the loops, the optimizer and the data to the place in the epoch. What is typed now beats what was saved."""
    meta, data = checkpoint[META], cast(Any, module.trainer).datamodule
    epoch, step = meta["position"]["epoch"], meta["position"]["step"]
    if meta["rows"] != data.fingerprint and step > 0:
        pl.utilities.rank_zero_warn(
            f"--ckpt_path: it stood at step {step} of epoch {epoch}, but the training rows, the seed or"
            " --data.global_batch_size have changed since; that epoch begins anew with the new rows."
        )
        step = 0
    ended = rewind_progress(checkpoint["loops"], step, module.trainer.accumulate_grad_batches)
    if ended:
        epoch, step = epoch + 1, 0
        if epoch != module.trainer.max_epochs:  # then only a validation may be left
            begin_next_epoch(checkpoint["loops"], epoch)
    module.epoch_began = checkpoint["global_step"] - step
    for group in checkpoint["optimizer_states"][0]["param_groups"]:  # what is typed now beats what was saved
        group["lr"] *= module.learning_rate / group["initial_lr"]
        group |= {"initial_lr": module.learning_rate, "weight_decay": module.weight_decay}
    checkpoint["lr_schedulers"][0]["base_lrs"] = [module.learning_rate]
    data.resume(epoch, step)


def prefix(group: str, flags: dict[str, Any]) -> dict[str, Any]:
    return {group + name: value for name, value in flags.items()}


def rewind_progress(loops: dict[str, Any], step: int, accumulate: int) -> bool:
    """Set the loops' count of micro-batches to where `step` optimizer steps of the epoch are done.

    Saved inside an accumulation window, or resumed with another accumulation, it would point elsewhere. Lightning adds
    the last batch itself where it was saved before the loop had counted it as completed: that difference is kept.

    Args:
        loops: the checkpoint's `loops`, changed in place.
        step: optimizer steps done in the current epoch.
        accumulate: micro-batches for each.

    Returns:
        Whether the epoch has ended there.
    """
    progress = loops["fit_loop"]["epoch_loop.batch_progress"]
    current, total = progress["current"], progress["total"]
    whole = current["ready"] == current["processed"]
    uncounted = current["processed"] - current["completed"] if whole else 0
    progress["is_last_batch"] = progress["is_last_batch"] and whole and step > 0
    done = step * accumulate
    for counts, base in ((total, total["ready"] - current["ready"]), (current, 0)):
        counts |= dict.fromkeys(("ready", "started", "processed"), base + done)
        counts["completed"] = max(base + done - uncounted, 0)
    return bool(progress["is_last_batch"])


def begin_next_epoch(loops: dict[str, Any], epoch: int) -> None:
    """Set loops that were saved at the end of an epoch to the start of the next one.

    Lightning would pass to it without counting it, and a second resume inside it would then begin it anew.

    Args:
        loops: the checkpoint's `loops`, changed in place.
        epoch: the epoch that begins.
    """
    epochs, batches = loops["fit_loop"]["epoch_progress"], loops["fit_loop"]["epoch_loop.batch_progress"]
    for counts in (epochs["total"], epochs["current"]):
        counts |= {"ready": epoch + 1, "started": epoch, "processed": epoch, "completed": epoch}
    batches["total"]["completed"] = batches["total"]["ready"]
    batches["current"] |= dict.fromkeys(batches["current"], 0)
    batches["is_last_batch"] = False
