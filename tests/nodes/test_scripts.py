"""configs/slurm.sh and configs/torchrun.sh start a run; flags after them replace its base model, corpus and devices."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT, curve
from tests.nodes.conftest import in_slow_steps
from tests.nodes.processes import free_ports, wait_for
from tests.test_fault import steps_done

pytestmark = pytest.mark.nodes

PROGRAMS = (
    f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # with python and torchrun of this environment
)


@pytest.fixture
def tiny(words):
    """Return the flags of a run of the tiny model."""
    return words("fit")[1:]


@pytest.fixture
def submit(slurm, tiny, tmp_path):
    """Returns a function that submits the script; the nodes of the tests have neither GPUs nor memory to ask for."""

    def command(*more):
        sizes = ["--ntasks-per-node=1", "--cpus-per-task=1", "--gpus-per-node=0", "--mem=0"]
        places = [
            f"--output={tmp_path / 'log'}",
            f"--chdir={ROOT}",
            f"--export=ALL,MASTER_ADDR=127.0.0.1,PATH={PROGRAMS}",
        ]
        return int(slurm.tell("sbatch", "--parsable", *sizes, *places, "configs/slurm.sh", *tiny, *more))

    return command


def test_sbatch_runs_the_script(slurm, submit, tmp_path):
    job = submit("--trainer.max_steps", "2")
    slurm.wait(job, "COMPLETED")
    fields = slurm.fields(job)
    assert (fields["Requeue"], fields["NumNodes"], fields["TimeLimit"]) == ("1", "2", "04:00:00")
    assert (tmp_path / "log").read_text().count("Done: step 2") == 1
    assert sorted(curve(tmp_path / "run")) == [0, 1]


def test_the_job_of_the_script_is_requeued_and_its_log_has_both_runs(slurm, submit, slow, tmp_path):
    job = submit("--trainer.max_steps", "10", *in_slow_steps(slow))
    wait_for(lambda: steps_done(tmp_path / "run") >= 4 or slurm.state(job) not in ("PENDING", "RUNNING"))
    slurm.signal(job, "USR1")
    wait_for(lambda: slurm.restarts(job) == 1, 100)
    slow.unlink()
    slurm.wait(job, "COMPLETED")
    printed = (tmp_path / "log").read_text()
    assert "the last completed step is saved" in printed
    assert f"Requeueing job {job}, which resumes by itself." in printed
    assert "This job was requeued: resuming from step" in printed
    assert printed.count("Done: step 10") == 1
    assert sorted(curve(tmp_path / "run")) == list(range(10))


def test_torchrun_runs_the_script_on_two_machines(tiny, tmp_path):
    host = socket.gethostname()
    line = ["bash", "configs/torchrun.sh", f"{host}:{free_ports(1)[0]}", "2", *tiny, "--trainer.max_steps", "2"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "GPUS": "1", "PATH": PROGRAMS}
    agents = [
        subprocess.Popen(line, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, cwd=ROOT, env=environment)
        for _ in range(2)
    ]
    printed = [agent.communicate(timeout=240)[1] for agent in agents]
    assert [agent.returncode for agent in agents] == [0, 0], printed
    assert sum(text.count("Done: step 2") for text in printed) == 1
    assert sum(text.count("2 x the CPU") for text in printed) == 1
    assert sorted(curve(tmp_path / "run")) == [0, 1]
