"""A SLURM cluster on this machine for the tests: munged, slurmctld and two slurmd that keep everything in one folder."""

import os
import shutil
import signal
import socket
import subprocess
from pathlib import Path

from tests.conftest import ROOT
from tests.nodes.processes import free_ports, processes, wait_for

__all__ = ["MISSING", "Slurm"]

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "scontrol", "scancel")
MISSING = [name for name in PROGRAMS if shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin") is None]

# cred_expire is also the time that a requeued job waits before it may start again (two minutes by default); the intervals of
# the scheduler are how often it looks for such jobs (a minute by default).
CONFIGURATION = """
ClusterName=onion
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmUser=root
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
ProctrackType=proctrack/pgid
TaskPlugin=task/none
SelectType=select/cons_tres
SlurmdParameters=config_overrides
SchedulerParameters=sched_interval=1,bf_interval=1,batch_sched_delay=0
ReturnToService=2
JobRequeue=1
MinJobAge=3600
FirstJobId={first_job}
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]} CPUs=2
NodeName=n2 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]} CPUs=2
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""

# exec: otherwise SIGTERM ends the shell, SLURM ends srun with it, and what ranks print from then on is lost.
SCRIPT = """#!/bin/bash
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --open-mode=append
#SBATCH --output=slurm-%j.log
{more}
export MASTER_ADDR=127.0.0.1
exec srun --open-mode=append {command}
"""


class Slurm:
    """A cluster with the nodes n1 and n2. Its daemons run as root and end with `stop`.

    Args:
        folder: an empty folder for configuration, keys, sockets, state and logs; its path must be short, for the sockets.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith("SLURM_")}
        self.environment["PATH"] += ":/usr/sbin:/sbin"
        self.environment["SLURM_CONF"] = str(folder / "slurm.conf")
        self.environment["PYTHONPATH"] = str(ROOT)
        self.environment["OMP_NUM_THREADS"] = "1"
        self.daemons: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        """Start the daemons and wait until both nodes accept jobs."""
        host = socket.gethostname().partition(".")[0]
        (self.folder / "state").mkdir()
        first_job = 1 + os.getpid() % 9000  # Lightning derives the port of rank 0 from it
        settings = CONFIGURATION.format(host=host, folder=self.folder, ports=free_ports(3), first_job=first_job)
        (self.folder / "slurm.conf").write_text(settings, encoding="utf-8")
        key = self.folder / "munge.key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o400)
        files = [f"--{kind}-file={self.folder}/munge.{kind}" for kind in ("log", "pid", "seed")]
        munge_socket = self.folder / "munge.socket"
        # --force: the folder's parent may be writable by everybody
        self.daemon("munged", "--foreground", "--force", f"--key-file={key}", f"--socket={munge_socket}", *files)
        wait_for(munge_socket.exists, 30, self.logs)
        self.daemon("slurmctld", "-D")
        for node in ("n1", "n2"):
            self.daemon("slurmd", "-D", "-N", node)
        wait_for(lambda: self.ask("sinfo", "--noheader", "--format=%T %D").strip() == "idle 2", 60, self.logs)

    def daemon(self, *words: str) -> None:
        with (self.folder / f"{words[0]}{len(self.daemons)}.log").open("wb") as log:
            # setpriv: a killed pytest takes them along
            line = ["setpriv", "--pdeathsig", "TERM", *words]
            self.daemons.append(subprocess.Popen(line, env=self.environment, stdout=log, stderr=log))

    def logs(self) -> str:
        """Return the ends of the daemons' logs, for a failing test."""
        statuses = {daemon.args[3]: daemon.poll() for daemon in self.daemons}
        return f"{statuses}\n" + "\n".join(
            f"{file.name}:\n{file.read_text()[-2000:]}" for file in sorted(self.folder.glob("*.log"))
        )

    def clear(self) -> None:
        """Cancel all jobs and wait until they are gone."""
        self.tell("scancel", "--user=root")
        wait_for(lambda: not self.tell("squeue", "--noheader"), 60, self.logs)

    def stop(self) -> None:
        """Cancel all jobs, and end the daemons and what remains of the jobs."""
        try:
            self.clear()
        finally:
            for daemon in reversed(self.daemons):
                daemon.terminate()
            for one in processes(SLURM_CONF=self.environment["SLURM_CONF"]):
                if one.pid not in [daemon.pid for daemon in self.daemons]:
                    one.kill()
            for daemon in self.daemons:
                try:
                    daemon.wait(10)
                except subprocess.TimeoutExpired:
                    daemon.kill()
                    daemon.wait()

    def ask(self, *words: str) -> str:
        """Run a command of SLURM and return what it prints; empty if it fails."""
        done = subprocess.run(words, env=self.environment, capture_output=True, text=True, timeout=60, check=False)
        return done.stdout if done.returncode == 0 else ""

    def tell(self, *words: str) -> str:
        """Run a command of SLURM that has to succeed, and return what it prints."""
        done = subprocess.run(words, env=self.environment, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, f"{words}: {done.stderr}\n{self.logs()}"
        return done.stdout

    def submit(self, command: str, folder: Path, *options: str) -> int:
        """Submit a job whose script runs a command on both nodes, one task each.

        Args:
            command: a line of shell, started by srun.
            folder: the working directory, which gets the log of the job.
            options: lines for the script, such as "--no-requeue".

        Returns:
            The job's ID.
        """
        more = "\n".join(f"#SBATCH {option}" for option in options)
        script = folder / "job.sh"
        script.write_text(SCRIPT.format(more=more, command=command), encoding="utf-8")
        return int(self.tell("sbatch", "--parsable", f"--chdir={folder}", str(script)))

    def fields(self, job: int) -> dict[str, str]:
        """Return what `scontrol show job` says."""
        return dict(
            word.split("=", 1) for word in self.tell("scontrol", "show", "job", str(job)).split() if "=" in word
        )

    def state(self, job: int) -> str:
        """Return the state of a job, such as RUNNING, COMPLETED or CANCELLED."""
        return self.fields(job)["JobState"]

    def restarts(self, job: int) -> int:
        """Return how often a job was requeued."""
        return int(self.fields(job)["Restarts"])

    def wait(self, job: int, state: str, seconds: float = 200) -> None:
        """Wait until a job is in a state and nothing of its earlier run remains."""
        ends = {"COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", state}
        wait_for(lambda: self.state(job) in ends, seconds, lambda: f"{self.fields(job)}\n{self.output(job)}")
        assert self.state(job) == state, self.output(job)

    def output(self, job: int) -> str:
        """Return what the ranks of a job have printed, also before it was requeued."""
        file = Path(self.fields(job)["StdOut"])
        return file.read_text() if file.exists() else ""

    def requeue(self, job: int) -> None:
        """Requeue a job, as its user would."""
        self.tell("scontrol", "requeue", str(job))

    def signal(self, job: int, name: str) -> None:
        """Send a signal to the job's steps, as `#SBATCH --signal=NAME@60` does 60 s before the time limit."""
        self.tell("scancel", f"--signal={name}", str(job))

    def expire(self, job: int) -> None:
        """Have the job's time limit be reached, within the 30 s after which SLURM looks for such jobs again."""
        self.tell("scontrol", "update", f"JobId={job}", "EndTime=now")

    def cancel(self, job: int) -> None:
        self.tell("scancel", str(job))

    def kill_node(self, job: int, node: str) -> None:
        """Send SIGKILL to the tasks of a job on one node."""
        found = processes(SLURM_JOB_ID=str(job), SLURMD_NODENAME=node, SLURM_PROCID=str(int(node[1:]) - 1))
        assert found, f"job {job} has no processes on {node}"
        for one in found:
            one.send_signal(signal.SIGKILL)
