"""A model with visible adapters, and a served page."""

import os
import socket
import subprocess
import sys
import time
import urllib.request

import pytest
import torch

from tests.conftest import ROOT, module


@pytest.fixture(scope="module")
def tuned(tiny_base):
    """A module on the tiny model whose adapters change what it writes."""
    made = module(tiny_base, load_in="none").eval()
    for name, parameter in made.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1, generator=torch.Generator().manual_seed(1))
    return made


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Server:
    """The command in a process of its own."""

    def __init__(self, words, port, log):
        self.url = f"http://127.0.0.1:{port}/"
        self.log = log
        environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
        line = [sys.executable, "-m", "onion_lightning", *words, "--port", str(port)]
        with log.open("w") as stream:
            self.process = subprocess.Popen(line, stdout=stream, stderr=stream, cwd=ROOT, env=environment)

    def wait(self, seconds=120):
        until = time.monotonic() + seconds
        while "The page is at" not in self.log.read_text():
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < until, self.log.read_text()
            time.sleep(0.1)
        urllib.request.urlopen(self.url).close()
        return self

    def stop(self):
        if self.process.poll() is None:
            self.process.terminate()
            self.process.wait(20)


@pytest.fixture
def serve(flags, run, tmp_path):
    """Returns a function that trains two steps and serves the checkpoint."""
    started = []

    def command(*words):
        if not (tmp_path / "run" / "last.ckpt").exists():
            run("fit", "--trainer.max_steps", "2", "--samples.count", "0", "--data.max_length", "300")
        line = flags(
            "serve", "--ckpt_path", "last", "--votes", str(tmp_path / "votes.sqlite"), "--data.max_length", "300"
        )
        server = Server(
            [*line, "--model.max_new_tokens", "60", *words], free_port(), tmp_path / f"serve{len(started)}.log"
        )
        started.append(server)
        return server.wait()

    yield command
    for server in started:
        server.stop()
