"""Keeps the results of completed tasks in a file of each rank, so that an interrupted command continues with the others."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from onion_lightning.errors import OnionError, RankError
from onion_lightning.output_folder import writing
from onion_lightning.ranks import connected, place

__all__ = ["Journal"]


class Journal:
    """The files of the ranks on this machine: a line for each task.

    Args:
        folder: the output folder.
        rank: this process's rank.
        settings: what the results depend on.
    """

    def __init__(self, folder: Path, rank: int, settings: Any) -> None:
        self.folder = folder
        self.file = folder / f".memorize.{rank}.part"
        self.settings = repr(settings)

    def begin(self, rows: Any) -> None:
        """Add the rows to what the results depend on."""
        self.settings = hashlib.sha256((self.settings + repr(rows)).encode()).hexdigest()[:16]

    def read(self) -> dict[int, list[Any]]:
        """Return the results with the same settings, by the number of the task. An incomplete line is ignored."""
        found = {}
        for file in sorted(self.folder.glob(".memorize.*.part")):
            for line in file.read_text(encoding="utf-8").splitlines():
                try:
                    number, settings, values = json.loads(line)
                except ValueError:  # the program was killed while it wrote the line
                    continue
                if settings == self.settings:
                    found[number] = values
        return found

    def add(self, number: int, values: list[Any]) -> None:
        """Append the results of a task.

        Raises:
            OnionError: the file cannot be written.
        """
        try:
            with writing("--output", self.folder, "free disk space, then give the same command again"):
                self.folder.mkdir(parents=True, exist_ok=True)
                with self.file.open("a", encoding="utf-8") as stream:
                    # An earlier line may be incomplete.
                    stream.write("\n" + json.dumps([number, self.settings, values]) + "\n")
                    stream.flush()
                    os.fsync(stream.fileno())
        except OnionError as error:
            raise RankError(f"{place()}: {error}" if connected() else str(error)) from error

    def remove(self) -> None:
        """Remove the files, also those of other ranks on this machine."""
        for file in self.folder.glob(".memorize.*.part"):
            file.unlink(missing_ok=True)
