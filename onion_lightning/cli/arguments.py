"""Preprocesses command-line arguments, and builds the commands that are printed to the user."""

import contextlib
import json
import shlex
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml

from onion_lightning.cli.parser import PROGRAM

__all__ = ["given_keys", "plain_json", "predict_command", "resume_command", "split_flags"]

MACHINE = ("accelerator", "devices", "num_nodes", "strategy", "precision")
KEPT = ("-c", "--config", "--model.load_in", *(f"--trainer.{name}" for name in MACHINE))  # by `predict_command`


def split_flags(args: Sequence[str]) -> list[str]:
    """Split `--flag=value` into two words, so that a flag is found however it was written."""
    return [part for word in args for part in (word.split("=", 1) if word.startswith("--") else [word])]


def plain_json(word: str) -> str:
    """Decode the escapes of a JSON list: the parser reads YAML, which has no surrogate pairs such as "\\ud83e\\udd5a"."""
    if word.startswith("[") and "\\u" in word:
        with contextlib.suppress(json.JSONDecodeError):
            return json.dumps(json.loads(word), ensure_ascii=False)
    return word


def given_keys(args: Sequence[str]) -> tuple[set[str], set[str]]:
    """Return the dotted names of the values that a command line gives by flag, and of those that it gives in a YAML file.

    A name that is given both ways is in the set of the later one, which is the one that counts.
    """
    typed: set[str] = set()
    configured: set[str] = set()
    for flag, value in pairwise([*args, ""]):
        if flag in ("-c", "--config") and Path(value).is_file():
            keys = flat_keys(yaml.safe_load(Path(value).read_text(encoding="utf-8")) or {})
            typed, configured = typed - keys, configured | keys
        elif flag.startswith("--"):
            name = flag[2:].split("=")[0].rstrip("+")
            typed, configured = typed | {name}, configured - {name}
    return typed, configured


def flat_keys(settings: dict[str, Any], prefix: str = "") -> set[str]:
    keys = {prefix + name for name in settings}
    for name, value in settings.items():
        if isinstance(value, dict):
            keys |= flat_keys(value, f"{prefix}{name}.")
    return keys


def resume_command(args: Sequence[str]) -> str:
    """Return the command that resumes a `fit` from its last checkpoint."""
    kept = [word for before, word in zip(["", *args], args, strict=False) if before != "--ckpt_path"]
    kept = [word for word in kept if not word.startswith("--ckpt_path")]
    return shlex.join([*PROGRAM.split(), *kept, "--ckpt_path", "last"])


def predict_command(args: Sequence[str], checkpoint: Path) -> str:
    """Return a command that writes an article with a checkpoint, on the devices that `fit` was given.

    The base model and the shape of the adapters come from the checkpoint, whatever the config says.
    """
    flags = [word for pair in pairwise(args) if pair[0] in KEPT for word in pair]
    headlines = ["--data.headlines", '["Area Man Declares War On Tuesday"]']
    return shlex.join([*PROGRAM.split(), "predict", *flags, "--ckpt_path", str(checkpoint), *headlines])
