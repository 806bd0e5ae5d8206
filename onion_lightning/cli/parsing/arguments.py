"""Preprocesses command-line arguments, and builds the commands that are printed to the user."""

import contextlib
import json
import re
import shlex
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml

from onion_lightning.cli.parsing.packaged_configs import config_file, config_name
from onion_lightning.cli.parsing.parser import program
from onion_lightning.errors import UsageError
from onion_lightning.surrogates import replace_surrogates

__all__ = [
    "CONFIG_FLAGS",
    "config_files",
    "flat_keys",
    "given_keys",
    "given_setting",
    "given_value",
    "given_values",
    "predict_command",
    "prepare",
    "resume_command",
]

CONFIG_FLAGS = ("-c", "--config")
MACHINE = ("accelerator", "devices", "num_nodes", "strategy", "precision")
KEPT = (*CONFIG_FLAGS, "--model.load_in", *(f"--trainer.{name}" for name in MACHINE))  # by `predict_command`


def split_flags(args: Sequence[str]) -> list[str]:
    """Split `--flag=value` into two words, so that a flag is found however it was written."""
    return [part for word in args for part in (word.split("=", 1) if word.startswith("--") else [word])]


def plain_json(word: str) -> str:
    """Decode the escapes of a JSON list: the parser reads YAML, which has no surrogate pairs such as "\\ud83e\\udd5a"."""
    if not word.startswith("["):
        return word
    if "\\u" in word:
        with contextlib.suppress(json.JSONDecodeError):
            word = json.dumps(json.loads(word), ensure_ascii=False)
    return replace_surrogates(word)


def prepare(args: Sequence[str]) -> list[str]:
    """Return a command line in the form that the parser expects.

    Raises:
        UsageError: `--data.headlines` is neither a headline nor a list of headlines, or there is no config of a name.
    """
    words = [plain_json(word) for word in split_flags(args)]
    if words[:1] in (
        ["evaluate"],
        ["memorize"],
        ["verify"],
    ):  # torchrun refuses --n, which abbreviates several of its own flags
        words = ["--count" if word == "--n" else word for word in words]
    words = join_repeated(words, "--also")
    forms = {"--data.headlines": headline_list, "--data.headlines+": headline_list, "--data.path": bracketed_path}
    forms |= dict.fromkeys(CONFIG_FLAGS, config_file)
    return [forms[flag](word) if flag in forms else word for flag, word in zip(["", *words], words, strict=False)]


def join_repeated(words: list[str], flag: str) -> list[str]:
    """Return a command line in which a flag that is given several times has a list of its values; the last would count."""
    values = given_values(words, [flag])
    if len(values) < 2:
        return words
    rest = [word for before, word in pairwise(["", *words]) if flag not in (before, word)]
    return [*rest, flag, json.dumps(values, ensure_ascii=False)]


def bracketed_path(value: str) -> str:
    """Return the value of `--data.path`. A path such as `[new]`, which the parser would read as a list, becomes a list."""
    return json.dumps([value], ensure_ascii=False) if value.startswith("[") and Path(value).exists() else value


def headline_list(value: str) -> str:
    """Return the value of `--data.headlines` as a list: the parser would read some headlines as YAML, such as "Man: I Won".

    Raises:
        UsageError: the value begins like a list of quoted headlines, but is none.
    """
    if value.startswith("--") or value == "null":
        return value
    try:
        found = yaml.safe_load(value) if value.startswith("[") else value
    except yaml.YAMLError:
        found = [None] if re.match(r"\[\s*[\"']", value) else value
    if isinstance(found, list) and not all(isinstance(headline, str) for headline in found):
        raise UsageError(
            f"--data.headlines {value[:80]}: is not a valid list; give a headline, or a list such as"
            ' \'["One Headline", "Another"]\'.'
        )
    return json.dumps(found if isinstance(found, list) else [value], ensure_ascii=False)


def config_files(args: Sequence[str]) -> list[str]:
    """Return the YAML files that a command line names with `--config`, if they exist."""
    return [file for file in given_values(args, CONFIG_FLAGS) if Path(file).is_file()]


def given_value(args: Sequence[str], flag: str) -> str | None:
    """Return the last value that a command line gives a flag; None if it gives none."""
    values = given_values(args, (flag, f"{flag}+"))
    return values[-1] if values else None


def given_values(args: Sequence[str], flags: Sequence[str]) -> list[str]:
    """Return all values that a command line gives flags with one of these names."""
    return [value for flag, value in pairwise(args) if flag in flags and not value.startswith("--")]


def given_setting(args: Sequence[str], name: str) -> str | None:
    """Return the value that a command line or one of its YAML files gives a setting, before they are parsed.

    Args:
        args: the command line.
        name: the dotted name; `init_args` may be left out of a flag.
    """
    found = given_value(args, f"--{name}") or given_value(args, f"--{name.replace('.init_args', '')}")
    for file in [] if found else config_files(args):
        with contextlib.suppress(OSError, ValueError, yaml.YAMLError):  # reported when it is parsed
            value = yaml.safe_load(Path(file).read_text(encoding="utf-8"))
            for key in name.split("."):
                value = value.get(key) if isinstance(value, dict) else None
            found = found if value is None else str(value)
    return found


def given_keys(args: Sequence[str]) -> tuple[set[str], set[str]]:
    """Return the dotted names of the values that a command line gives by flag, and of those that it gives in a YAML file.

    A name that is given both ways is in the set of the later one, which is the one that counts.
    """
    typed: set[str] = set()
    configured: set[str] = set()
    for flag, value in pairwise([*args, ""]):
        if flag in CONFIG_FLAGS:
            typed |= {"config"}
            keys = (
                flat_keys(yaml.safe_load(Path(value).read_text(encoding="utf-8")) or {})
                if Path(value).is_file()
                else set()
            )
            typed, configured = typed - keys, configured | keys
        elif flag.startswith("--"):
            name = flag[2:].split("=")[0].rstrip("+")
            typed, configured = typed | {name}, configured - {name}
    return typed, configured


def flat_keys(settings: dict[str, Any], prefix: str = "") -> set[str]:
    """Return the dotted names of all settings in the content of a YAML file, including those of sections."""
    keys = {prefix + name for name in settings}
    for name, value in settings.items():
        if isinstance(value, dict):
            keys |= flat_keys(value, f"{prefix}{name}.")
    return keys


def resume_command(args: Sequence[str]) -> str:
    """Return the command that resumes a `fit` from its last checkpoint."""
    kept = [word for before, word in zip(["", *args], args, strict=False) if before != "--ckpt_path"]
    kept = [word for word in kept if not word.startswith("--ckpt_path")]
    return f"{program()} {shlex.join([*kept, '--ckpt_path', 'last'])}"


def predict_command(args: Sequence[str], checkpoint: Path) -> str:
    """Return a command that writes an article with a checkpoint, on the devices that `fit` was given.

    The base model and the shape of the adapters come from the checkpoint, whatever the config says.
    """
    pairs = [pair for pair in pairwise(args) if pair[0] in KEPT]
    flags = [word for flag, value in pairs for word in (flag, config_name(value) if flag in CONFIG_FLAGS else value)]
    headlines = ["--data.headlines", '["Area Man Declares War On Tuesday"]']
    return f"{program()} {shlex.join(['predict', *flags, '--ckpt_path', str(checkpoint), *headlines])}"
