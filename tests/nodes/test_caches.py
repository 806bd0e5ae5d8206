"""The corpus is prepared once where machines share their cache; `test_launchers.py` has two caches."""

import csv
import threading
from pathlib import Path

import pytest

from tests.tiny import sample_rows

pytestmark = pytest.mark.nodes


@pytest.fixture
def large_corpus(tmp_path):
    """A CSV file with so many rows that each file of the cache takes a while to be written."""
    file, rows = tmp_path / "large.csv", sample_rows()[:200]
    with file.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["Title", "Content"])
        for part in range(20):
            for row in rows:
                words = row["Content"].split()[part * 5 :]
                writer.writerow([f"{row['Title']} {part}", f"{part} {' '.join(words[:60])}"])
    return file


class Watch(threading.Thread):
    """Collects the files that are written in a cache, also those that others replace, until it is stopped.

    Args:
        folder: of the cache.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(daemon=True)
        self.folder = folder
        self.inodes: set[int] = set()
        self.stopped = threading.Event()

    def run(self) -> None:
        while not self.stopped.wait(0.005):
            for file in self.folder.rglob("*"):
                if file.suffix == ".arrow" or file.name.startswith("tmp"):  # `datasets` renames them
                    try:
                        self.inodes.add(file.stat().st_ino)
                    except FileNotFoundError:
                        continue


def test_a_shared_cache_is_filled_once(machines, words, large_corpus, tmp_path):
    cache = tmp_path / "shared"
    cache.mkdir()
    watch = Watch(cache)
    watch.start()
    more = ("--data.path", str(large_corpus), "--data.near_duplicates", "keep", "--trainer.max_steps", "1")
    more += ("--trainer.limit_val_batches", "1")
    pair = machines.torchrun(*[words("fit", *more, machine=one) for one in machines.both], shared_cache=cache)
    assert pair.wait() == (0, 0), pair.text()
    watch.stopped.set()
    watch.join()
    assert len(watch.inodes) == len(list(cache.rglob("*.arrow"))) >= 4  # read, cleaned, and the tokens of two splits
