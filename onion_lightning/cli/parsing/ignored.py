"""Finds the flags of `fit` that have no effect in a command that does not train, so that all of them take the same line."""

from collections.abc import Collection, Mapping
from inspect import signature
from typing import Any

from onion_lightning.data.module import OnionDataModule
from onion_lightning.model.adapters.saved import ADAPTER_FLAGS

__all__ = ["OBEYED", "ignored_flags"]

SECTIONS = ("trainer", "model", "data", "checkpoint", "samples", "articles")
COMMON = ("collective_timeout", "seed_everything", "weights_only")  # flags of `fit` in no section
STEPS = {"data.batch_size", "data.global_batch_size"}
UNREAD = {f"data.{name}" for name in ("headlines", "headlines_file", "num_workers", "predict_batch_size")}
ROWS = {f"data.{name}" for name in signature(OnionDataModule).parameters} - STEPS - UNREAD
WEIGHTS = {"model.base_model", "model.load_in"}
ADAPTERS = {f"model.{name}" for name in ADAPTER_FLAGS}
APPLIED = ADAPTERS - {"model.init_lora_weights", "model.lora_dropout"}  # where adapters are loaded and not trained
WRITING = {f"model.{name}" for name in ("max_new_tokens", "repetition_penalty", "temperature", "top_p")}
SEEDED = {"seed_everything", "model.seed"}
DEVICE = {"trainer.accelerator", "trainer.precision"}
# The flags of `fit` that the commands without a Trainer obey.
OBEYED: dict[str, set[str]] = {
    "attend": DEVICE | WEIGHTS | {"trainer.logger"},
    "export": ADAPTERS | WRITING | {"trainer.logger"},
    "plan": {
        *(DEVICE | WEIGHTS | ROWS | STEPS | {"data.pairs"}),
        *(f"trainer.{name}" for name in ("devices", "num_nodes", "strategy")),
        *(f"trainer.{name}" for name in ("limit_train_batches", "max_epochs", "max_steps")),
        *(f"model.{name}" for name in ("adapter", "gradient_checkpointing", "optimizer", "shard")),
        *(f"model.{name}" for name in ("lora_dropout", "lora_rank", "target_modules", "use_dora")),
        *SEEDED,
    },
    "preview": ROWS | STEPS | {"data.pairs", "seed_everything", "model.base_model", "model.adapter"},
    "serve": DEVICE | APPLIED | ROWS | WRITING | SEEDED | {"model.adapter_strength", "model.candidates"},
    "verify": DEVICE | APPLIED | ROWS | {"seed_everything", "model.max_new_tokens"},
}


def ignored_flags(command: str, options: Mapping[str, Any], typed: Collection[str]) -> list[str]:
    """Return the flags on the command line that have no effect. Those of a YAML file may have been written for others.

    Args:
        command: one without a Trainer.
        options: its configuration.
        typed: dotted names of the options on the command line.

    Returns:
        The flags with dashes, in alphabetical order.
    """
    obeyed = OBEYED[command] | {"trainer.enable_progress_bar"} | conditional(command, options)
    found = {".".join(name.split(".")[:2]) for name in typed if name.split(".")[0] in (*SECTIONS, *COMMON)}
    found -= obeyed | set(SECTIONS)
    if not options["trainer"]["logger"]:  # nothing is logged anyway
        found.discard("trainer.logger")
    return [f"--{name}" for name in sorted(found)]


def conditional(command: str, options: Mapping[str, Any]) -> set[str]:
    """Return the flags that a command obeys only because of another one."""
    found: set[str] = set()
    also = options.get("also") or []
    named = [value.partition("=")[2] for value in ([also] if isinstance(also, str) else also)]
    if {options.get("ckpt_path"), *named} & {"last", "best"}:
        found |= {"checkpoint.dirpath"}
    if command == "attend":
        found |= APPLIED if options["ckpt_path"] is not None else set()
        found |= WRITING | SEEDED if options["headline"] is not None else set()
    if command == "export" and options["verify"]:
        found |= ROWS | {"seed_everything"}
    return found
