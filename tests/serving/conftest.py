"""A model with visible adapters, and a served page."""

import os
import socket
import subprocess
import sys
import time
import urllib.request

import pytest
import torch

from onion_lightning.cli.main import main
from tests.conftest import module


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
        environment = os.environ | {"PYTHONUNBUFFERED": "1"}
        line = [sys.executable, "-m", "onion_lightning", *words, "--port", str(port)]
        with log.open("w") as stream:
            self.process = subprocess.Popen(line, stdout=stream, stderr=stream, env=environment)

    def wait(self, seconds=600):
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


@pytest.fixture(scope="module")
def trained(tiny_base, corpus_file, tmp_path_factory):
    """Flags of a run of two steps, with which it can be served."""
    folder = tmp_path_factory.mktemp("trained")
    line = [
        "--model.base_model",
        str(tiny_base),
        "--checkpoint.dirpath",
        str(folder / "run"),
        "--data.path",
        str(corpus_file),
    ]
    line += ["--data.max_length", "300", "--trainer.accelerator", "cpu", "--trainer.precision", "32-true"]
    fit = ["--trainer.devices", "1", "--trainer.max_steps", "2", "--samples.count", "0", "--trainer.logger", "false"]
    assert main(["fit", *line, *fit, "--data.batch_size", "4", "--data.global_batch_size", "8"]) == 0
    return [*line, "--ckpt_path", "last", "--model.max_new_tokens", "60"]


@pytest.fixture(scope="module")
def server(trained, tmp_path_factory):
    """A server for several tests."""
    folder = tmp_path_factory.mktemp("server")
    server = Server(["serve", *trained, "--votes", str(folder / "votes.sqlite")], free_port(), folder / "log")
    yield server.wait()
    server.stop()


@pytest.fixture(scope="module")
def locked(trained, tmp_path_factory):
    """A server behind a login, for several tests."""
    folder = tmp_path_factory.mktemp("locked")
    file = folder / "accounts.txt"
    file.write_text("anna:egg wins\nbert:egg loses\n")
    file.chmod(0o600)
    line = ["serve", *trained, "--votes", str(folder / "votes.sqlite"), "--host", "0.0.0.0", "--auth_file", str(file)]
    server = Server(line, free_port(), folder / "log")
    yield server.wait()
    server.stop()


@pytest.fixture
def serve(trained, tmp_path):
    """Returns a function that starts a server for one test."""
    started = []

    def command(*words):
        line = ["serve", *trained, "--votes", str(tmp_path / "votes.sqlite"), *words]
        server = Server(line, free_port(), tmp_path / f"serve{len(started)}.log")
        started.append(server)
        return server.wait()

    yield command
    for server in started:
        server.stop()
