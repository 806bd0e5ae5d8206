"""A Weights & Biases logger that a run does not depend on, and the check whether W&B can be reached."""

import logging
import netrc
import os
import socket
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any
from urllib.parse import urlparse
from urllib.request import getproxies, proxy_bypass

from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.loggers.logger import DummyExperiment, rank_zero_experiment
from lightning.pytorch.utilities.rank_zero import rank_zero_only

from onion_lightning.errors import shorten
from onion_lightning.private_api import drop_anonymous

__all__ = ["CarefulWandbLogger", "why_offline"]

log = logging.getLogger(__name__)


class CarefulWandbLogger(WandbLogger):
    """A WandbLogger that a run does not depend on: its first error is logged as a warning, and the run continues."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.lost = False
        drop_anonymous(self)

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        if not self.lost:
            try:
                return super().experiment
            except Exception as error:  # noqa: BLE001 - wandb raises its own, sockets' and the file system's
                self.give_up(error)
        return DummyExperiment()

    def give_up(self, error: Exception) -> None:
        self.lost = True
        message = shorten(error)
        log.warning("W&B failed (%s: %s); the run continues without it.", type(error).__name__, message)

    def attempt(self, function: Callable[..., None], *args: Any, **kwargs: Any) -> None:
        if self.lost:
            return
        try:
            function(*args, **kwargs)
        except Exception as error:  # noqa: BLE001 - as above
            self.give_up(error)

    @rank_zero_only
    def log_metrics(self, *args: Any, **kwargs: Any) -> None:
        self.attempt(super().log_metrics, *args, **kwargs)

    @rank_zero_only
    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        self.attempt(super().log_hyperparams, *args, **kwargs)

    @rank_zero_only
    def log_table(self, *args: Any, **kwargs: Any) -> None:
        self.attempt(super().log_table, *args, **kwargs)

    @rank_zero_only
    def log_summary(self, figures: dict[str, float]) -> None:
        """Set values in the run's summary."""
        self.attempt(self.update_summary, figures)

    def update_summary(self, figures: dict[str, float]) -> None:
        run = self.experiment
        if not self.lost:
            run.summary.update(figures)

    @rank_zero_only
    def log_media(self, media: dict[str, Any]) -> None:
        """Log HTML pages and images."""
        self.attempt(lambda: self.experiment.log(media))

    @rank_zero_only
    def log_files(self, name: str, folder: Path, files: Iterable[str]) -> None:
        """Log those of the files that exist in a folder as one artifact of the type `model`."""
        self.attempt(self.upload_files, name, folder, files)

    def upload_files(self, name: str, folder: Path, files: Iterable[str]) -> None:
        import wandb  # late, as below

        artifact = wandb.Artifact(name, type="model")
        for file in files:
            if (folder / file).is_file():
                artifact.add_file(str(folder / file), name=file)
        self.experiment.log_artifact(artifact)

    def finish(self) -> None:
        """End the W&B run of this process."""
        import wandb  # late: it takes half a second to import, and a run without W&B does without it

        self.attempt(wandb.finish)

    @rank_zero_only
    def finalize(self, status: str) -> None:
        self.attempt(super().finalize, status)


def why_offline(seconds: float = 10.0) -> str | None:
    """Check whether W&B can be reached. Its own attempt would take 100 seconds.

    Args:
        seconds: time limit.

    Returns:
        None if it can, otherwise the reason for working offline.
    """
    if os.environ.get("WANDB_MODE"):
        return None  # the user's choice
    url = urlparse(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai"))
    host = url.hostname or ""
    if not has_key(host):
        return "no API key (`wandb login`, or WANDB_API_KEY)"
    if getproxies().get(url.scheme) and not proxy_bypass(host):
        return None  # only the proxy can reach it
    if not answers(host, url.port or (80 if url.scheme == "http" else 443), seconds):
        return f"{host} does not respond"
    return None


def has_key(host: str) -> bool:
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    try:
        return netrc.netrc(os.environ.get("NETRC")).authenticators(host) is not None
    except (FileNotFoundError, netrc.NetrcParseError):
        return False


def answers(host: str, port: int, seconds: float) -> bool:
    """Return whether a connection opens in time. A thread is used because a DNS lookup has no time limit."""
    reached: list[bool] = []

    def connect() -> None:
        try:
            socket.create_connection((host, port), timeout=seconds).close()
            reached.append(True)
        except OSError:
            pass

    thread = threading.Thread(target=connect, daemon=True)
    thread.start()
    thread.join(seconds)
    return bool(reached)
