"""The benchmarks' comparison: ratios within a round, medians against targets, and the exit status."""

import subprocess
import sys

import pytest

from tests.benchmarks.contenders import Ratio, figure_table, machine, ratio_table
from tests.conftest import ROOT

SCRIPT = """
import argparse, os, sys
sys.path.insert(0, {folder!r})
from contenders import Ratio, main
one, two = (lambda args: {{"speed": 2.0, "process": os.getpid()}}), (lambda args: {{"speed": 1.0, "process": os.getpid()}})
sys.exit(main(argparse.ArgumentParser(), {{"one": one, "two": two}}, [Ratio("speed", "one", "two", {target})]))
"""

FOLDER = str(ROOT / "tests" / "benchmarks")
DRIFTING = [{"ours": {"speed": 20.0 / slow}, "theirs": {"speed": 10.0 / slow}} for slow in (1, 4, 2)]


def test_a_ratio_is_that_of_one_round_so_that_a_machine_that_slows_down_does_not_change_it():
    lines, missed = ratio_table(DRIFTING, [Ratio("speed", "ours", "theirs", 2.0)])
    assert "| speed: ours / theirs | 2 (2 to 2) | at least 2 | met |" in lines
    assert missed == []


@pytest.mark.parametrize(
    ("ratio", "met"),
    [
        (Ratio("speed", "ours", "theirs", 2.1), False),
        (Ratio("speed", "ours", "theirs", 1.9, "at most"), False),
        (Ratio("speed", "ours", "theirs", 2.0, "at most"), True),
        (Ratio("speed", "ours", "theirs", 0.9, "within"), False),
        (Ratio("speed", "ours", "theirs", 1.0, "within"), True),
    ],
)
def test_a_median_that_misses_its_target_is_listed(ratio, met):
    lines, missed = ratio_table(DRIFTING, [ratio])
    assert (missed == []) == met
    assert ("**missed**" in lines[-1]) == (not met)


def test_a_ratio_whose_contender_did_not_run_is_left_out():
    lines, missed = ratio_table(DRIFTING, [Ratio("speed", "ours", "nobody", 9.0)])
    assert lines == missed == []


def test_figures_are_medians_with_their_range():
    assert figure_table(DRIFTING)[-2:] == ["| ours | 10 (5 to 20) |", "| theirs | 5 (2.5 to 10) |"]


@pytest.mark.parametrize(("target", "status"), [("2.0", 0), ("2.5", 1)])
def test_the_exit_status_is_1_below_a_target_and_contenders_alternate(tmp_path, target, status):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.format(folder=FOLDER, target=target))
    done = subprocess.run([sys.executable, script, "--rounds", "2"], capture_output=True, text=True, check=False)
    assert done.returncode == status, done.stderr
    order = [line.split(": ")[1] for line in done.stderr.splitlines() if line.startswith("round")]
    assert order == ["one", "two", "one", "two"]
    processes = [line.split("'process': ")[1] for line in done.stderr.splitlines() if "'process'" in line]
    assert len(set(processes)) == 4
    assert ("below target: speed: one / two is 2.000" in done.stderr) == (status == 1)
    assert machine() in done.stdout


def test_a_contender_that_fails_ends_the_benchmark(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.format(folder=FOLDER, target=2).replace('"speed": 1.0', '"speed": 1 / 0'))
    done = subprocess.run([sys.executable, script, "--rounds", "1"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "two failed with exit status 1" in done.stderr
