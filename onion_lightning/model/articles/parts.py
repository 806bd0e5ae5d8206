"""Part files: the batches of articles that a rank has written, and how they are merged in the order of the headlines.

A batch is a line with its number, its settings and the number of its articles, followed by a line for each article.
Files are read one batch at a time: memory does not grow with the number of headlines.
"""

import contextlib
import json
from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from onion_lightning.model.articles.record import ArticleBatch, ArticleRecord

__all__ = ["StoredBatch", "encode_batch", "locate_articles", "read_articles", "read_batches", "whole_bytes"]


class StoredBatch(NamedTuple):
    """A batch in a part file.

    Attributes:
        number: of the batch, counted over all ranks.
        settings: fingerprint of what its articles depend on.
        articles: index of each article, and its place among those for the same headline.
        start: offset of its first byte in the file.
        lines: all of its lines; the first one describes the batch.
    """

    number: int
    settings: str
    articles: list[tuple[int, int]]
    start: int
    lines: list[bytes]

    @property
    def end(self) -> int:
        return self.start + sum(map(len, self.lines))


def encode_batch(batch: ArticleBatch, settings: str) -> bytes:
    """Return a batch as it is stored in a part file."""
    header = {"batch": batch.index, "settings": settings, "lines": len(batch.articles)}
    return b"".join(json_line(value) for value in (header, *(article.to_json() for article in batch.articles)))


def json_line(value: dict[str, Any]) -> bytes:
    return (json.dumps(value, ensure_ascii=False) + "\n").encode()


def read_batches(part: Path) -> Iterator[StoredBatch]:
    """Yield the batches of a part file up to the first one that is incomplete; none if there is no such file."""
    if not part.exists():
        return
    with part.open("rb") as stream:
        start = 0
        while (batch := read_batch(stream, start)) is not None:
            yield batch
            start = batch.end


def read_batch(stream: BinaryIO, start: int) -> StoredBatch | None:
    """Read the batch at the current position; None at the end of the file, or if it was not written completely."""
    try:
        header = json.loads(first := stream.readline())
        lines = [stream.readline() for _ in range(header.get("lines", 0))]
        records = map(json.loads, lines)
        articles = [(record["index"], record.get("rank", record["candidate"])) for record in records]
    except ValueError:  # the line is cut off, or damaged by a power failure
        return None
    if not all(line.endswith(b"\n") for line in (first, *lines)):
        return None
    return StoredBatch(header["batch"], header["settings"], articles, start, [first, *lines])


def whole_bytes(part: Path) -> int:
    """Return the size of a part file without an incomplete batch at its end."""
    end = 0
    for batch in read_batches(part):
        end = batch.end
    return end


def read_articles(parts: Sequence[Path], places: np.ndarray) -> Iterator[ArticleRecord]:
    """Yield articles of part files.

    Args:
        parts: the files.
        places: the file and the offset of each article, (articles, 2).
    """
    with contextlib.ExitStack() as opened:
        streams = [opened.enter_context(part.open("rb")) for part in parts]
        for part, offset in places:
            streams[part].seek(offset)
            yield ArticleRecord(**json.loads(streams[part].readline()))


def locate_articles(parts: Sequence[Path]) -> np.ndarray:
    """Return the part file and the offset of each article in the order of the headlines, (articles, 2).

    A batch that is in several part files is counted once.
    """
    found, seen = array("q"), set()
    for number, part in enumerate(parts):
        for batch in read_batches(part):
            if batch.number in seen:
                continue
            seen.add(batch.number)
            offset = batch.start
            for article, line in zip(batch.articles, batch.lines, strict=False):  # an article is after the next line
                offset += len(line)
                found.extend((*article, number, offset))
    table = np.array(found, dtype=np.int64).reshape(-1, 4)
    return table[np.lexsort((table[:, 1], table[:, 0])), 2:]
