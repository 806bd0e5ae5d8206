"""A bar on a terminal, lines elsewhere, and never both."""

import io

import pytest
from rich.console import Console

from onion_lightning.attention.effects import progress as module
from onion_lightning.attention.effects.progress import Progress, reporting
from onion_lightning.heartbeat import show_progress


@pytest.mark.parametrize(
    ("terminal", "shown", "as_bars", "bar", "lines"),
    [
        (True, True, True, True, 0),
        (True, True, False, False, 1),
        (False, True, True, False, 1),
        (True, False, True, False, 0),
    ],
)
def test_interventions_are_counted_by_a_bar_or_by_lines(monkeypatch, caplog, terminal, shown, as_bars, bar, lines):
    printed, progress = io.StringIO(), Progress()
    monkeypatch.setattr(module, "Console", lambda stderr: Console(file=printed, force_terminal=terminal, width=100))
    monkeypatch.setenv("TERM", "xterm")
    caplog.set_level("INFO")
    show_progress(shown, as_bars)
    try:
        with reporting(progress, "tuned", 1200, 73):
            progress(1000)
            progress(34)
    finally:
        show_progress(True)
    assert progress.done == 1034
    assert ("1,034 of 1,200" in printed.getvalue()) is bar
    assert [record.getMessage()[9:] for record in caplog.records] == ["tuned: 1,200 interventions on 73 tokens"] * lines
