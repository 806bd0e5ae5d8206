"""The progress bar in a terminal."""

import os
import re
import subprocess
import sys

import pytest

from tests.conftest import ROOT

BAR = ("--trainer.enable_progress_bar", "true")


@pytest.mark.parametrize(("columns", "bar"), [("80", False), ("120", True)])
def test_progress_is_one_line_on_terminals_of_any_usual_width(shell, flags, columns, bar):
    done = shell(flags("fit", *BAR, "--progress", "bar", "--trainer.max_epochs", "1"), COLUMNS=columns)
    assert done.returncode == 0, done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("Epoch")]
    assert re.search(
        r"Epoch 1 of 1 .*step (\d+) of \1 .*0:00:00 remaining loss: [\d.]+ tokens/s: \d+ val ppl: [\d.]+ *$",
        " ".join(line.split()),
    )
    assert ("━" in line) == bar


def test_a_terminal_gets_the_bar_and_results_stay_on_standard_output(flags):
    terminal, stderr = os.openpty()
    command = [sys.executable, "-m", "onion_lightning", *flags("test", *BAR)]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=stderr, cwd=ROOT, timeout=240, text=True, check=False)
    os.close(stderr)
    shown = os.read(terminal, 100_000).decode()
    os.close(terminal)
    assert done.returncode == 0, shown
    assert re.search(r"Testing.*batch \d+ of \d+", shown)
    assert not re.search(r"test: \d+ of", shown)
    assert "test/loss" in done.stdout
    assert "test/loss" not in shown
