"""Runs commands in processes of their own that are forked from a server which has imported the libraries once.

Importing them takes several seconds of a core, and the ranks of a command import them again. A test that kills processes, or
sets variables that libraries read when they are imported, starts `python -m onion_lightning` itself.
"""

import atexit
import io
import itertools
import multiprocessing
import os
import pickle
import runpy
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Sequence
from multiprocessing.context import ForkServerProcess
from multiprocessing.reduction import DupFd
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

from lightning.pytorch.strategies.launchers import subprocess_script

READ_LATE = {"COLUMNS", "PYTHONIOENCODING", "TMPDIR"}  # variables that nothing reads when it is imported
IMPORTED = [
    "tests.conftest",
    "onion_lightning.cli.main",
    "onion_lightning.data.module",
    "onion_lightning.model.module",
    "onion_lightning.planning.start_line",
    "bitsandbytes",
    "datasets",
    "peft",
    "tests.warm",
    "transformers.models.llama.modeling_llama",
]


class Stream:
    """A file that is open here, for a process that is started."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    def __reduce__(self) -> tuple[Any, ...]:
        return received, (DupFd(self.descriptor),)


def received(descriptor: Any) -> Stream:
    return Stream(descriptor.detach())


def start_command(words: Sequence[str], environment: dict[str, str], output: int, errors: int) -> ForkServerProcess:
    """Start `python -m onion_lightning` with these words, which writes into two files that are open here."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(IMPORTED)
    streams = (Stream(output), Stream(errors))
    process = context.Process(target=run_command, args=(list(words), environment, os.getcwd(), *streams))
    process.start()
    return process


def run_warm(words: Sequence[str], environment: dict[str, str], folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, at most four minutes; its streams are files in a folder."""
    files = [folder / "stdout", folder / "stderr"]
    with files[0].open("w") as output, files[1].open("w") as errors:
        process = start_command(words, environment, output.fileno(), errors.fileno())
    process.join(240)
    found = [file.read_text(environment.get("PYTHONIOENCODING", "utf-8")) for file in files]
    if process.exitcode is None:
        process.kill()
        raise TimeoutError(found[1])
    return subprocess.CompletedProcess(list(words), process.exitcode, *found)


def run_command(words: list[str], environment: dict[str, str], folder: str, output: Stream, errors: Stream) -> NoReturn:
    os.dup2(output.descriptor, 1)
    os.dup2(errors.descriptor, 2)
    encoding = environment.get("PYTHONIOENCODING", "utf-8")
    sys.stdout = io.TextIOWrapper(os.fdopen(1, "wb", closefd=False), encoding)
    sys.stderr = io.TextIOWrapper(os.fdopen(2, "wb", closefd=False), encoding, "backslashreplace", line_buffering=True)
    for stream in (output, errors):
        os.close(stream.descriptor)
    os.chdir(folder)
    devices = [after for word, after in itertools.pairwise(words) if word == "--trainer.devices"]
    spares = [Spare() for _ in range(1, int(devices[-1]) if devices and devices[-1].isdigit() else 1)]
    subprocess_script.subprocess = SimpleNamespace(Popen=lambda command, env, **_: spares.pop().start(command, env))
    run_module(words, environment)


def run_module(words: list[str], environment: dict[str, str]) -> NoReturn:
    """Do what `python -m onion_lightning` does, to the end of the process."""
    os.environ.clear()
    os.environ |= environment
    sys.argv = ["onion_lightning", *words]
    status: Any = 0
    try:
        runpy.run_module("onion_lightning", run_name="__main__", alter_sys=True)
    except SystemExit as end:
        status = end.code
    except Exception:  # noqa: BLE001 # as the interpreter does
        traceback.print_exc()
        status = 1
    threading._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(int(status or 0))


class Spare:
    """A process that waits until Lightning starts a rank, and then is that rank: a child of rank 0, as always."""

    def __init__(self) -> None:
        reading, self.writing = os.pipe()
        self.returncode: int | None = None
        self.pid = os.fork()
        if self.pid == 0:
            os.close(self.writing)
            with os.fdopen(reading, "rb") as stream:
                try:
                    words, environment = pickle.load(stream)
                except EOFError:  # rank 0 has ended without ranks
                    os._exit(0)
            run_module(words, environment)
        os.close(reading)

    def start(self, command: Sequence[str], environment: dict[str, str]) -> "Spare":
        assert command[:3] == [sys.executable, "-m", "onion_lightning.__main__"], command
        with os.fdopen(self.writing, "wb") as stream:
            pickle.dump((list(command[3:]), dict(environment)), stream)
        return self

    def poll(self) -> int | None:
        if self.returncode is None:
            ended, status = os.waitpid(self.pid, os.WNOHANG)
            self.returncode = os.waitstatus_to_exitcode(status) if ended else None
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)
