"""Keeps the votes of the blind test in SQLite, counts them, and exports them as preference pairs."""

import json
import math
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from onion_lightning.data.prompt import format_prompt
from onion_lightning.errors import OnionError, reason
from onion_lightning.output_folder import writing

__all__ = ["CHOICES", "Pair", "Tally", "Votes", "export_votes", "wilson_interval"]

CHOICES = ("left", "right", "tie", "neither")

SCHEMA = """
CREATE TABLE IF NOT EXISTS votes (
    pair TEXT PRIMARY KEY,  -- so that a pair is counted once, however often its button is pressed
    time REAL NOT NULL,     -- seconds since 1970
    headline TEXT NOT NULL,
    left_system TEXT NOT NULL,
    right_system TEXT NOT NULL,
    left_text TEXT NOT NULL,
    right_text TEXT NOT NULL,
    choice TEXT NOT NULL CHECK (choice IN ('left', 'right', 'tie', 'neither')),
    model TEXT NOT NULL,
    decoding TEXT NOT NULL
) STRICT
"""


@dataclass(frozen=True)
class Pair:
    """Two articles for one headline.

    Attributes:
        id: unique.
        headline: that both were written for.
        systems: of the left and the right article.
        texts: the articles.
        model: base model and checkpoints.
        decoding: how tokens were chosen.
    """

    id: str
    headline: str
    systems: tuple[str, str]
    texts: tuple[str, str]
    model: str
    decoding: str


@dataclass(frozen=True)
class Tally:
    """The votes on two systems.

    Attributes:
        systems: in a fixed order.
        wins: votes for each of them.
        ties: votes for both.
        neither: votes against both.
    """

    systems: tuple[str, str]
    wins: tuple[int, int]
    ties: int
    neither: int

    @property
    def share(self) -> float | None:
        """The first system's share of the votes that chose one of the two."""
        return self.wins[0] / sum(self.wins) if sum(self.wins) else None

    @property
    def interval(self) -> tuple[float, float] | None:
        """The 95% interval of that share."""
        return wilson_interval(self.wins[0], sum(self.wins)) if sum(self.wins) else None


class Votes:
    """Votes in a SQLite file. A vote is on the disk before `add` returns.

    Args:
        path: the file; it is created with the first vote.

    Raises:
        OnionError: the file is not a database of votes, or cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.expanduser()
        self.lock = threading.Lock()
        if self.path.exists():
            self.rows("pair")
        elif not self.path.parent.is_dir():
            raise OnionError(f"--votes {path}: there is no folder {self.path.parent}; create it, or give another file.")
        nearest = self.path if self.path.exists() else self.path.parent
        if not os.access(nearest, os.W_OK):
            raise OnionError(f"--votes {path}: {nearest} is not writable; give another file.")

    @contextmanager
    def connection(self, mode: str) -> Iterator[sqlite3.Connection]:
        """Open the file for one transaction.

        Args:
            mode: ro for reading, rwc for writing and creating.
        """
        address = f"{self.path.absolute().as_uri()}?mode={mode}"
        try:
            with closing(sqlite3.connect(address, uri=True, timeout=30)) as connection, connection:
                connection.execute("PRAGMA synchronous = EXTRA")  # also the deletion of the journal
                yield connection
        except sqlite3.Error as error:
            remedy = "free disk space" if "full" in str(error) else "give a file of votes, or a new one"
            raise OnionError(f"--votes {self.path}: cannot be used ({reason(error)}); {remedy}.") from error

    def add(self, pair: Pair, choice: str) -> bool:
        """Store a vote.

        Args:
            pair: what was compared.
            choice: one of `CHOICES`.

        Returns:
            Whether it was counted: a pair that was voted on before is not counted again.

        Raises:
            OnionError: the choice is none, or the disk is full.
        """
        if choice not in CHOICES:
            raise OnionError(f"{choice} is not one of {', '.join(CHOICES)}.")
        row = (pair.id, time.time(), pair.headline, *pair.systems, *pair.texts, choice, pair.model, pair.decoding)
        with self.lock, self.connection("rwc") as connection:
            connection.execute(SCHEMA)
            fields = ", ".join("?" * len(row))
            return connection.execute(f"INSERT OR IGNORE INTO votes VALUES ({fields})", row).rowcount == 1

    def tallies(self, identity: Callable[[str, str], str]) -> list[Tally]:
        """Count the votes on each pair of systems that has any, in either position.

        Args:
            identity: returns the models behind two systems, as stored with a vote; those on other models are not counted.
        """
        counts: dict[tuple[str, str], dict[str, int]] = {}
        for left, right, choice, voted in self.rows("left_system, right_system, choice, model"):
            if voted != identity(left, right):
                continue
            first, second = sorted((left, right))
            name = {"left": left, "right": right}.get(choice, choice)
            found = counts.setdefault((first, second), {first: 0, second: 0, "tie": 0, "neither": 0})
            found[name] += 1
        return [
            Tally(pair, (found[pair[0]], found[pair[1]]), found["tie"], found["neither"])
            for pair, found in sorted(counts.items())
        ]

    def preferences(self) -> Iterator[dict[str, str]]:
        """Yield `prompt`, `chosen` and `rejected` of each vote that chose one of two different articles, oldest first."""
        for headline, left, right, choice in self.rows("headline, left_text, right_text, choice"):
            if choice in ("left", "right") and left != right:
                chosen, rejected = (left, right) if choice == "left" else (right, left)
                yield {"prompt": format_prompt(headline), "chosen": chosen, "rejected": rejected}

    def rows(self, columns: str) -> list[tuple[str, ...]]:
        if not self.path.exists():
            return []
        with self.connection("ro") as connection:
            return connection.execute(f"SELECT {columns} FROM votes ORDER BY rowid").fetchall()


def contains_pairs(path: Path) -> bool:
    """Return whether a file begins with a preference pair."""
    try:
        with path.open(encoding="utf-8") as stream:
            first = json.loads(stream.readline())
    except ValueError:
        return False
    return isinstance(first, dict) and first.keys() == {"prompt", "chosen", "rejected"}


def wilson_interval(wins: int, votes: int) -> tuple[float, float]:
    """Return the 95% score interval of a proportion (Wilson 1927).

    Args:
        wins: number of successes.
        votes: number of trials, at least 1.
    """
    z = 1.959964
    share, spread = wins / votes, z * z / votes
    middle = (share + spread / 2) / (1 + spread)
    half = z * math.sqrt(share * (1 - share) / votes + spread / votes / 4) / (1 + spread)
    return max(0.0, middle - half), min(1.0, middle + half)


def export_votes(votes: Votes, path: Path) -> int:
    """Write the preference pairs as JSON Lines, in the format that TRL's DPOTrainer reads, and return their number.

    Raises:
        OnionError: there are none, the file contains something else, or it cannot be written.
    """
    pairs = list(votes.preferences())
    if not pairs:
        raise OnionError(
            f"--export_votes {path}: {votes.path} contains no vote for one of two articles; vote in the blind test first."
        )
    part = path.with_name(f".{path.name}.part")
    with writing("--export_votes", path, "give another file"):
        if path.exists() and not contains_pairs(path):
            raise OnionError(
                f"--export_votes {path}: contains something else than preference pairs; give another file."
            )
        part.write_text("".join(json.dumps(pair, ensure_ascii=False) + "\n" for pair in pairs), encoding="utf-8")
        part.replace(path)
    return len(pairs)
