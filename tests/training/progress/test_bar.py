"""The progress bar in a terminal."""

import contextlib
import os
import re

import pytest

from tests.warm import start_command

BAR = ("--trainer.enable_progress_bar", "true")


@pytest.mark.parametrize(("columns", "bar"), [("80", False), ("120", True)])
def test_progress_is_one_line_on_terminals_of_any_usual_width(shell, flags, columns, bar):
    done = shell(flags("fit", *BAR, "--progress", "bar", "--trainer.max_epochs", "1"), COLUMNS=columns)
    assert done.returncode == 0, done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("Epoch")]
    perplexity = r" val ppl: [\d.]+" if bar else ""
    assert re.search(
        rf"Epoch 1 of 1 .*step (\d+) of \1 .*0:00:00 remaining loss: [\d.]+ tokens/s: \d+{perplexity}$",
        " ".join(line.split()),
    )
    assert ("━" in line) == bar


def test_a_terminal_gets_the_bar_and_results_stay_on_standard_output(flags, tmp_path):
    terminal, stderr = os.openpty()
    with (tmp_path / "results.txt").open("w") as results:
        process = start_command(flags("test", *BAR), dict(os.environ), results.fileno(), stderr)
    os.close(stderr)
    shown = read_all(terminal)
    process.join()
    assert process.exitcode == 0, shown
    assert re.search(r"Testing.*batch +\d+ of \d+", shown)
    assert not re.search(r"test: \d+ of", shown)
    assert "test/loss" in (tmp_path / "results.txt").read_text()
    assert "test/loss" not in shown


def read_all(terminal):
    """Return what is written to a terminal until its last writer exits, which Linux reports as an error."""
    shown = b""
    with contextlib.suppress(OSError):
        while part := os.read(terminal, 4096):
            shown += part
    os.close(terminal)
    return shown.decode()
