"""A run as a job of SLURM: its identity, when and how it is requeued, and the files of Lightning's own requeueing."""

import os
import signal
import subprocess
from pathlib import Path

from onion_lightning.messages import tell

__all__ = ["SIGNALS", "job_id", "report_foreign_checkpoints", "requeue", "was_requeued"]

SIGNALS = (signal.SIGUSR1, signal.SIGUSR2)  # those of `#SBATCH --signal`, before a time limit or a preemption


def job_id() -> str | None:
    """Return the name of this job, which is the same after it was requeued; None outside SLURM."""
    number = os.environ.get("SLURM_JOB_ID")
    return None if number is None else f"{os.environ.get('SLURM_CLUSTER_NAME', 'slurm')}/{number}"


def was_requeued() -> bool:
    """Return whether SLURM has started this job before."""
    return os.environ.get("SLURM_RESTART_COUNT", "0") != "0"


def requeue(signum: int) -> bool:
    """Requeue this job if SLURM stopped it at its time limit or to make room, and say so. Called by rank 0 alone.

    SIGUSR1 and SIGUSR2 are sent for these reasons only. `scancel` sends SIGTERM, too, so SLURM is asked for the reason.

    Returns:
        Whether the job starts again.
    """
    if job_id() is None or (signum not in SIGNALS and signum != signal.SIGTERM):
        return False
    number = os.environ["SLURM_JOB_ID"]
    job = dict(word.partition("=")[::2] for word in scontrol("show", "job", "-o", number)[1].split())
    expired = job.get("Reason") == "TimeLimit" or job.get("JobState") == "TIMEOUT"
    preempted = job.get("JobState") == "PREEMPTED" or job.get("PreemptTime", "None") != "None"
    if signum == signal.SIGTERM and not expired and not preempted:
        return False
    if job.get("Requeue") == "0":
        tell(f"SLURM does not requeue job {number}: it was submitted with --no-requeue.")
        return False
    # Said now, because SLURM may kill this process before `scontrol` returns.
    tell(f"Requeueing job {number}, which resumes by itself.")
    status, words = scontrol("requeue", number)
    if status != 0:
        tell(f"SLURM did not requeue job {number} ({words or 'scontrol failed'}).")
        return False
    return True


def scontrol(*words: str) -> tuple[int, str]:
    """Run a command of scontrol; return its status and what it printed."""
    try:
        done = subprocess.run(["scontrol", *words], capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return 1, str(error)
    return done.returncode, (done.stdout or done.stderr).strip()


def report_foreign_checkpoints(folder: Path) -> None:
    """Name the checkpoints that Lightning's own requeueing has left in a folder: this project does not read them."""
    if job_id() is None:
        return
    found = sorted(file.name for file in folder.glob("hpc_ckpt_*"))
    if found:
        tell(f"{folder / found[-1]}: was written by Lightning's auto-requeue, and is not used.")
