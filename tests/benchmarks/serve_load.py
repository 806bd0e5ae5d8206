"""Serves a tiny model to many users at once for a minute: is anything mixed up or lost, and how long do they wait?

    python tests/benchmarks/serve_load.py

Each user has a session, writes with a seed and a dial of its own, asks for pairs and votes on them. Every answer to the
same request must be the same, and every vote that was acknowledged must be in the file exactly once. Exit status 1
if one is not.
"""

import argparse
import contextlib
import json
import os
import random
import sqlite3
import sys
import tempfile
import threading
import time
from collections import defaultdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))
os.environ["HF_HUB_OFFLINE"] = "1"

import numpy as np
from gradio_client import Client

from tests.serving.conftest import Server, free_port
from tests.tiny import SAMPLE, save_tiny_base


class Load:
    """Many users of one server.

    Args:
        server: the server.
        seconds: how long they use it.
    """

    def __init__(self, server: Server, seconds: float) -> None:
        self.server = server
        self.until = time.monotonic() + seconds
        self.lock = threading.Lock()
        self.seconds: dict[str, list[float]] = defaultdict(list)
        self.written: dict[tuple[int, float], set[str]] = defaultdict(set)
        self.votes: list[str] = []
        self.refused = 0
        self.errors: list[str] = []

    def use(self, user: int) -> None:
        """Write and vote until the time is over."""
        chance = random.Random(user)
        with contextlib.suppress(TimeoutError):
            client = Client(self.server.url, verbose=False)
            while time.monotonic() < self.until:
                try:
                    self.write(client, chance)
                    self.vote(client, chance)
                except Exception as error:  # noqa: BLE001 - each is counted
                    self.note(error)

    def note(self, error: Exception) -> None:
        with self.lock:
            if "Queue is full" in str(error):
                self.refused += 1
            else:
                self.errors.append(f"{type(error).__name__}: {error}")

    def write(self, client: Client, chance: random.Random) -> None:
        seed, dial = chance.randrange(8), chance.choice((0.0, 0.5, 1.0, 1.5))
        began, first = time.monotonic(), 0.0
        job = client.submit(f"Egg {seed} Wins", 20, adapter_strength=dial, seed=seed, api_name="/write")
        for draft in job:
            if draft[0] and not first:
                first = time.monotonic() - began
        with self.lock:
            self.written[seed, dial].add(job.result()[0])
            self.seconds["first text"].append(first)
            self.seconds["whole article"].append(time.monotonic() - began)

    def vote(self, client: Client, chance: random.Random) -> None:
        began = time.monotonic()
        pair = client.predict("Egg Wins", 10, api_name="/pair")
        middle = time.monotonic()
        for _ in range(2):  # a second press must not count
            client.predict(pair["id"], chance.choice(("left", "right", "tie", "neither")), api_name="/vote")
        with self.lock:
            self.votes.append(pair["id"])
            self.seconds["pair"].append(middle - began)
            self.seconds["vote"].append((time.monotonic() - middle) / 2)


def serve(folder: Path, queue: int) -> Server:
    """Train a tiny model for two steps, and serve it."""
    base = folder / "base"
    base.mkdir()
    save_tiny_base(base)
    from onion_lightning.cli.main import main

    line = ["--model.base_model", str(base), "--data.path", str(SAMPLE), "--data.max_length", "300"]
    line += [
        "--checkpoint.dirpath",
        str(folder / "run"),
        "--trainer.accelerator",
        "cpu",
        "--trainer.precision",
        "32-true",
    ]
    fit = ["--trainer.devices", "1", "--trainer.max_steps", "2", "--samples.count", "0", "--trainer.logger", "false"]
    assert main(["fit", *line, *fit, "--model.learning_rate", "0.05", "--progress", "none"]) == 0
    words = ["serve", *line, "--ckpt_path", "last", "--votes", str(folder / "votes.sqlite"), "--max_queue", str(queue)]
    return Server(words, free_port(), folder / "log").wait()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--max_queue", type=int, default=100)
    flags = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        server = serve(Path(name), flags.max_queue)
        try:
            load = Load(server, flags.seconds)
            threads = [threading.Thread(target=load.use, args=(user,), daemon=True) for user in range(flags.users)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(flags.seconds + 120)
        finally:
            server.stop()
        with contextlib.closing(sqlite3.connect(Path(name) / "votes.sqlite")) as votes:
            stored = [pair for (pair,) in votes.execute("SELECT pair FROM votes")]
        log = server.log.read_text()
    print(f"\n{flags.users} users, {flags.seconds:g} s, a queue of {flags.max_queue}\n")
    print("| | count | median | 95th percentile | maximum |\n| --- | ---: | ---: | ---: | ---: |")
    for what, seconds in load.seconds.items():
        median, p95, longest = np.quantile(seconds, (0.5, 0.95, 1))
        print(f"| {what} | {len(seconds)} | {median:.2f} s | {p95:.2f} s | {longest:.2f} s |")
    mixed = {key: len(texts) for key, texts in load.written.items() if len(texts) != 1}
    distinct = len({next(iter(texts)) for texts in load.written.values()})
    lost, extra = set(load.votes) - set(stored), len(stored) - len(set(load.votes))
    print(
        f"\nrequests that gave different articles: {len(mixed)} of {len(load.written)} ({distinct} different articles)"
    )
    print(f"votes acknowledged: {len(load.votes)}, in the file: {len(stored)}, lost: {len(lost)}, extra: {extra}")
    print(
        f"refused by the full queue: {load.refused}, errors: {len(load.errors)}, tracebacks: {log.count('Traceback')}"
    )
    print(json.dumps(load.errors[:3]) if load.errors else "")
    bad = (
        mixed
        or lost
        or extra
        or load.errors
        or "Traceback" in log
        or not load.votes
        or distinct < len(load.written) // 2
    )
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
