"""Jobs of a real SLURM that are signaled, requeued, cancelled, out of time or killed."""

import pytest
import torch

from tests.conftest import curve
from tests.nodes.conftest import EPOCHS, assert_same, in_slow_steps, shell_line
from tests.nodes.processes import wait_for
from tests.test_fault import steps_done

pytestmark = pytest.mark.nodes


@pytest.fixture
def started(slurm, words, slow, tmp_path):
    """Submits `fit` on two nodes, waits until it has trained four steps, and returns the job."""

    def submit(*more, options=(), seconds=2):
        job = slurm.submit(shell_line(words("fit", *EPOCHS, *in_slow_steps(slow, seconds), *more)), tmp_path, *options)
        slurm.wait(job, "RUNNING")
        wait_for(lambda: steps_done(tmp_path / "run") >= 4 or slurm.state(job) != "RUNNING")
        assert slurm.state(job) == "RUNNING", slurm.output(job)
        return job

    return submit


@pytest.fixture
def resumes(slurm, slow, whole, tmp_path):
    """Waits until a job was requeued, and asserts that it ends like a run that nothing interrupted."""

    def check(job):
        wait_for(lambda: slurm.restarts(job) == 1, 100, lambda: slurm.output(job))
        assert_saved(tmp_path / "run")
        slow.unlink()
        slurm.wait(job, "COMPLETED")
        assert slurm.restarts(job) == 1
        assert_same(whole, tmp_path / "run")

    return check


def assert_saved(folder):
    """Assert that the last checkpoint is the last completed step, before the end."""
    steps = torch.load(folder / "last.ckpt", weights_only=True)["global_step"]
    assert steps == steps_done(folder) < 20


def test_usr1_requeues_the_job_which_resumes_by_itself_and_from_no_file_of_another_run(
    slurm, started, resumes, whole, tmp_path
):
    left = tmp_path / "hpc_ckpt_1.ckpt"  # as Lightning's own handling of SIGUSR1 leaves it
    left.write_bytes((whole / "last.ckpt").read_bytes())
    job = started()
    assert slurm.output(job).count("hpc_ckpt_1.ckpt") == 1
    slurm.signal(job, "USR1")
    resumes(job)
    assert list(tmp_path.rglob("hpc_ckpt*")) == [left]
    assert left.read_bytes() == (whole / "last.ckpt").read_bytes()


def test_usr2_requeues_the_job_and_a_second_job_in_its_directory_starts_from_scratch(
    slurm, started, resumes, words, tmp_path
):
    job = started()
    slurm.signal(job, "USR2")
    resumes(job)
    assert not list(tmp_path.rglob("hpc_ckpt*"))
    other = ("--checkpoint.dirpath", str(tmp_path / "other"), "--seed_everything", "7", "--trainer.max_steps", "2")
    second = slurm.submit(shell_line(words("fit", *other)), tmp_path)
    slurm.wait(second, "COMPLETED")
    assert sorted(curve(tmp_path / "other")) == [0, 1]
    assert curve(tmp_path / "other")[0] != curve(tmp_path / "run")[0]


def test_scancel_saves_the_step_and_does_not_requeue(slurm, started, tmp_path):
    job = started()
    slurm.cancel(job)
    slurm.wait(job, "CANCELLED")
    assert slurm.restarts(job) == 0
    assert_saved(tmp_path / "run")
    assert "--ckpt_path last" in slurm.output(job)


def test_a_job_that_its_user_requeues_resumes(slurm, started, resumes):
    job = started()
    slurm.requeue(job)
    slurm.wait(job, "PENDING")
    resumes(job)


def test_a_time_limit_without_a_signal_before_it_requeues_the_job_which_resumes(slurm, started, resumes):
    job = started(seconds=4)  # SLURM looks for such jobs every 30 s
    slurm.expire(job)
    resumes(job)


def test_a_job_that_may_not_be_requeued_stops_and_prints_how_to_resume(slurm, started, tmp_path):
    job = started(options=["--no-requeue"])
    slurm.signal(job, "USR1")
    slurm.wait(job, "FAILED")
    assert slurm.restarts(job) == 0
    assert_saved(tmp_path / "run")
    assert "--ckpt_path last" in slurm.output(job)


def test_a_killed_node_ends_the_job_with_one_sentence_and_a_resume_ends_the_same(
    slurm, started, slow, train, whole, tmp_path
):
    job = started("--checkpoint.every_n_train_steps", "1")
    slurm.kill_node(job, "n2")
    slurm.wait(job, "FAILED", 60)
    printed = slurm.output(job)
    assert "Traceback" not in printed
    assert printed.count("\nerror: ") == 1
    slow.unlink()
    train(tmp_path, "--ckpt_path", "last")
    assert_same(whole, tmp_path / "run")
