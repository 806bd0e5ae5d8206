"""A killed run resumes on the device and ends bit for bit like one that was never interrupted; predictions repeat."""

import os
import signal
import subprocess
import sys

import pytest

from tests.conftest import ROOT, curve, records
from tests.gpu.conftest import CARD, DETERMINISTIC, GPU, in_precision
from tests.test_fault import assert_same_end, steps_done, wait_for

pytestmark = GPU


def test_a_killed_run_resumes_and_ends_bit_for_bit_the_same(flags, shell, tmp_path):
    """With dropout and accumulation. Without `DETERMINISTIC`, two uninterrupted runs would differ in the last bits too."""
    words = [*CARD, *in_precision("16-mixed"), *DETERMINISTIC, "--ckpt_path", "last"]
    words += ["--checkpoint.every_n_train_steps", "1", "--samples.count", "0"]
    whole, run = tmp_path / "whole", tmp_path / "run"
    done = shell(flags("fit", *words, "--checkpoint.dirpath", str(whole)))
    assert done.returncode == 0, done.stderr
    kill_after(4, flags("fit", *words), run)
    done = shell(flags("fit", *words))
    assert done.returncode == 0, done.stderr
    assert_same_end(whole, run)
    assert len(curve(run)) == 10
    assert curve(run) == curve(whole)


def kill_after(step: int, words: list[str], run) -> None:
    """Run a command until its curve contains a step, and kill it there."""
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": ROOT}
    command = [sys.executable, "-m", "onion_lightning", *words]
    process = subprocess.Popen(command, env=os.environ | {"OMP_NUM_THREADS": "1"}, **quiet)
    try:
        wait_for(lambda: steps_done(run) >= step or process.poll() is not None, 120)
        assert process.poll() is None, "it ended before it was killed"
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()


@pytest.mark.parametrize("load_in", ["int8", "nf4", "none"])
def test_predict_writes_the_same_greedy_articles_twice(run, tmp_path, load_in):
    words = (*CARD, *in_precision("16-mixed"), "--model.load_in", load_in, "--model.temperature", "0")
    written = []
    for _ in range(2):
        run("predict", *words, "--data.headlines", '["Egg Wins", "Man Loses A Hat"]')
        written.append(records(tmp_path / "articles.jsonl"))
    assert written[0] == written[1]
    assert all(record["tokens"] > 0 for record in written[0])
