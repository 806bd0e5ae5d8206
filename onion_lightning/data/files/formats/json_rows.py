"""Reads JSON: one object per line, an array of objects, an object that contains such an array, or objects one after another.

One row is in memory at a time, however large the file is.
"""

import json
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any, TextIO

from onion_lightning.data.files.columns import OTHER_NAMES, Layout, Record, fold
from onion_lightning.data.files.opening import Table, open_text
from onion_lightning.data.files.pairs.turns import is_turn
from onion_lightning.errors import OnionError, shorten

__all__ = ["parse_object", "read_json"]

LONGEST_LINE = 1 << 24  # characters; a file with a longer first line is read as a document
LONGEST_VALUE = 1 << 26  # characters; where no value ends within them, the file is not valid JSON
FIRST_READ = 1 << 16  # characters
SPACE = " \t\r\n\ufeff"


@contextmanager
def read_json(table: Table, layout: Layout) -> Iterator[tuple[Collection[str], Iterator[Record]]]:
    """Open a JSON file: the names of its columns so far, and its rows."""
    with open_text(table, layout.encoding, newline="\n") as stream:  # U+2028 does not end a line
        lines = has_lines(stream)
    names: dict[str, str] = {}
    with open_text(table, layout.encoding, newline="\n") as stream:
        values = line_values(stream) if lines else Document(stream, table.name, layout).rows()
        yield names, (to_record(value, names) for value in values)


def to_record(value: Any, names: dict[str, str]) -> Record:
    """Return an object as a record, and add its names, and those of the fields of objects in it (with a dot)."""
    if not isinstance(value, dict):
        return "unreadable"
    for key, cell in value.items():
        if key not in names:
            names[key] = fold(key)
            names |= {f"{key}.{inner}": fold(f"{key}.{inner}") for inner in cell} if isinstance(cell, dict) else {}
    return {names[key]: cell for key, cell in value.items()}


def has_lines(stream: TextIO) -> bool:
    """Return whether a file is JSON Lines: the first of several lines, or else the second, is an object by itself."""
    lines = nonblank_lines(stream)
    first, second = next(lines, ""), next(lines, "")
    if second and parse_object(first) is not None:
        return True
    return not first.endswith(("{", "[", ",")) and parse_object(second) is not None


def nonblank_lines(stream: TextIO) -> Iterator[str]:
    while line := stream.readline(LONGEST_LINE):
        if text := line.strip(SPACE):
            yield text


def line_values(stream: TextIO) -> Iterator[Any]:
    for line in stream:
        if text := line.strip(SPACE):
            yield parse_object(text)


def parse_object(text: str) -> dict[str, Any] | None:
    """Parse a JSON object; return None for anything else."""
    try:
        record = json.loads(text)
    except (json.JSONDecodeError, RecursionError):
        return None
    return record if isinstance(record, dict) else None


class Document:
    """Parses a JSON document value by value.

    Args:
        stream: the document.
        source: its name for messages.
        layout: names of columns: an object that has one of them is a row, although it may contain an array of objects.
    """

    def __init__(self, stream: TextIO, source: str, layout: Layout) -> None:
        self.stream, self.source = stream, source
        self.wanted = {name.partition(".")[0] for name in layout.headline + layout.article if name not in OTHER_NAMES}
        self.text, self.at, self.ended, self.number = "", 0, False, 0
        self.decode = json.JSONDecoder().raw_decode

    def rows(self) -> Iterator[Any]:
        """Iterate over the rows: elements of top-level arrays, and top-level objects or the array that one contains."""
        while start := self.peek():
            if start == "[":
                self.take("[")
                yield from self.elements()
            elif start == "{":
                yield from self.members()
            else:
                yield self.value()

    def elements(self) -> Iterator[Any]:
        """Iterate over the elements of an array, behind its bracket."""
        while self.peek() != "]":
            yield self.value()
            self.number += 1
            if self.peek() != "]":
                self.take(",")
        self.take("]")

    def members(self) -> Iterator[Any]:
        """Iterate over the array of objects inside an object, or return the object as a row."""
        self.take("{")
        record: dict[str, Any] = {}
        arrays: list[str] = []
        while self.peek() != "}":
            key = str(self.value())
            self.take(":")
            if self.peek() != "[":
                record[key] = self.value()
            else:
                self.take("[")
                elements = self.elements()
                first = next(elements, None)
                if isinstance(first, dict) and not is_turn(first) and self.wanted.isdisjoint(map(fold, record)):
                    arrays.append(key)
                    self.check_one(arrays)
                    yield first
                    yield from elements
                else:
                    record[key] = [] if first is None else [first, *elements]
            if self.peek() != "}":
                self.take(",")
        self.take("}")
        if not arrays:
            yield record

    def check_one(self, arrays: list[str]) -> None:
        if len(arrays) > 1:
            raise OnionError(
                f"--data.path {self.source}: contains more than one array of objects, {' and '.join(map(repr, arrays))};"
                " save each as a file of its own."
            )

    def value(self) -> Any:
        """Parse the value that begins here."""
        self.peek()
        while True:
            try:
                value, end = self.decode(self.text, self.at)
            except json.JSONDecodeError as error:
                if self.ended or len(self.text) - self.at > LONGEST_VALUE:
                    raise self.invalid(shorten(error)) from error
            except RecursionError as error:
                raise self.invalid("it is nested too deeply") from error
            else:
                if end < len(self.text) or self.ended:  # otherwise the next read may continue a number
                    self.at = end
                    return value
            self.read()

    def take(self, sign: str) -> None:
        """Skip one character.

        Raises:
            OnionError: it is another one than `sign`.
        """
        found = self.peek()
        if found != sign:
            raise self.invalid(f"{found!r} instead of {sign!r}" if found else "it ends too early")
        self.at += 1

    def peek(self) -> str:
        """Skip spaces, and return the next character; "" at the end of the document."""
        while True:
            while self.at < len(self.text) and self.text[self.at] in SPACE:
                self.at += 1
            if self.at < len(self.text) or self.ended:
                return self.text[self.at : self.at + 1]
            self.read()

    def read(self) -> None:
        """Drop what is parsed, and read as much again as remains: a long value is not parsed anew too many times."""
        rest = self.text[self.at :]
        more = self.stream.read(max(FIRST_READ, len(rest)))
        self.text, self.at, self.ended = rest + more, 0, not more

    def invalid(self, why: str) -> OnionError:
        row = f" after row {self.number}" if self.number else ""
        return OnionError(f"--data.path {self.source}: is not valid JSON{row} ({why}); export it again.")
