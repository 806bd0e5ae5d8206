"""SLURM, and torchrun on machines with folders of their own, run whole commands."""

import pytest

from tests.conftest import curve, records
from tests.nodes.conftest import shell_line

pytestmark = pytest.mark.nodes


def test_sbatch_trains_on_two_nodes(slurm, words, tmp_path):
    job = slurm.submit(shell_line(words("fit", "--trainer.max_steps", "3")), tmp_path)
    slurm.wait(job, "COMPLETED")
    printed = slurm.output(job)
    assert printed.count("2 x the CPU") == 1
    assert printed.count("Done: step 3") == 1
    assert sorted(curve(tmp_path / "run")) == [0, 1, 2]


def test_torchrun_trains_on_machines_with_folders_of_their_own(machines, words):
    lines = [
        words("fit", "--trainer.max_steps", "3", "--ckpt_path", "last", machine=machine) for machine in machines.both
    ]
    pair = machines.torchrun(*lines, c10d=True)
    assert pair.wait() == (0, 0), pair.text()
    assert "does not exist yet" in pair.printed()
    assert "srun" not in pair.printed()  # Lightning warns of it where it is installed
    assert pair.printed().count("2 x the CPU") == 1
    assert pair.printed().count("Done: step 3") == 1
    first, second = [sorted(file.name for file in machine.cache.rglob("*.arrow")) for machine in machines.both]
    assert first == second != []


def test_evaluate_gathers_the_headlines_of_both_machines(machines, words, whole):
    more = ["--ckpt_path", str(whole / "last.ckpt"), "--shots", "1", "--output", "evaluation"]
    pair = machines.torchrun(*[words("evaluate", *more, machine=machine) for machine in machines.both])
    assert pair.wait() == (0, 0), pair.text()
    assert pair.printed().count("Report:") == 1
    folder = machines.both[0].folder / "evaluation"
    assert len({record["headline"] for record in records(folder / "samples.jsonl")}) == 4
    assert not (machines.both[1].folder / "evaluation").exists()
