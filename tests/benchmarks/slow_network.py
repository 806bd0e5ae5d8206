"""A network with a given rate and latency between processes on this machine. Needs Linux, root, `ip`, `tc` and `unshare`.

Each process is in a network namespace of its own. There, `tc tbf` limits the rate at which it sends; a router in this process
holds each packet for the latency (`tc netem` would do both, but not every kernel has it). Namespaces have no names, and
interfaces do not persist: all of them vanish with the processes that use them, however these end.
"""

import contextlib
import fcntl
import json
import os
import select
import struct
import subprocess
import sys
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from onion_lightning.planning.report.communication import Link

__all__ = ["address", "bytes_sent", "join", "run"]

INTERFACE = "plan{}"  # by rank
MTU = 65_000  # so large that Python can route a gigabit
TUNSETIFF, TUN_WITHOUT_HEADER = 0x400454CA, 0x1001


def address(rank: int) -> str:
    return f"10.77.0.{rank + 1}"


def run(command: Sequence[str], ranks: int, network: Link) -> list[Any]:
    """Run a command for each rank, with the rank as its last argument, and return the JSON that each prints last.

    The command has to call `join` first.
    """
    devices = [open_interface(rank) for rank in range(ranks)]
    processes = [
        subprocess.Popen(
            ["unshare", "--net", *command, str(rank)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for rank in range(ranks)
    ]
    try:
        for rank, process in enumerate(processes):
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdout.readline()  # it is in its namespace
            sh(f"ip link set {INTERFACE.format(rank)} netns {process.pid}")
            process.stdin.write("\n")
            process.stdin.flush()
        route(devices, network.latency, processes)
        if any(process.returncode for process in processes):
            sys.exit(f"a rank failed: {[process.returncode for process in processes]}")
        return [json.loads(process.communicate()[0].splitlines()[-1]) for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.communicate()
        for device in devices:
            os.close(device)


def open_interface(rank: int) -> int:
    """Create an interface whose packets this process reads and writes."""
    device = os.open("/dev/net/tun", os.O_RDWR)
    fcntl.ioctl(device, TUNSETIFF, struct.pack("16sH22x", INTERFACE.format(rank).encode(), TUN_WITHOUT_HEADER))
    return device


def route(devices: Sequence[int], latency: float, processes: Sequence[subprocess.Popen[str]]) -> None:
    """Deliver each IPv4 packet to its rank after the latency, until all processes have ended or one has failed."""
    waiting: deque[tuple[float, int, bytes]] = deque()  # all wait for the same time, so that the first one leaves first
    checked, alive = 0.0, list(devices)
    while True:
        now = time.perf_counter()
        if now > checked + 0.1:
            codes, checked = [process.poll() for process in processes], now
            if None not in codes or any(codes):
                return
        while waiting and waiting[0][0] <= now:
            _, device, packet = waiting.popleft()
            with contextlib.suppress(OSError):  # the interface is not up yet, or has gone
                os.write(device, packet)
        timeout = max(0.0, waiting[0][0] - time.perf_counter()) if waiting else 0.1
        for device in select.select(alive, [], [], timeout)[0]:
            try:
                packet = os.read(device, 2**16)
            except OSError:  # the rank has ended, and its namespace with it
                alive.remove(device)
                continue
            if packet[0] >> 4 == 4 and packet[16:19] == bytes((10, 77, 0)) and packet[19] <= len(devices):
                waiting.append((time.perf_counter() + latency, devices[packet[19] - 1], packet))


def join(rank: int, network: Link) -> None:
    """Wait for this rank's interface, and configure it."""
    print("ready", flush=True)
    sys.stdin.readline()
    name = INTERFACE.format(rank)
    sh("ip link set lo up")
    sh(f"ip addr add {address(rank)}/24 dev {name}")
    sh(f"ip link set {name} mtu {MTU} up")
    sh(f"tc qdisc add dev {name} root tbf rate {8 * network.bandwidth:.0f}bit burst {2 * MTU} limit {2**24}")
    os.environ["GLOO_SOCKET_IFNAME"] = name


def bytes_sent(rank: int) -> int:
    """Return the bytes that have left this rank's interface, with the headers of IP and TCP."""
    lines = Path("/proc/self/net/dev").read_text().splitlines()
    [line] = [line for line in lines if line.split(":")[0].strip() == INTERFACE.format(rank)]
    return int(line.split(":")[1].split()[8])


def sh(line: str) -> None:
    subprocess.run(line.split(), check=True)
