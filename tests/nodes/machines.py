"""Two machines in network namespaces of this one, for the tests: each with its own host name, address, folders and caches."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple
from uuid import uuid4

from tests.conftest import ROOT
from tests.nodes.processes import free_ports, processes, wait_for

__all__ = ["Machine", "Machines", "Pair"]

PORT = 29500


class Machine(NamedTuple):
    """One of the two machines.

    Attributes:
        name: its host name.
        address: its address in the network of the two.
        folder: its own folder: the working directory, and the place of its run, articles and caches.
        prefix: the words before a command that runs there.
        interface: its network interface.
    """

    name: str
    address: str
    folder: Path
    prefix: list[str]
    interface: str

    @property
    def run(self) -> Path:
        return self.folder / "run"

    @property
    def cache(self) -> Path:
        return self.folder / "cache"


class Agent(NamedTuple):
    """A torchrun agent with its rank, or a command that runs without one.

    Attributes:
        process: what was started.
        log: what it prints.
        ranks: a folder, in which torchrun puts what the rank prints.
    """

    process: subprocess.Popen[bytes]
    log: Path
    ranks: Path

    def printed(self) -> str:
        """Return what the command has printed, without what torchrun says about it."""
        files = sorted(self.ranks.rglob("std*.log")) if self.ranks.exists() else [self.log]
        return "".join(file.read_text(errors="replace") for file in files)

    def ended(self) -> bool:
        return self.process.poll() is not None

    def wait(self, seconds: float = 200) -> int:
        """Wait until it has ended, and return its exit status."""
        wait_for(self.ended, seconds, self.printed)
        return self.process.returncode


class Pair(NamedTuple):
    """The agents of both machines."""

    first: Agent
    second: Agent

    def ended(self) -> bool:
        """Return whether either of them has."""
        return any(agent.ended() for agent in self)

    def wait(self, seconds: float = 200) -> tuple[int, int]:
        """Wait until both have ended, and return their exit statuses."""
        wait_for(lambda: all(agent.ended() for agent in self), seconds, self.text)
        return self.first.process.returncode, self.second.process.returncode

    def printed(self) -> str:
        """Return what the command has printed on both."""
        return self.first.printed() + self.second.printed()

    def text(self) -> str:
        """Return everything that was printed, for a failing test."""
        return "\n".join(
            f"== {agent.log}:\n{agent.log.read_text(errors='replace')}\n== its rank:\n{agent.printed()}"
            for agent in self
        )


class Machines:
    """The machines n1 and n2, in namespaces that a switch in a third one connects; on loopback where there are none.

    Args:
        folder: gets a folder for each machine.
    """

    def __init__(self, folder: Path) -> None:
        self.name = f"onion{uuid4().hex[:6]}"
        self.agents: list[Agent] = []
        self.isolated = can_isolate()
        if self.isolated:
            self.connect()
        self.both = [self.machine(number, folder / f"n{number}") for number in (1, 2)]

    def machine(self, number: int, folder: Path) -> Machine:
        folder.mkdir()
        name = f"n{number}"
        if not self.isolated:
            return Machine(name, "127.0.0.1", folder, [], "lo")
        hosts = folder.parent / "hosts"
        hosts.write_text("127.0.0.1 localhost\n10.77.0.1 n1\n10.77.0.2 n2\n")
        prefix = ["ip", "netns", "exec", f"{self.name}{name}", "unshare", "--uts"]  # ip also makes mounts private
        prefix += ["sh", "-c", f'hostname {name} && mount --bind {hosts} /etc/hosts && exec "$@"', "sh"]
        return Machine(name, f"10.77.0.{number}", folder, prefix, "eth0")

    def connect(self) -> None:
        """Create the namespaces and the switch."""
        switch = f"{self.name}switch"
        ip("netns", "add", switch)
        ip("-n", switch, "link", "add", "bridge", "type", "bridge", "forward_delay", "0")
        ip("-n", switch, "link", "set", "bridge", "up")
        for number in (1, 2):
            machine, port = f"{self.name}n{number}", f"port{number}"
            ip("netns", "add", machine)
            ip("-n", switch, "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", machine)
            ip("-n", switch, "link", "set", port, "master", "bridge", "up")
            ip("-n", machine, "address", "add", f"10.77.0.{number}/24", "dev", "eth0")
            for interface in ("eth0", "lo"):
                ip("-n", machine, "link", "set", interface, "up")

    def cut(self) -> None:
        """Lose every packet between the machines from now on; interfaces and connections stay up."""
        ip("-n", f"{self.name}switch", "link", "set", "port2", "nomaster")

    def mend(self) -> None:
        """End the cut."""
        ip("-n", f"{self.name}switch", "link", "set", "port2", "master", "bridge")

    def environment(self, machine: Machine, shared_cache: Path | None) -> dict[str, str]:
        cache = shared_cache or machine.cache
        return os.environ | {
            "PYTHONPATH": str(ROOT),
            "OMP_NUM_THREADS": "1",
            "ONION_TEST_MACHINE": f"{self.name}{machine.name}",
            "HOME": str(machine.folder),
            "HF_HOME": str(cache / "hf"),
            "HF_DATASETS_CACHE": str(cache / "datasets"),
            "ONION_LIGHTNING_CACHE": str(cache / "onion"),
            "GLOO_SOCKET_IFNAME": machine.interface,
            "TP_SOCKET_IFNAME": machine.interface,
        }

    def start(self, machine: Machine, words: Iterable[str], shared_cache: Path | None = None) -> Agent:
        """Start Python with these words on a machine, in its folder."""
        log = machine.folder / f"log{len(self.agents)}.txt"
        with log.open("wb") as stream:
            process = subprocess.Popen(
                [*machine.prefix, sys.executable, *words],
                cwd=machine.folder,
                env=self.environment(machine, shared_cache),
                stdout=stream,
                stderr=stream,
            )
        self.agents.append(Agent(process, log, machine.folder / f"ranks{len(self.agents)}"))
        return self.agents[-1]

    def torchrun(
        self, first: Iterable[str], second: Iterable[str], *, c10d: bool = False, shared_cache: Path | None = None
    ) -> Pair:
        """Start a torchrun agent on each machine, with one rank each.

        Args:
            first: the words of the command on n1, which has rank 0.
            second: the same on n2.
            c10d: let the machines meet at n1's port, instead of numbering them; either may have rank 0.
            shared_cache: a folder for the caches of both machines.

        Returns:
            The agents, in the order of the machines.
        """
        head = self.both[0].address
        port = PORT if self.isolated else free_ports(1)[0]
        agents = []
        for number, (machine, words) in enumerate(zip(self.both, (first, second), strict=True)):
            place = [f"--node_rank={number}", f"--master_addr={head}", f"--master_port={port}"]
            if c10d:
                place = ["--rdzv_backend=c10d", f"--rdzv_endpoint={head}:{port}", f"--local_addr={machine.address}"]
            printed = ["--redirects=3", f"--log_dir={machine.folder / f'ranks{len(self.agents)}'}"]
            line = ["-m", "torch.distributed.run", "--nnodes=2", "--nproc_per_node=1", "--max_restarts=0"]
            line += [*place, *printed, "-m", "onion_lightning", *words]
            agents.append(self.start(machine, line, shared_cache))
        return Pair(*agents)

    def kill(self, machine: Machine) -> None:
        """Send SIGKILL to everything that was started on a machine."""
        for one in processes(ONION_TEST_MACHINE=f"{self.name}{machine.name}"):
            one.kill()

    def stop(self) -> None:
        """End everything and remove the namespaces."""
        for machine in self.both:
            self.kill(machine)
        for agent in self.agents:
            agent.process.wait()
        if self.isolated:
            for name in ("n1", "n2", "switch"):
                ip("netns", "delete", f"{self.name}{name}")


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, timeout=30)


def can_isolate() -> bool:
    """Return whether this machine lets the tests create network namespaces with a bridge."""
    if os.geteuid() != 0 or shutil.which("ip") is None or shutil.which("unshare") is None:
        return False
    name = f"onion{uuid4().hex[:6]}"
    try:
        ip("netns", "add", name)
        ip("-n", name, "link", "add", "bridge", "type", "bridge")
        ip("-n", name, "link", "add", "port", "type", "veth", "peer", "name", "other")
    except subprocess.CalledProcessError:
        return False
    finally:
        subprocess.run(["ip", "netns", "delete", name], check=False, capture_output=True)
    return True
