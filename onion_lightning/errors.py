"""Errors that are reported to the user in one sentence, and the exception that a signal raises."""

__all__ = [
    "Interrupted",
    "NoGradientError",
    "NoSuchLayersError",
    "NonFiniteError",
    "OnionError",
    "RankError",
    "UsageError",
    "check_range",
    "reason",
    "sentence",
    "shorten",
]


class OnionError(Exception):
    """Bad input. The message is one sentence that names the flag, the value received and the remedy.

    The command prints it on stderr, without a traceback, and exits with status 1.
    """


class UsageError(OnionError):
    """A command line that cannot be parsed or contradicts itself. The command exits with status 2."""


class RankError(OnionError):
    """What one rank alone can report, and prints: its own error in the middle of a run, or the loss of another rank."""


class NoSuchLayersError(OnionError):
    """A base model has none of the layers that adapters were asked for."""


class NoGradientError(OnionError):
    """An adapter has no gradient, or all gradients are zero: the step would train nothing. It changes nothing."""


class NonFiniteError(OnionError):
    """A loss, a gradient or logits are not finite. In training, the step changes nothing and no checkpoint is written."""


class Interrupted(BaseException):
    """SIGINT or SIGTERM was received. Not an `Exception`, so that no handler between the signal and the command catches it.

    Args:
        signum: the signal; the command exits with status 128 + signum.
    """

    def __init__(self, signum: int) -> None:
        super().__init__(f"stopped by signal {signum}")
        self.signum = signum


def check_range(flag: str, value: object, good: bool, accepted: str) -> None:
    """Raise an error for a value that is out of range.

    Args:
        flag: the full flag, such as `--model.lora_rank`.
        value: the value that was given.
        good: whether the value is in range.
        accepted: the range in words, such as "at least 1".

    Raises:
        OnionError: `good` is false.
    """
    if not good:
        raise OnionError(f"{flag} {value}: must be {accepted}.")


def sentence(error: Exception) -> str:
    """Return a library's error about the configuration as one line."""
    return " ".join(str(error).split())


def reason(error: Exception) -> str:
    """Return why a file cannot be read or written, in the operating system's words if there are any."""
    return getattr(error, "strerror", None) or str(error).rstrip(".")


def shorten(error: Exception, length: int = 160) -> str:
    """Return the beginning of a library's message, on one line."""
    return " ".join(str(error).split())[:length]
