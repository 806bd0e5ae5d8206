"""The configs that are part of the package, by name: `--config cpu` is `configs/cpu.yaml`, from any directory."""

import re
from difflib import get_close_matches
from pathlib import Path

import onion_lightning
from onion_lightning.errors import UsageError

__all__ = ["config_file", "config_name", "config_names", "no_such_config"]


def folder() -> Path:
    """Return the folder of the configs: inside an installed package, beside it in a checkout."""
    package = Path(onion_lightning.__file__).resolve().parent
    inside = package / "configs"
    return inside if inside.is_dir() else package.parent / "configs"


def config_names() -> list[str]:
    """Return the names of the configs."""
    return sorted(file.stem for file in folder().glob("*.yaml"))


def config_file(value: str) -> str:
    """Return the YAML file that a value of `--config` stands for. A file of the user with the same name is preferred.

    Raises:
        UsageError: the value has the form of a name, but there is neither such a file nor such a config.
    """
    if not re.fullmatch(r"\w[\w-]*", value) or Path(value).is_file():
        return value  # the parser reports a file that does not exist
    if value not in config_names():
        raise UsageError(no_such_config(value))
    return str(folder() / f"{value}.yaml")


def config_name(value: str) -> str:
    """Return the name of a file that `config_file` found; any other value as it is."""
    return Path(value).stem if Path(value).parent == folder() else value


def no_such_config(value: str) -> str:
    """Return a sentence about a value of `--config` that stands for no file."""
    nearest = get_close_matches(Path(value).stem, config_names(), n=1)
    remedy = f"did you mean --config {nearest[0]}?" if nearest else "give one of these names, or a YAML file."
    return f"--config {value}: is neither a file nor a config of this package ({', '.join(config_names())}); {remedy}"
