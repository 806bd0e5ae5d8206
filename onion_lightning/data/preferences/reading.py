"""Reads preference pairs: what `serve --export_votes` writes, and the formats of TRL, as texts or as turns of chats."""

import os
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from onion_lightning.data.corpus import DROP_REASONS
from onion_lightning.data.files.cells import NotTextError, as_text
from onion_lightning.data.files.columns import Layout, Record
from onion_lightning.data.files.formats.encodings import detect_encoding
from onion_lightning.data.files.opening import Table
from onion_lightning.data.files.pairs.instructions import find_instruction, measure_instruction
from onion_lightning.data.files.pairs.turns import last_pair, last_text
from onion_lightning.data.files.reading import JSON, READERS
from onion_lightning.data.prompt import TEMPLATE
from onion_lightning.errors import OnionError, shorten

__all__ = ["PAIR_REASONS", "PreferencePair", "Preferences", "read_pairs"]

PAIR_REASONS = {
    "unreadable": DROP_REASONS["unreadable"],
    "not_text": DROP_REASONS["not_text"],
    "missing": "the prompt or an article is missing or blank",
    "identical": "both articles are the same, at least up to --data.max_length",
    "tie": "as many rows prefer the one article as the other",
    "too_long": DROP_REASONS["too_long"],
}
SUFFIXES = (*JSON, ".parquet")
COLUMNS = ("chosen", "rejected")
PROMPT = re.compile(re.escape(TEMPLATE).replace(r"\{headline\}", "(.+)").replace("\\\n", r"\s*"))


class PreferencePair(NamedTuple):
    """Two articles for a headline, of which the first was preferred."""

    headline: str
    chosen: str
    rejected: str


class Preferences(NamedTuple):
    """The pairs in a file, in their order, the number of its rows, and how many were left out, by reason."""

    pairs: list[PreferencePair]
    read: int
    dropped: dict[str, int]


def read_pairs(path: str) -> Preferences:
    """Read the pairs in a file.

    Args:
        path: the value of `--data.pairs`.

    Raises:
        OnionError: the file cannot be read, or has no pairs.
    """
    records = read_records(path)
    rows = [to_pair(record) for record in records]
    prompts = [row.headline for row in rows if isinstance(row, PreferencePair)]
    around = find_instruction([prompt for prompt in prompts if PROMPT.fullmatch(prompt) is None])
    pairs = [row._replace(headline=headline_of(row.headline, *around)) for row in rows if not isinstance(row, str)]
    votes = Counter(pairs)
    kept = [pair for pair in pairs if votes[pair] != votes[PreferencePair(pair.headline, pair.rejected, pair.chosen)]]
    dropped = Counter(row for row in rows if isinstance(row, str))
    dropped["tie"] = len(pairs) - len(kept)
    return Preferences(kept, len(rows), {reason: dropped[reason] for reason in PAIR_REASONS})


def read_records(path: str) -> list[Record]:
    table = Table(os.path.expanduser(path))
    if not Path(table.file).is_file() or table.suffix not in SUFFIXES:
        problem = "no such file" if not Path(table.file).exists() else "is not a JSON Lines, JSON or Parquet file"
        raise OnionError(
            f"--data.pairs {path}: {problem}; give what serve --export_votes wrote, or pairs as TRL has them."
        )
    with explaining(path):
        encoding = detect_encoding(table, None) if table.suffix in JSON else ""
        with READERS[table.suffix](table, Layout(("prompt",), COLUMNS, encoding)) as (names, rows):
            records = list(rows)
    named = {name for record in records if isinstance(record, dict) for name in record}
    if lacking := [name for name in COLUMNS if name not in named]:
        found = (
            f"the columns are {', '.join(map(repr, sorted(map(str, {*names, *named}))))}" if named else "it is empty"
        )
        raise OnionError(
            f"--data.pairs {path}: has no column {' and no column '.join(lacking)} ({found}); give a file with the columns"
            " prompt, chosen and rejected."
        )
    return records


@contextmanager
def explaining(path: str) -> Iterator[None]:
    """Name the right flag in errors of the readers."""
    try:
        yield
    except OnionError as error:
        raise OnionError(str(error).replace("--data.path", "--data.pairs")) from error
    except (OSError, ValueError, LookupError) as error:  # of parsers
        raise OnionError(f"--data.pairs {path}: could not be read ({shorten(error)}); export it again.") from error


def to_pair(record: Record) -> PreferencePair | str:
    """Return the pair in a row with the whole prompt as its headline, or the reason to leave the row out."""
    if isinstance(record, str):
        return record
    try:
        chosen, rejected = (last_text(record.get(name), of_user=False) for name in COLUMNS)
        prompt = headline_cell(record)
    except NotTextError:
        return "not_text"
    if any(text is None or not text.strip() for text in (prompt, chosen, rejected)):
        return "missing"
    return "identical" if chosen == rejected else PreferencePair(str(prompt), str(chosen), str(rejected))


def headline_cell(record: dict[str, Any]) -> str | None:
    """Return the prompt: a text, the last turn of the user in it, or in the chosen chat, which may begin with the prompt."""
    if record.get("prompt") is not None:
        return last_text(record["prompt"], of_user=True)
    return None if isinstance(record.get("chosen"), str) else as_text(last_pair(record.get("chosen"))[0])


def headline_of(prompt: str, before: str, after: str) -> str:
    """Return the headline in a prompt of this project, or a prompt without the instruction that all of them share."""
    if own := PROMPT.fullmatch(prompt):
        return own.group(1).strip()
    start, end = measure_instruction(prompt, before, after)
    return prompt[start : len(prompt) - end].strip()
