"""When a job of SLURM is requeued. The real SLURM is in tests/nodes."""

import os
import signal

import pytest

from onion_lightning.training.job.slurm import job_id, report_foreign_checkpoints, requeue, was_requeued

RUNNING = "JobId=7 JobState=RUNNING Reason=None Requeue=1"
EXPIRED = "JobId=7 JobState=COMPLETING Reason=TimeLimit Requeue=1"


@pytest.fixture
def scontrol(tmp_path, monkeypatch, environment):
    """Puts a program of this name on the path, which prints a job and records its calls: the machine may have no SLURM."""

    def put(shown, status=0):
        program = tmp_path / "scontrol"
        log = tmp_path / "calls"
        log.write_text("")
        refuse = f"echo 'is disabled' >&2; exit {status}" if status else "exit 0"
        program.write_text(f'#!/bin/sh\necho "$*" >>{log}\ncase $1 in show) echo "{shown}";; *) {refuse};; esac\n')
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
        return lambda: [line for line in log.read_text().splitlines() if line.startswith("requeue")]

    environment({"SLURM_JOB_ID": "7", "SLURM_RESTART_COUNT": "1"})
    return put


@pytest.mark.parametrize(
    ("signum", "shown", "requeued"),
    [
        (signal.SIGUSR1, RUNNING, True),
        (signal.SIGUSR2, RUNNING, True),
        (signal.SIGTERM, RUNNING, False),
        (signal.SIGTERM, EXPIRED, True),
        (signal.SIGTERM, "JobState=TIMEOUT Reason=None Requeue=1", True),
        (signal.SIGTERM, "JobState=CANCELLED Reason=None Requeue=1", False),
        (signal.SIGTERM, "JobState=PREEMPTED Reason=None Requeue=1", True),
        (signal.SIGTERM, "JobState=COMPLETING PreemptTime=2026-11-30T01:02:03 Requeue=1", True),
        (signal.SIGTERM, "JobState=COMPLETING PreemptTime=None Requeue=1", False),
        (signal.SIGINT, EXPIRED, False),
    ],
)
def test_a_job_is_requeued_at_its_time_limit_and_preemption_and_not_when_it_is_cancelled(
    scontrol, signum, shown, requeued
):
    calls = scontrol(shown)
    assert requeue(signum) == requeued
    assert calls() == ["requeue 7"] * requeued


def test_a_job_that_must_not_be_requeued_and_one_that_slurm_refuses_are_reported(scontrol, capsys):
    calls = scontrol("JobState=RUNNING Requeue=0")
    assert not requeue(signal.SIGUSR1)
    assert calls() == []
    assert "job 7: it was submitted with --no-requeue" in capsys.readouterr().err
    scontrol(RUNNING, status=1)
    assert not requeue(signal.SIGUSR1)
    assert "did not requeue job 7 (is disabled)" in capsys.readouterr().err


def test_without_scontrol_the_job_is_not_requeued_and_that_is_said(scontrol, monkeypatch, capsys):
    monkeypatch.setenv("PATH", "")
    assert not requeue(signal.SIGUSR1)
    assert "SLURM did not requeue job 7" in capsys.readouterr().err


def test_a_job_is_named_by_cluster_and_number_and_outside_slurm_nothing_happens(environment, monkeypatch):
    environment({"SLURM_JOB_ID": "7"})
    monkeypatch.setenv("SLURM_CLUSTER_NAME", "big")
    assert job_id() == "big/7"
    assert not was_requeued()
    environment({"SLURM_RESTART_COUNT": "2"})
    assert was_requeued()
    assert job_id() is None
    assert not requeue(signal.SIGUSR1)


def test_the_newest_checkpoint_of_lightnings_own_requeueing_is_reported_in_a_job(environment, tmp_path, capsys):
    for number in (1, 2):
        (tmp_path / f"hpc_ckpt_{number}.ckpt").write_text("x")
    environment({})
    report_foreign_checkpoints(tmp_path)
    assert capsys.readouterr().err == ""
    environment({"SLURM_JOB_ID": "7"})
    report_foreign_checkpoints(tmp_path)
    assert f"{tmp_path}/hpc_ckpt_2.ckpt: was written by Lightning's auto-requeue" in capsys.readouterr().err
