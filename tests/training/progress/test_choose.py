"""Standard error decides between a bar and lines, unless a flag does."""

import io
import sys

import pytest
from lightning.pytorch.callbacks import TQDMProgressBar

from onion_lightning.errors import OnionError
from onion_lightning.training.progress.bar import ProgressBar
from onion_lightning.training.progress.batch_lines import BatchLines
from onion_lightning.training.progress.choose import choose_progress, progress_callback
from onion_lightning.training.progress.fit_lines import FitLines


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize(
    ("asked", "enabled", "stream", "mode"),
    [
        ("auto", None, Terminal(), "bar"),
        ("auto", True, io.StringIO(), "lines"),
        ("auto", None, None, "lines"),
        ("bar", None, io.StringIO(), "bar"),
        ("lines", True, Terminal(), "lines"),
        ("none", True, Terminal(), "none"),
        ("auto", False, Terminal(), "none"),
    ],
)
def test_a_terminal_gets_a_bar_and_a_file_gets_lines_unless_a_flag_asks_otherwise(
    monkeypatch, asked, enabled, stream, mode
):
    monkeypatch.setattr(sys, "stderr", stream)
    assert choose_progress(asked, enabled) == mode


def test_two_flags_that_contradict_each_other_are_refused():
    with pytest.raises(OnionError, match=r"^--progress lines: contradicts --trainer.enable_progress_bar false"):
        choose_progress("lines", False)


@pytest.mark.parametrize(
    ("mode", "command", "kind"),
    [
        ("bar", "fit", ProgressBar),
        ("lines", "fit", FitLines),
        ("lines", "test", BatchLines),
        ("none", "fit", type(None)),
    ],
)
def test_each_mode_has_its_callback(mode, command, kind):
    assert type(progress_callback(mode, command)) is kind


def test_a_configured_bar_replaces_this_projects():
    assert progress_callback("bar", "fit", [TQDMProgressBar()]) is None
