"""Checks a parsed command line, before anything is built."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from jsonargparse import Namespace

from onion_lightning.cli.parsing.parser import program
from onion_lightning.errors import UsageError

__all__ = ["check_command", "check_decoding", "check_options"]

SECTIONS = ("trainer", "model", "data", "checkpoint", "samples", "articles")
WITHOUT_COMMAND = ("-h", "--help", "--version", "-c", "--config", "--print_config")
LARGEST_SEED = 2**32 - 1  # NumPy's


def check_command(args: Sequence[str], commands: Collection[str]) -> None:
    """Check that a command line begins with a command.

    Raises:
        UsageError: it does not.
    """
    first = args[0] if args else ""
    if not first:
        raise UsageError(
            f"no command; type {program()} and one of {', '.join(commands)}, for example {program()} fit --config cpu;"
            f" {program()} --help describes them."
        )
    if first.startswith("-") and first.split("=")[0] not in WITHOUT_COMMAND:
        raise UsageError(f"{first}: the command comes first; type {program()} COMMAND {first} ...")


def check_options(command: str, options: Mapping[str, Any], given: set[str]) -> None:
    """Check flags that are not checked where they are used.

    Args:
        command: the command.
        options: its configuration.
        given: dotted names of the options that were given, by flag or YAML.

    Raises:
        UsageError: a value is missing, empty, out of range, or has no effect.
    """
    if command == "fit" and not given & {"data", "data.path", "data.pairs", "config"}:
        raise UsageError(
            f"fit: --data.path is missing; type {program()} fit --config cpu to try it without a GPU, or give --data.path"
            " FILE."
        )
    check_sections(options)
    check_empty(options)
    seconds, seed = options["collective_timeout"], options["seed_everything"]
    if not seconds > 0:  # also not NaN
        raise UsageError(f"--collective_timeout {seconds:g}: must be a number of seconds above 0.")
    if not isinstance(seed, bool) and not 0 <= seed <= LARGEST_SEED:
        raise UsageError(f"--seed_everything {seed}: must be between 0 and {LARGEST_SEED}.")


def check_sections(options: Mapping[str, Any]) -> None:
    for name in SECTIONS:
        if not isinstance(options[name], Namespace):
            raise UsageError(
                f"--{name} {options[name]}: must be a YAML file or a section with a line for each setting."
            )


def check_empty(options: Mapping[str, Any]) -> None:
    """Refuse empty strings: an empty path would mean the current folder, and an empty name nothing at all."""
    values = {
        name: options.get(name)
        for name in ("ckpt_path", "output", "push", "text_file", "host", "auth_file", "votes", "export_votes")
    }
    for section in SECTIONS:
        values |= {f"{section}.{name}": value for name, value in vars(options[section]).items()}
    for name, value in values.items():
        if isinstance(value, str) and not value.strip():
            raise UsageError(f"--{name} '': is empty; give a value, or omit the flag.")


def check_decoding(command: str, model: Mapping[str, Any], typed: Collection[str]) -> None:
    """Refuse decoding flags where they have no effect; `--model.top_p` and `--model.best_of` only if they were typed.

    Raises:
        UsageError: `--model.top_p` with a temperature of 0, `--model.adapter_strength` in another command, or
            `--model.best_of` in `evaluate`.
    """
    strength = model["adapter_strength"]
    if strength != 1 and command not in ("predict", "serve"):
        raise UsageError(
            f"--model.adapter_strength {strength:g}: is for predict and serve, and {command} uses the adapters as they"
            " are; omit it."
        )
    if "model.best_of" in typed and command == "evaluate":
        raise UsageError(
            f"--model.best_of {model['best_of']}: is for predict; give --best_of {model['best_of']} to compare the best of as"
            " many articles with the other systems."
        )
    if "model.top_p" in typed and model["temperature"] == 0 and command != "serve":  # the page has a slider for both
        raise UsageError(
            f"--model.top_p {model['top_p']:g}: has no effect with --model.temperature 0 (greedy); omit one of them."
        )
