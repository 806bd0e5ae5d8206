"""The progress bar in a terminal."""

import re

import pytest


@pytest.mark.parametrize(("columns", "bar"), [("80", False), ("120", True)])
def test_progress_is_one_line_on_terminals_of_any_usual_width(shell, flags, columns, bar):
    done = shell(flags("fit", "--trainer.max_epochs", "1", "--trainer.enable_progress_bar", "true"), COLUMNS=columns)
    assert done.returncode == 0, done.stderr
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("Epoch")]
    assert re.search(
        r"Epoch 0/\d .*0:00:00 remaining loss: [\d.]+ tokens/s: \d+ val ppl: [\d.]+ *$", " ".join(line.split())
    )
    assert ("━" in line) == bar
