"""What can go wrong on the user's side, and how a run is asked to stop."""

import re

__all__ = ["Interrupted", "NonFiniteError", "OnionError", "check_range", "reason", "sentence"]


class OnionError(Exception):
    """Bad input. The message is one sentence that names the flag, the value received and the remedy.

    The command prints it on stderr, without a traceback, and exits with status 1.
    """


class NonFiniteError(OnionError):
    """The loss or the gradient is not finite. The step changes nothing and no checkpoint is written."""


class Interrupted(BaseException):
    """SIGINT or SIGTERM arrived. Not an ``Exception``: nothing between the handler and the command may swallow it.

    Args:
        signum: the signal; the command exits with status 128 + signum.
    """

    def __init__(self, signum: int) -> None:
        super().__init__(f"stopped by signal {signum}")
        self.signum = signum


def check_range(flag: str, value: object, good: bool, accepted: str) -> None:
    """Refuse a value that is out of range.

    Args:
        flag: the full flag, such as `--model.lora_rank`.
        value: what was given.
        good: whether it is in range.
        accepted: the range in words, such as "at least 1".

    Raises:
        OnionError: it is not.
    """
    if not good:
        raise OnionError(f"{flag} {value}: must be {accepted}.")


def sentence(error: Exception) -> str:
    """A library's error about the configuration as one line, without its usage dump."""
    text = str(error)
    text = re.sub(r"(?s)\n\s*(For details of accepted options|Subtypes|Given value type).*", "", text)
    return " ".join(text.split())


def reason(error: Exception) -> str:
    """Why a file cannot be read or written: the system's words where there are some."""
    return getattr(error, "strerror", None) or str(error).rstrip(".")
