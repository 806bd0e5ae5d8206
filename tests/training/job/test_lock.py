"""One run at a time in a folder."""

import fcntl
import json
import os
import signal
import socket
import subprocess
import sys

import pytest

from onion_lightning.errors import OnionError
from onion_lightning.training.job.lock import lock_folder

HOLD = """
import multiprocessing, sys, time
from pathlib import Path
from onion_lightning.training.job.lock import lock_folder
lock = lock_folder(Path(sys.argv[1]))
worker = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,))  # as of a data loader
worker.start()
print(f"locked {worker.pid}", flush=True)
time.sleep(60)
"""


def test_another_process_is_refused_with_host_and_process_until_the_first_is_killed_though_its_worker_lives(tmp_path):
    other = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    worker = None
    try:
        said, worker = other.stdout.readline().split()
        assert said == "locked"
        with pytest.raises(OnionError) as refused:
            lock_folder(tmp_path)
        start = f"--checkpoint.dirpath {tmp_path}: another run is using this folder (process {other.pid} on"
        assert str(refused.value).startswith(f"{start} {socket.gethostname()}, started 2")
    finally:
        other.kill()
        other.wait()
        other.stdout.close()
    try:
        lock_folder(tmp_path).close()
    finally:
        os.kill(int(worker), signal.SIGKILL)


def test_a_lock_that_was_closed_can_be_taken_again(tmp_path):
    lock_folder(tmp_path).close()
    with lock_folder(tmp_path):
        assert json.loads((tmp_path / ".lock").read_text())["process"] == os.getpid()
        with pytest.raises(OnionError, match="another run is using this folder"):
            lock_folder(tmp_path)


def test_a_run_that_has_not_written_its_name_yet_is_described_as_new(tmp_path):
    with (tmp_path / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(OnionError, match="which has just started"):
            lock_folder(tmp_path)


def test_a_file_system_without_locks_is_reported_and_used(tmp_path, monkeypatch, capsys):
    def refuse(*args):
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", refuse)  # this machine has no such file system
    assert lock_folder(tmp_path) is None
    assert "its file system has no locks; do not start a second run there" in capsys.readouterr().err
