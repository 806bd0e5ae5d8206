"""The command line as words: which values the user typed, and how they are written for the parser."""

import contextlib
import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml

__all__ = ["plain_json", "split_flags", "typed_keys", "without_ckpt_path"]


def split_flags(args: list[str]) -> list[str]:
    """`--flag=value` as two words, so that a flag is found whichever way it was written."""
    return [part for word in args for part in (word.split("=", 1) if word.startswith("--") else [word])]


def plain_json(word: str) -> str:
    """A JSON list without its escapes: the parser reads YAML, where "\\ud83e\\udd5a" is no egg."""
    if word.startswith("[") and "\\u" in word:
        with contextlib.suppress(json.JSONDecodeError):
            return json.dumps(json.loads(word), ensure_ascii=False)
    return word


def typed_keys(args: list[str]) -> set[str]:
    """The dotted names of all values that a command line gives, by flag or in a YAML file."""
    keys = {word[2:].split("=")[0].rstrip("+") for word in args if word.startswith("--")}
    for flag, value in pairwise(args):
        if flag in ("-c", "--config") and Path(value).is_file():
            keys |= flat_keys(yaml.safe_load(Path(value).read_text(encoding="utf-8")) or {})
    return keys


def flat_keys(settings: dict[str, Any], prefix: str = "") -> set[str]:
    keys = {prefix + name for name in settings}
    for name, value in settings.items():
        if isinstance(value, dict):
            keys |= flat_keys(value, f"{prefix}{name}.")
    return keys


def without_ckpt_path(args: list[str]) -> list[str]:
    kept = [word for before, word in zip(["", *args], args, strict=False) if before != "--ckpt_path"]
    return [word for word in kept if not word.startswith("--ckpt_path")]
