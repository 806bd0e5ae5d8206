"""Kills real processes: the guarantees of tests/README.md apply at any moment."""

import json
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time

import psutil
import pytest
import torch

from onion_lightning.training.checkpoint_io import AtomicCheckpointIO
from tests.conftest import ROOT, adapters, curve, ranks

pytestmark = pytest.mark.fault

SETTINGS = ("--trainer.max_epochs", "3", "--checkpoint.every_n_train_steps", "1", "--samples.count", "0")


@pytest.fixture
def start(tmp_path):
    """Starts the command in a process group of its own, and kills what remains of it at the end."""
    started = []

    def command(words, launcher=("-m", "onion_lightning"), cwd=None, **more):
        log = (tmp_path / f"log{len(started)}").open("w+")
        environment = os.environ | more
        line = [sys.executable, *launcher, *words]
        process = subprocess.Popen(line, stderr=log, stdout=log, cwd=cwd, env=environment, start_new_session=True)
        process.log = log
        started.append(process)
        return process

    yield command
    for process in started:
        subprocess.run(["pkill", "-KILL", "-s", str(process.pid)], check=False)
        process.wait()
        process.log.close()


def output(process):
    process.log.seek(0)
    return process.log.read()


def group(process):
    """The processes of a started command: those in its session."""
    found = []
    for one in psutil.process_iter():
        try:
            if os.getsid(one.pid) == process.pid and one.status() != psutil.STATUS_ZOMBIE:
                found.append(one)
        except (ProcessLookupError, psutil.NoSuchProcess):
            continue
    return found


def wait_for(condition, seconds=200):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.02)


def rank_of(process, rank):
    """The process of a rank: the command itself, or a child that Lightning started."""
    if rank == 0:
        return psutil.Process(process.pid)
    return next(c for c in psutil.Process(process.pid).children() if c.environ().get("LOCAL_RANK") == str(rank))


def steps_done(folder):
    try:
        return max(curve(folder), default=-1) + 1
    except FileNotFoundError:
        return 0


def assert_same_end(one, other):
    first, second = (torch.load(folder / "last.ckpt", weights_only=True) for folder in (one, other))
    assert first["global_step"] == second["global_step"]
    for name, value in first["state_dict"].items():
        assert torch.equal(value, second["state_dict"][name]), name


SHARD = ("--model.shard", "true")


@pytest.mark.parametrize(("count", "more"), [(1, ()), (2, ()), (2, SHARD)])
def test_a_run_killed_twice_at_any_moment_and_resumed_ends_bit_for_bit_the_same(
    flags, shell, start, tmp_path, count, more
):
    words = [*SETTINGS, *ranks(count), "--data.batch_size", "2"]
    whole = shell(flags("fit", *words, "--checkpoint.dirpath", str(tmp_path / "whole")))
    assert whole.returncode == 0, whole.stderr
    words += more
    for step in (4, 9):
        process = start(flags("fit", *words, "--ckpt_path", "last"))
        wait_for(lambda step=step: steps_done(tmp_path / "run") >= step)
        time.sleep(random.random() * 0.2)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    done = shell(flags("fit", *words, "--ckpt_path", "last"))
    assert done.returncode == 0, done.stderr
    assert_same_end(tmp_path / "whole", tmp_path / "run")
    for name in ("train/loss", "val/loss"):
        assert curve(tmp_path / "whole", name) == curve(tmp_path / "run", name)


@pytest.mark.parametrize(
    ("signum", "rank", "more"),
    [(signal.SIGTERM, 0, ()), (signal.SIGTERM, 1, ()), (signal.SIGINT, 0, ()), (signal.SIGTERM, 1, SHARD)],
)
def test_a_signal_to_any_rank_stops_all_after_the_step_with_its_status(flags, start, tmp_path, signum, rank, more):
    process = start(flags("fit", *SETTINGS, "--trainer.max_epochs", "500", *ranks(2), *more))
    wait_for(lambda: steps_done(tmp_path / "run") >= 3)
    other = rank_of(process, 1)
    rank_of(process, rank).send_signal(signum)
    began = time.monotonic()
    assert process.wait(60) == 128 + signum
    assert time.monotonic() - began < 15
    wait_for(lambda: not other.is_running() or other.status() == psutil.STATUS_ZOMBIE, 15)
    printed = output(process)
    assert printed.count("Resume with:") == 1
    assert "--ckpt_path last" in printed
    assert torch.load(tmp_path / "run" / "last.ckpt", weights_only=True)["global_step"] == steps_done(tmp_path / "run")


@pytest.mark.parametrize(("rank", "more"), [(0, ()), (1, ()), (1, SHARD)])
def test_a_rank_that_dies_ends_the_job_and_leaves_a_valid_checkpoint(flags, start, tmp_path, rank, more):
    process = start(flags("fit", *SETTINGS, "--trainer.max_epochs", "500", *ranks(2), *more))
    wait_for(lambda: steps_done(tmp_path / "run") >= 3)
    rank_of(process, rank).kill()
    assert process.wait(60) != 0
    wait_for(lambda: not group(process), 60)
    assert torch.load(tmp_path / "run" / "last.ckpt", weights_only=True)["global_step"] >= 3


def test_torchrun_restarts_a_run_after_a_rank_died_and_it_ends_the_same(flags, shell, start, tmp_path):
    words = [*SETTINGS, *ranks(2)]
    whole = shell(flags("fit", *words, "--checkpoint.dirpath", str(tmp_path / "whole")))
    assert whole.returncode == 0, whole.stderr
    torchrun = ("-m", "torch.distributed.run", "--nproc_per_node=2", "--max-restarts=2", "-m", "onion_lightning")
    process = start(flags("fit", *words, "--ckpt_path", "last"), torchrun)
    wait_for(lambda: steps_done(tmp_path / "run") >= 5)
    workers = [c for c in psutil.Process(process.pid).children() if c.environ().get("LOCAL_RANK") == "1"]
    workers[0].kill()
    assert process.wait(200) == 0, output(process)
    assert_same_end(tmp_path / "whole", tmp_path / "run")


@pytest.mark.parametrize("layout", [("2", 2), ("2", 3), ("1", 8)])
def test_any_layout_of_ranks_trains_the_same_adapters(run, flags, shell, tmp_path, layout):
    size, count = layout
    exact = [
        "--model.load_in",
        "none",
        "--model.lora_dropout",
        "0",
        "--trainer.max_steps",
        "10",
        "--samples.count",
        "0",
    ]
    run("fit", *exact, "--data.batch_size", "8")
    more = ["--data.batch_size", size, "--checkpoint.dirpath", str(tmp_path / "many")]
    done = shell(flags("fit", *exact, *more, *ranks(count)))
    assert done.returncode == 0, done.stderr
    assert curve(tmp_path / "many") == pytest.approx(curve(tmp_path / "run"), rel=1e-4)
    for name, value in adapters(tmp_path / "run" / "last.ckpt").items():
        torch.testing.assert_close(adapters(tmp_path / "many" / "last.ckpt")[name], value, atol=5e-5, rtol=1e-3)


def write_forever(path, step):
    torch.set_num_threads(1)
    while True:
        step += 1
        state = {"onion_lightning": step, "x": torch.full((400_000,), float(step))}
        AtomicCheckpointIO().save_checkpoint(state, path)


def test_a_kill_during_a_write_leaves_the_previous_checkpoint_intact(tmp_path):
    """Kills a process that only writes checkpoints, twenty times at random moments."""
    path, last, cut = tmp_path / "last.ckpt", 0, 0
    for _ in range(20):
        writer = multiprocessing.get_context("fork").Process(target=write_forever, args=(path, last))
        writer.start()
        time.sleep(0.2 + random.random() * 0.1)
        writer.kill()
        writer.join()
        found = torch.load(path, weights_only=True)
        assert found["onion_lightning"] > last
        assert (found["x"] == float(found["onion_lightning"])).all()
        last = found["onion_lightning"]
        cut += len(list(tmp_path.glob(".last*")))
    assert cut > 0  # otherwise no kill came during a write


def test_a_full_disk_is_reported_and_the_previous_checkpoint_is_intact(run, refused, tmp_path):
    disk = tmp_path / "run"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(disk)], check=True)
    try:
        run("fit", "--trainer.max_steps", "2", "--samples.count", "0", "--trainer.limit_val_batches", "0")
        before = (disk / "last.ckpt").read_bytes()
        room = os.statvfs(disk)
        (disk / "ballast").write_bytes(b"x" * (room.f_bavail * room.f_frsize - 20_000))
        sentence = refused("fit", "--ckpt_path", "last", "--samples.count", "0", "--trainer.limit_val_batches", "0")
        assert "last.ckpt could not be written" in sentence
        assert "the previous checkpoint is intact" in sentence
        assert (disk / "last.ckpt").read_bytes() == before
        assert not list(disk.glob(".last*"))
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_a_folder_that_became_read_only_is_reported_and_the_checkpoint_is_intact(run, refused, tmp_path):
    disk = tmp_path / "run"
    disk.mkdir()
    few = ("--samples.count", "0", "--trainer.limit_val_batches", "0")
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(disk)], check=True)
    try:
        run("fit", "--trainer.max_steps", "2", *few)
        before = (disk / "last.ckpt").read_bytes()
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        for more in (("--ckpt_path", "last"), ()):
            sentence = refused("fit", *more, *few)
            assert f"--checkpoint.dirpath {disk}" in sentence
            assert "cannot be written" in sentence
        assert (disk / "last.ckpt").read_bytes() == before
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_a_run_writes_only_where_it_was_told_to(flags, start, tmp_path):
    places = {name: tmp_path / name for name in ("home", "here", "temporary", "wandb", "cache")}
    for place in places.values():
        place.mkdir()
    logger = {"class_path": "lightning.pytorch.loggers.WandbLogger"}
    logger["init_args"] = {"save_dir": str(places["wandb"]), "offline": True}
    environment = {
        "HOME": places["home"],
        "TMPDIR": places["temporary"],
        "WANDB_DIR": places["wandb"],
        "HF_HOME": places["cache"],
        "HF_DATASETS_CACHE": places["cache"] / "datasets",
        "ONION_LIGHTNING_CACHE": places["cache"] / "onion_lightning",
        "PYTHONPATH": ROOT,
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    words = flags("fit", "--trainer.max_steps", "3", "--trainer.logger", json.dumps(logger))
    process = start(words, cwd=places["here"], **{name: str(value) for name, value in environment.items()})
    assert process.wait(200) == 0, output(process)
    assert list((places["wandb"] / "wandb").iterdir())
    assert (tmp_path / "run" / "last.ckpt").exists()
    elsewhere = [f for name in ("home", "here", "temporary") for f in places[name].rglob("*") if f.is_file()]
    assert [f for f in elsewhere if "matplotlib" not in f.parts] == []  # imported by torchmetrics: its font list


@pytest.mark.parametrize("name", ["articles.jsonl", "articles.csv"])
def test_a_killed_predict_resumes_with_the_remaining_headlines(flags, start, run, tmp_path, name):
    headlines = str([f"Headline Number {i}" for i in range(40)]).replace("'", '"')
    words = ("--data.headlines", headlines, "--model.temperature", "1", "--data.predict_batch_size", "2")
    words = (*words, "--articles.path", str(tmp_path / name))
    run("predict", *words)
    whole = (tmp_path / name).read_bytes()
    (tmp_path / name).unlink()
    process = start(flags("predict", *words, "--model.max_new_tokens", "12"))
    part = tmp_path / f".{name}.0.part"
    wait_for(lambda: part.exists() and part.read_text().count("\n") >= 9)
    process.kill()
    process.wait()
    assert not (tmp_path / name).exists()
    run("predict", *words, "--articles.resume", "true")
    assert (tmp_path / name).read_bytes() == whole
