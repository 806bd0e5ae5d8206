"""Rewrites errors of jsonargparse and Lightning as one sentence: flag, value received, what is accepted, remedy.

Both raise a few exception classes whose text alone says what is wrong, so the text is parsed. Text that is not recognized is
shortened to its first line, after the name of the flag.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from onion_lightning.cli.parsing.arguments import CONFIG_FLAGS, config_files, flat_keys, given_value, given_values
from onion_lightning.cli.parsing.packaged_configs import no_such_config
from onion_lightning.cli.parsing.suggestions import suggest_command, suggest_flag
from onion_lightning.errors import OnionError, UsageError, shorten

__all__ = ["explain_building", "explain_parsing", "explain_run", "explain_trainer"]

TYPES = {
    "<class 'int'>": "a whole number",
    "<class 'float'>": "a number",
    "<class 'bool'>": "true or false",
    "<class 'str'>": "text",
    "<class 'list'>": 'a list such as ["one", "two"]',
    "<class 'dict'>": "a mapping",
    "<class 'NoneType'>": "null",
}
# What is accepted, where a list of the types would be wrong or too long.
ACCEPTED = {
    "data.path": 'a file, a folder or an ID, or a list such as ["one.csv", "two.jsonl"]',
    "data.headlines": 'a headline, or a list such as ["One Headline", "Another"]',
    "seed_everything": "a whole number of at least 0, or true for a random seed",
    "trainer.precision": "16-mixed, bf16-mixed or 32-true",
}
# Flags that accept classes, with an example.
CLASSES = {
    "trainer.callbacks": "callbacks.EarlyStopping",
    "trainer.logger": "loggers.CSVLogger",
    "trainer.plugins": "plugins.MixedPrecision",
}
# What Lightning's Trainer accepts, where its own words are long or name classes.
TRAINER_ACCEPTS = {
    "gradient_clip_algorithm": "must be norm or value",
    "max_time": "must be a duration DD:HH:MM:SS, such as 00:12:00:00 for 12 hours",
    "profiler": "must be simple, advanced or pytorch",
}
# Lines of a jsonargparse error that say only what else would have been accepted.
UNSPECIFIC = re.compile(
    r"Expected a <|Expected a typing|Expected a dot import path|Expected a path but"
    r"|Not a valid subclass|Subclass types expect|a class path \(str\)|a dict with|Does not validate|Subtypes:|Errors:"
)


def explain_parsing(
    error: Exception, args: Sequence[str], flags: Mapping[str, Collection[str]], command: str
) -> UsageError:
    """Return an error of `parse_args` in this project's words.

    Args:
        error: the error.
        args: the command line.
        flags: the flags of each command, without dashes.
        command: the command that was given; empty if there is none.
    """
    text = str(error)
    patterns = (
        (r"invalid choice: '(.*?)'", lambda name: unknown_command(name, flags)),
        (r"unrecognized arguments: (.+)", lambda words: unknown_flag(words, args, flags, command)),
        (r"does not accept option '(.+?)'", lambda key: unknown_key(key, args, flags, command)),
        (
            r"argument (?:-c/)?(--[\w.]+)[\w./+-]*: expected one argument",
            lambda flag: f"{flag}: has no value; give one.",
        ),
        (r"File does not exist: '(.+)'", lambda path: no_such_file(path, args)),
        (r"Problems parsing config|Unexpected config|Unable to load config", lambda: bad_file(text, args)),
        (r"Linked \"(.+?)\" must be given via \"(.+?)\"", lambda key, via: f"--{key}: is set by --{via}; give that."),
        (r"Parser key \"(.+?)\":", lambda key: bad_value(key.removeprefix(f"{command}."), text, args)),
        (r"arguments are required: (.+)", lambda names: missing(names, command)),
    )
    for pattern, explain in patterns:
        if (found := re.search(pattern, text)) and (sentence := explain(*found.groups())):
            return UsageError(sentence)
    return UsageError(
        f"{command}: {first_line(text)}; {command} --help lists the flags." if command else first_line(text)
    )


def unknown_command(name: str, flags: Mapping[str, Collection[str]]) -> str:
    return f"{name}: is not a command; {suggest_command(name, flags)}"


def unknown_flag(words: str, args: Sequence[str], flags: Mapping[str, Collection[str]], command: str) -> str:
    flag = next((word for word in words.split() if word.startswith("-")), None)
    if flag is None:
        return f"{shorten_text(words)}: does not belong to a flag; put quotes around a value that contains spaces."
    name = flag.lstrip("-").rstrip("+")
    value = given_value(args, flag)
    return f"{flag}{f' {value}' if value else ''}: is not a flag of {command}; {remedy(name, flags, command)}"


def unknown_key(key: str, args: Sequence[str], flags: Mapping[str, Collection[str]], command: str) -> str:
    file = file_with(key, args)
    where = f"{key} in {file}" if file else f"--{key}"
    if key.split(".")[0] in flags:
        return f"{where}: the settings of a command are not put under its name; remove the line `{key.split('.')[0]}:`."
    return f"{where}: is not a flag of {command}; {remedy(key, flags, command)}"


def remedy(name: str, flags: Mapping[str, Collection[str]], command: str) -> str:
    if others := [other for other, names in flags.items() if name in names]:
        return f"it is a flag of {' and '.join(others)}."
    suggestion = suggest_flag(name, flags[command]) or f"{command} --help lists the flags"
    return suggestion if suggestion.endswith("?") else f"{suggestion}."


def missing(names: str, command: str) -> str:
    given = [f"--{name.strip().removeprefix(f'{command}.')}" for name in names.split(",")]
    return f"{command}: {' and '.join(given)} {'is' if len(given) == 1 else 'are'} required."


def no_such_file(path: str, args: Sequence[str]) -> str:
    typed = next((file for file in given_values(args, CONFIG_FLAGS) if Path(file).absolute() == Path(path)), path)
    return no_such_config(typed)


def bad_file(text: str, args: Sequence[str]) -> str | None:
    """Explain why a YAML file cannot be used. None if no file is the reason."""
    if "" in given_values(args, CONFIG_FLAGS):
        return "--config '': is empty; give a YAML file, or omit the flag."
    if section := re.search(r"Parser key \"(\w+)\"", text):
        key = section.group(1)
        value = shorten_text(given_value(args, f"--{key}") or "")
        return f"--{key} {value}: is not a YAML file here; give one, or single flags such as those of {key} in --help."
    for file in config_files(args):
        try:
            content = yaml.safe_load(Path(file).read_text(encoding="utf-8"))
        except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
            mark = getattr(error, "problem_mark", None)
            place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
            return f"--config {file}: is not valid YAML ({place}{getattr(error, 'problem', error)}); correct it."
        if not isinstance(content, dict):
            return f"--config {file}: contains no settings; write lines such as `data: {{path: sample}}`."
    return None


def bad_value(key: str, text: str, args: Sequence[str]) -> str:
    where = place(key, text, args)
    if about := about_class(text):
        name, detail = about
        return f"{where.format(value=name)}: {detail}; --{key}.help CLASS describes the arguments of a class."
    where = where.format(value=shorten_text(received(key, text, args)) or "''")
    if key in CLASSES:
        return f"{where}: is not a class; give its import path, such as lightning.pytorch.{CLASSES[key]}."
    return f"{where}: must be {ACCEPTED.get(key) or accepted(text)}."


def place(key: str, text: str, args: Sequence[str]) -> str:
    """Return the flag, with a field for the value, and the YAML file if the value is from one."""
    file, typed = file_with(key, args), given_value(args, f"--{key}")
    from_file = file is not None and (typed is None or typed not in text)
    return f"--{key} {{value}} in {file}" if from_file else f"--{key} {{value}}"


def received(key: str, text: str, args: Sequence[str]) -> str:
    """Return the value that an error is about, as it was typed if possible."""
    typed = given_value(args, f"--{key}")
    if typed is not None and (typed in text or typed == "null"):
        return typed
    found = re.findall(r"(?:Got|Given) value: (.*)", text)
    return found[-1] if found else ""


def accepted(text: str) -> str:
    """Return the types that an error of jsonargparse expects, in words."""
    words: list[str] = []
    for hint in re.findall(r"Expected a (<class '[\w.]+'>|typing\.Literal\[.*?\])", text):
        literal = hint.startswith("typing.Literal")
        words += re.findall(r"[\w.-]+", hint.removeprefix("typing.Literal")) if literal else [TYPES.get(hint, "")]
    words = [word for word in dict.fromkeys(words) if word]
    if "a number" in words:
        words = [word for word in words if word != "a whole number"]
    return f"{', '.join(words[:-1])} or {words[-1]}" if len(words) > 1 else (words or ["something else"])[0]


def about_class(text: str) -> tuple[str, str] | None:
    """Return the class that an error is about and the problem with it. None if it is not about a class."""
    if found := re.search(r"Import path ([\w.]+) does not correspond to a subclass of (\w+)", text):
        return found.group(1).rpartition(".")[2], f"is not a {found.group(2)}"
    if found := re.search(r"( *)(?:- )?Problem with given class_path '([\w.]+)':\n((?:\1 +.*\n?)+)", text):
        return found.group(2).rpartition(".")[2], about_arguments(found.group(3))
    return None


def about_arguments(detail: str) -> str:
    """Return the problem with a class's arguments in words."""
    if found := re.search(r"Option '(\w+)' is not accepted", detail):
        return f"has no argument {found.group(1)}"
    if found := re.search(r"arguments are required: (.+)", detail):
        return f"requires {found.group(1)}"
    if found := re.search(r"Requirement '([^']+)' not met", detail):
        return f"requires a package that is not installed; run pip install '{found.group(1)}'"
    if found := re.search(r"No module named '([\w.]+)'", detail):
        return f"there is no module {found.group(1)}"
    if re.search(r"has no attribute '(\w+)'", detail):
        return "there is no such class"
    if found := re.search(r"Parser key \"(.+?)\"", detail):
        value = re.search(r"(?:Got|Given) value: (.*)", detail)
        return f"its {found.group(1)} {value.group(1) if value else ''} must be {accepted(detail)}"
    return first_line(detail)


def unspecific(line: str) -> bool:
    """Whether a line of an error of jsonargparse says only what else would have been accepted."""
    return not line or UNSPECIFIC.search(line) is not None


def own_words(text: str) -> str:
    """Return what a class itself raised, from the error in which jsonargparse lists all it tried."""
    body = text.split("Errors:", 1)[-1].split("Given value type:")[0]
    lines = [line.strip().removeprefix("- ") for line in body.splitlines()]
    return " ".join(line for line in lines if not unspecific(line)).rstrip(".")


def explain_building(error: Exception, options: Mapping[str, Any]) -> OnionError:
    """Return an error while a configured class is built in this project's words.

    Args:
        error: the error.
        options: the command's configuration.
    """
    text = str(error)
    path = re.search(r"class_path='([\w.]+)'", text)
    keys = [key for key, value in options["trainer"].items() if path and path.group(1) in str(value)]
    about = about_class(text)
    detail = about[1] if about else own_words(text) or first_line(text)
    if path is None or not keys:
        return OnionError(f"--trainer: {detail}.")
    remedy = "" if "pip install" in detail else "; change or omit that argument"
    return OnionError(f"--trainer.{keys[0]} {path.group(1).rpartition('.')[2]}: {detail}{remedy}.")


def explain_trainer(error: Exception, settings: Mapping[str, Any]) -> OnionError:
    """Return an error of Lightning's Trainer about one of its arguments as a sentence that names the flag.

    Args:
        error: the error.
        settings: the Trainer's arguments; may be incomplete.
    """
    text = shorten(error, 400).rstrip(".")
    if found := re.search(r"current_epoch=(\d+),? but .*max_epochs=(-?\d+)", text):
        done, asked = found.groups()
        return OnionError(
            f"--trainer.max_epochs {asked}: the checkpoint has already trained {done} epochs; give a larger number."
        )
    words = re.findall(r"\b[a-z]+(?:_[a-z]+)*\b", text.replace("Timer(duration", "max_time"))
    name = next((word for word in words if word in settings), None)
    if name is None:
        return OnionError(f"--trainer: {text}.")
    value = "" if settings[name] is None else f" {settings[name]}"
    return OnionError(f"--trainer.{name}{value}: {TRAINER_ACCEPTS.get(name) or text}.")


def explain_run(error: Exception) -> OnionError | None:
    """Return an error of one of Lightning's callbacks during a run as a sentence. None if it is another error."""
    if found := re.search(r"Early stopping conditioned on metric `(.+?)` .*any of the following: (.+)", str(error)):
        name, others = found.groups()
        return OnionError(
            f"--trainer.callbacks EarlyStopping: {name} was not computed before the end of the epoch; validate earlier"
            f" (--trainer.val_check_interval), or monitor one of {others.replace('`', '')}."
        )
    return None


def file_with(key: str, args: Sequence[str]) -> str | None:
    """Return the last YAML file of a command line that contains a key."""
    found = None
    for file in config_files(args):
        content = yaml.safe_load(Path(file).read_text(encoding="utf-8"))
        if isinstance(content, dict) and key in flat_keys(content):
            found = file
    return found


def first_line(text: str) -> str:
    return next((line.strip().rstrip(".:") for line in text.splitlines() if line.strip()), "not accepted")


def shorten_text(text: str, length: int = 80) -> str:
    line = " ".join(text.split())
    return line if len(line) <= length else f"{line[:length]}..."
