"""The real parser. Building it takes a second, so it is built once."""

from collections.abc import Callable
from typing import Any

import pytest


@pytest.fixture(scope="session")
def unparsed() -> Any:
    """Return an `OnionCLI` that has its parsers and has not parsed a command line."""
    from onion_lightning.cli.onion_cli import OnionCLI
    from onion_lightning.cli.signals import StopSignals

    class Found(Exception):
        """Carries the command line out of its constructor."""

    class Stop(OnionCLI):
        def parse_arguments(self, parser, args):
            raise Found(self)

    with StopSignals() as signals, pytest.raises(Found) as found:
        Stop(["--help"], signals)  # builds the parsers of all commands
    return found.value.args[0]


@pytest.fixture(scope="session")
def fit_flags(unparsed: Any) -> list[str]:
    """Return the names of the flags of `fit`, without dashes."""
    from onion_lightning.cli.parsing.parser import flag_names

    return flag_names(unparsed._subcommand_parsers["fit"])


@pytest.fixture
def parse(unparsed: Any) -> Callable[..., Any]:
    """Return a function that parses and checks a command line, and returns the command's configuration."""
    from onion_lightning.cli.onion_cli import OnionCLI
    from onion_lightning.cli.parsing.arguments import prepare

    def options(*words: str) -> Any:
        unparsed.args = prepare(words)
        OnionCLI.parse_arguments(unparsed, unparsed.parser, unparsed.args)
        return unparsed.options

    return options


@pytest.fixture
def refused_by_parser(parse: Callable[..., Any]) -> Callable[..., str]:
    """Return a function that parses a command line with an error, and returns the sentence."""
    from onion_lightning.errors import UsageError

    def sentence(command: str, *words: str) -> str:
        with pytest.raises(UsageError) as error:
            parse(command, "--data.path", "sample", *words)
        assert "\n" not in str(error.value)
        return str(error.value)

    return sentence
