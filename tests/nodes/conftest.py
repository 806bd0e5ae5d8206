"""Fixtures of the tests with several machines: a SLURM cluster, two machines, their command lines, an uninterrupted run."""

import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT, command_line, curve, ranks
from tests.nodes.machines import Machine, Machines
from tests.nodes.slurm import MISSING, Slurm
from tests.test_fault import assert_same_end

Words = Callable[..., list[str]]

EPOCHS = ("--trainer.max_epochs", "4")  # 20 optimizer steps


@pytest.fixture(scope="session")
def cluster() -> Iterator[Slurm]:
    """A SLURM cluster for the whole session."""
    if MISSING or os.geteuid() != 0:
        reason = f"needs root, and slurm-wlm and munge (missing: {', '.join(MISSING) or 'root'})"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    with tempfile.TemporaryDirectory(prefix="onion-slurm-") as folder:  # a short path: sockets are in it
        made = Slurm(Path(folder))
        try:
            made.start()
            yield made
        finally:
            made.stop()


@pytest.fixture
def slurm(cluster: Slurm) -> Iterator[Slurm]:
    """The cluster, without jobs after the test."""
    yield cluster
    cluster.clear()


@pytest.fixture
def machines(tmp_path: Path) -> Iterator[Machines]:
    """Two machines with folders of their own."""
    made = Machines(tmp_path)
    try:
        yield made
    finally:
        made.stop()


@pytest.fixture
def words(tiny_base: Path, corpus_file: Path, tmp_path: Path) -> Words:
    """Return a function that builds a command line whose number of ranks follows from the launcher.

    `words("fit", "--seed_everything", "1")` is for a shared folder, `words("fit", machine=one)` for a machine's own.
    """

    def build(command: str, *more: str, machine: Machine | None = None) -> list[str]:
        return launched(command_line(command, tiny_base, corpus_file, machine.folder if machine else tmp_path), *more)

    return build


def launched(line: list[str], *more: str) -> list[str]:
    """Return a command line without the number of devices, and without samples."""
    at = line.index("--trainer.devices")
    return [*line[:at], *line[at + 2 :], "--trainer.strategy", "ddp", "--samples.count", "0", *more]


@pytest.fixture
def slow(tmp_path: Path) -> Path:
    """Return a file; `in_slow_steps(slow)` makes steps slow until it is removed."""
    file = tmp_path / "slow"
    file.touch()
    return file


def in_slow_steps(file: Path, seconds: float = 2, after: int = 4) -> tuple[str, ...]:
    """Return the flags for steps that take some seconds longer while a file exists, after the first few."""
    callback = ("--trainer.callbacks+=tests.stopper.SlowWhile", f"--trainer.callbacks.file={file}")
    return (*callback, f"--trainer.callbacks.seconds={seconds}", f"--trainer.callbacks.after={after}")


@pytest.fixture(scope="session")
def train(tiny_base: Path, corpus_file: Path) -> Callable[..., None]:
    """Return a function that runs `fit` in a folder with two ranks, on this machine alone."""

    def command(folder: Path, *more: str, status: int = 0) -> None:
        line = launched(command_line("fit", tiny_base, corpus_file, folder), *EPOCHS, *ranks(2), *more)
        environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
        words = [sys.executable, "-m", "onion_lightning", *line]
        done = subprocess.run(
            words, cwd=folder, env=environment, capture_output=True, text=True, timeout=200, check=False
        )
        assert done.returncode == status, done.stderr

    return command


@pytest.fixture(scope="session")
def whole(train: Callable[..., None], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a run of two ranks and `EPOCHS` that nothing interrupts."""
    folder = tmp_path_factory.mktemp("whole")
    train(folder)
    return folder / "run"


def shell_line(words: list[str]) -> str:
    """Return a command of this project as a line of a batch script."""
    return shlex.join([sys.executable, "-m", "onion_lightning", *words])


def sentence(printed: str) -> str:
    """Assert that a command's output has no traceback and exactly one error, and return that sentence."""
    assert "Traceback" not in printed, printed
    errors = [line for line in printed.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, printed
    return errors[0]


def assert_same(one: Path, other: Path) -> None:
    """Assert that two runs ended with the same adapters bit for bit, and have the same curve."""
    assert_same_end(one, other)
    assert curve(one) == curve(other)
