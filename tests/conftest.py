"""Fixtures and helpers: a tiny Llama with a tiny SentencePiece tokenizer, saved as a directory, and a small corpus.

The tests run production code on them (`from_pretrained`, bitsandbytes, whole commands) and mock none of this project's code.
"""

from tests.environment import ROOT as ROOT
from tests.environment import isolate

FOLDER = isolate()

import contextlib
import csv
import gc
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch

from tests.tiny import sample_rows, save_tiny_base
from tests.warm import READ_LATE, run_warm

if TYPE_CHECKING:  # the package is imported inside the tests, where warnings are errors
    from onion_lightning.data.collate import Batch
    from onion_lightning.model.module import OnionModule


torch.set_num_threads(1)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Give each worker neighboring tests, which share what they set up; one that is done takes tests from another."""
    from xdist.scheduler import WorkStealingScheduling

    return WorkStealingScheduling(config, log) if config.getvalue("dist") == "load" else None  # the default


def pytest_collection() -> None:
    gc.disable()  # see onion_lightning/__main__.py


def pytest_collection_finish() -> None:
    gc.enable()


@pytest.fixture(scope="session", autouse=True)
def _working_directory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Run the tests in an empty folder."""
    folder = tmp_path_factory.mktemp("working-directory")
    with contextlib.chdir(folder):
        yield folder


@pytest.fixture(autouse=True)
def _in_the_working_directory(_working_directory: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Assert that a test leaves nothing there, and remove it: it would change the next one."""
    monkeypatch.chdir(_working_directory)
    yield
    left = sorted(path.name for path in _working_directory.iterdir())
    for name in left:
        path = _working_directory / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert left == []


@pytest.fixture(scope="session", autouse=True)
def _remember_flags() -> Iterator[None]:
    """Build the parsers of all commands once: each error of a parser does so, which takes a second, to suggest flags."""
    from onion_lightning.cli.onion_cli import OnionCLI

    known: dict[Any, dict[str, list[str]]] = {}
    build = OnionCLI.all_flags

    def remember(cli: OnionCLI) -> dict[str, list[str]]:
        classes = (cli.model_class, cli.datamodule_class)
        if classes not in known:
            known[classes] = build(cli)
        return known[classes]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(OnionCLI, "all_flags", remember)
        yield


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny_llama")
    save_tiny_base(folder)
    return folder


@pytest.fixture(scope="session")
def corpus_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a CSV file of 43 short articles whose lengths vary widely."""
    file = tmp_path_factory.mktemp("corpus") / "corpus.csv"
    with file.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["Title", "Content"])
        for number, row in enumerate(sample_rows()[:43]):
            writer.writerow([row["Title"], " ".join(row["Content"].split()[: 20 + number * 7 % 45])])
    return file


Flags = Callable[..., list[str]]


@pytest.fixture
def flags(tiny_base: Path, corpus_file: Path, tmp_path: Path) -> Flags:
    """Return a function that builds a command line for the tiny model: `flags("fit", "--trainer.max_steps", "3")`."""

    def build(command: str, *more: str) -> list[str]:
        return [*command_line(command, tiny_base, corpus_file, tmp_path), *more]

    return build


def command_line(command: str, base: Path, corpus: Path, folder: Path) -> list[str]:
    """Return a command on a base model and a corpus; `folder` gets the run or the articles."""
    line = [command, "--model.base_model", str(base), "--checkpoint.dirpath", str(folder / "run")]
    line += ["--data.path", str(corpus), "--data.val_fraction", "0.2", "--data.test_fraction", "0.15"]
    line += ["--data.batch_size", "4", "--data.global_batch_size", "8", "--data.max_length", "200"]
    line += ["--samples.max_new_tokens", "5", "--model.max_new_tokens", "12", "--model.learning_rate", "0.01"]
    if command not in ("export", "preview"):  # they load no model
        line += ["--trainer.accelerator", "cpu", "--trainer.precision", "32-true"]  # on every CPU
    line += ["--trainer.enable_progress_bar", "false", "--trainer.logger", "false"]
    if command not in ("attend", "export", "plan", "preview", "serve", "verify"):  # they run without a Trainer
        line += ["--trainer.devices", "1", "--trainer.max_epochs", "2", "--trainer.num_sanity_val_steps", "0"]
        line += ["--trainer.log_every_n_steps", "1"]
    if command == "predict":
        line += ["--articles.path", str(folder / "articles.jsonl")]
    return line


@pytest.fixture
def run(flags: Flags) -> Callable[..., None]:
    """Return a function that runs a command on the tiny model in this process and asserts that it succeeds."""
    from onion_lightning.cli.main import main

    def command(*words: str) -> None:
        assert main(flags(*words)) == 0

    return command


@pytest.fixture
def refused(flags: Flags, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Return a function that runs a command, asserts that it fails with one sentence, and returns that sentence."""
    from onion_lightning.cli.main import main

    def command(*words: str) -> str:
        capsys.readouterr()
        assert main(flags(*words)) in (1, 2)
        error = capsys.readouterr().err
        lines = [line for line in error.splitlines() if line.strip()]
        assert "Traceback" not in error
        assert lines[-1].startswith("error: "), error
        assert sum(line.startswith("error: ") for line in lines) == 1
        return lines[-1]

    return command


@pytest.fixture
def shell(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Return a function that runs a command in a separate process."""

    def command(words: list[str], **more: str) -> subprocess.CompletedProcess[str]:
        # W&B of this process would serve the other one, too
        environment = {name: value for name, value in os.environ.items() if name != "WANDB_SERVICE"} | more
        if READ_LATE.issuperset(more):
            return run_warm(words, environment, tmp_path_factory.mktemp("streams"))
        return subprocess.run(
            [sys.executable, "-m", "onion_lightning", *words],
            capture_output=True,
            encoding="utf-8",
            timeout=240,
            env=environment,
            check=False,
        )

    return command


def module(tiny_base: Path, precision: str = "32-true", **more: Any) -> "OnionModule":
    """Return an `OnionModule` on the tiny model, with its weights loaded on the CPU."""
    from onion_lightning.model.module import OnionModule

    made = OnionModule(**({"base_model": str(tiny_base), "seed": 1, "lora_dropout": 0.0} | more))
    made.load_base(torch.device("cpu"), precision)
    return made


SHORT, LONG = "An egg wins again.", "A very much longer article about nothing at all, officials said."


def batch(made: "OnionModule", articles: Sequence[str] = (SHORT, LONG)) -> "Batch":
    """Return a micro-batch of articles, all with the same headline."""
    from onion_lightning.data.collate import collate
    from onion_lightning.data.prompt import encode_examples
    from onion_lightning.data.sampler import MicroBatch

    rows = encode_examples(made.tokenizer, ["Egg Wins"] * len(articles), list(articles), 200, "cut")
    supervised = sum(len(row.input_ids) - row.prompt_length for row in rows)
    ids = [row.input_ids for row in rows]
    micro = MicroBatch(tuple(range(len(rows))), supervised, sum(map(len, ids)), 0)
    return collate(ids, [row.prompt_length for row in rows], micro)


LAUNCHER_VARIABLES = ["RANK", "LOCAL_RANK", "NODE_RANK", "TORCHELASTIC_RUN_ID", "LOCAL_WORLD_SIZE", "GROUP_WORLD_SIZE"]
LAUNCHER_VARIABLES += ["SLURM_PROCID", "SLURM_NTASKS", "SLURM_NTASKS_PER_NODE", "SLURM_NNODES", "SLURM_JOB_NAME"]
LAUNCHER_VARIABLES += ["SLURM_STEP_ID", "SLURM_JOB_ID", "SLURM_LOCALID", "SLURM_RESTART_COUNT"]


@pytest.fixture
def environment(monkeypatch):
    """Returns a function that sets the launcher's environment variables and removes all others."""

    def replace(variables):
        for name in LAUNCHER_VARIABLES:
            monkeypatch.delenv(name, raising=False)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    return replace


def adapters(checkpoint: Path) -> dict[str, torch.Tensor]:
    """Return the adapter weights in a checkpoint."""
    return dict(torch.load(checkpoint, weights_only=True)["state_dict"])


def records(file: Path) -> list[dict]:
    """Return the records of an articles file."""
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def curve(folder: Path, name: str = "train/loss") -> dict[int, float]:
    """Return a column of metrics.csv in a run's folder, by step."""
    with (folder / "metrics.csv").open(newline="") as stream:
        return {int(row["step"]): float(row[name]) for row in csv.DictReader(stream) if row.get(name)}


def metrics_lines(folder: Path) -> list[str]:
    """Return the lines of metrics.csv in a run's folder."""
    return (folder / "metrics.csv").read_text().splitlines()


def ranks(count: int) -> tuple[str, ...]:
    """Return the flags for DDP with this number of processes."""
    return ("--trainer.devices", str(count), "--trainer.strategy", "ddp")
