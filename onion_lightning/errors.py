"""What can go wrong on the user's side, and how a run is asked to stop."""

__all__ = ["Interrupted", "OnionError"]


class OnionError(Exception):
    """Bad input. The message is one sentence that names the flag, the value received and the remedy.

    The command prints it on stderr, without a traceback, and exits with status 1.
    """


class Interrupted(BaseException):
    """SIGINT or SIGTERM arrived. Not an ``Exception``: nothing between the handler and the command may swallow it.

    Args:
        signum: the signal; the command exits with status 128 + signum.
    """

    def __init__(self, signum: int) -> None:
        super().__init__(f"stopped by signal {signum}")
        self.signum = signum
