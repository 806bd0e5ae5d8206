"""Helpers of the tests with several machines: waiting, ports, and processes by their environment."""

import socket
import time
from collections.abc import Callable

import psutil

__all__ = ["free_ports", "processes", "wait_for"]


def wait_for(condition: Callable[[], object], seconds: float = 200, why: Callable[[], str] = str) -> None:
    """Wait until a condition is true; `why` returns the text of the failure otherwise."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"waited too long\n{why()}"
        time.sleep(0.05)


def free_ports(count: int) -> list[int]:
    """Return ports that nobody listens to."""
    found = [socket.socket() for _ in range(count)]
    for one in found:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in found]
    for one in found:
        one.close()
    return ports


def processes(**variables: str) -> list[psutil.Process]:
    """Return the processes whose environment has these variables."""
    found = []
    for one in psutil.process_iter():
        try:
            environment = one.environ()
        except psutil.Error:
            continue
        if all(environment.get(name) == value for name, value in variables.items()):
            found.append(one)
    return found
