"""Knows which browser tabs are open, so that closing one ends what it has asked for, and limits votes and failed logins."""

import math
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from onion_lightning.errors import OnionError

__all__ = ["CLOSED_SECONDS", "RateLimit", "Sessions"]

REMEMBERED = 10_000  # closed tabs and limits
CLOSED_SECONDS = 5.0


class Sessions:
    """The running requests of each tab.

    Gradio closes a request's generator when its tab closes, except if the tab closes between asking and listening: then it
    would run to its end (3 of 30 times in an experiment). The tab's `unload` event always arrives. It also arrives when a
    connection is lost for a while, so a session is refused for a few seconds only.

    Args:
        clock: returns the time in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.ended = False
        self.lock = threading.Lock()
        self.running: dict[str, set[threading.Event]] = {}
        self.closed: OrderedDict[str, float] = OrderedDict()

    @contextmanager
    def request(self, session: str) -> Iterator[threading.Event]:
        """Return an event that is set when the tab closes, or at the end of the block.

        Args:
            session: id of the tab.

        Raises:
            OnionError: the tab has just been closed, or the server is about to end.
        """
        stop = threading.Event()
        with self.lock:
            if self.ended:
                raise OnionError("The server is about to end.")
            if self.clock() - self.closed.pop(session, -math.inf) < CLOSED_SECONDS:
                raise OnionError("The connection to the page was lost; try again, or reload it.")
            self.running.setdefault(session, set()).add(stop)
        try:
            yield stop
        finally:
            stop.set()
            with self.lock:
                events = self.running.get(session, set())
                events.discard(stop)
                if not events:
                    self.running.pop(session, None)

    def close(self, session: str) -> None:
        """Stop everything that a tab has asked for, and what arrives from it within the next seconds."""
        with self.lock:
            self.closed[session] = self.clock()
            while len(self.closed) > REMEMBERED:
                self.closed.popitem(last=False)
            for stop in self.running.get(session, ()):
                stop.set()

    def close_all(self) -> None:
        """Stop everything, and refuse what waits."""
        with self.lock:
            self.ended = True
            for events in self.running.values():
                for stop in events:
                    stop.set()


class RateLimit:
    """Allows each tab or address a number of actions in a period.

    Args:
        most: number of actions.
        seconds: the period.
        actions: what they are called.
        clock: returns the time in seconds.
    """

    def __init__(
        self, most: int, seconds: float, actions: str = "votes", clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.most = most
        self.seconds = seconds
        self.actions = actions
        self.clock = clock
        self.lock = threading.Lock()
        self.times: OrderedDict[str, deque[float]] = OrderedDict()

    def use(self, session: str) -> None:
        """Count an action.

        Raises:
            OnionError: it is one too many.
        """
        with self.lock:
            now, times = self.clock(), self.times.setdefault(session, deque())
            self.times.move_to_end(session)
            while len(self.times) > REMEMBERED:
                self.times.popitem(last=False)
            while times and now - times[0] >= self.seconds:
                times.popleft()
            if len(times) >= self.most:
                raise OnionError(
                    f"That is more than {self.most} {self.actions} in {self.seconds:g} seconds; wait a little."
                )
            times.append(now)

    def undo(self, session: str) -> None:
        """Do not count the last action."""
        with self.lock:
            if times := self.times.get(session):
                times.pop()
