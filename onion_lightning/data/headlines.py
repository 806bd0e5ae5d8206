"""Headlines to write articles for: from a flag or from a file."""

import csv
from collections.abc import Iterable
from pathlib import Path

from onion_lightning.data.reading import HEADLINE_NAMES, parse_object
from onion_lightning.errors import OnionError

__all__ = ["read_headlines"]


def read_headlines(file: Path) -> list[str]:
    """Headlines of a file: one a line, or the headline column of a CSV, TSV or JSONL file."""
    if not file.is_file():
        raise OnionError(f"--data.headlines_file {file}: no such file.")
    try:
        text = file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise OnionError(f"--data.headlines_file {file}: not UTF-8 ({error.reason}); save it as UTF-8.") from error
    if file.suffix.lower() in (".csv", ".tsv"):
        table = csv.reader(text.splitlines(keepends=True), delimiter="\t" if file.suffix.lower() == ".tsv" else ",")
        header, *rows = list(table) or [[]]
        at = header.index(headline_column(header, file))
        return [row[at] if at < len(row) else "" for row in rows if row]
    if file.suffix.lower() in (".jsonl", ".ndjson"):
        records = [parse_object(line) for line in text.split("\n") if line.strip()]
        return [str((record or {}).get(headline_column(record or {}, file)) or "") for record in records]
    return [line for line in text.split("\n") if line.strip()]


def headline_column(names: Iterable[object], file: Path) -> str:
    found = {str(name).strip().lower(): str(name) for name in names}
    for name in HEADLINE_NAMES:
        if name in found:
            return found[name]
    raise OnionError(
        f"--data.headlines_file {file}: no column named {' or '.join(HEADLINE_NAMES)}; it has {', '.join(found) or 'none'}."
    )
