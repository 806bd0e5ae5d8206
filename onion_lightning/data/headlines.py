"""Loads and checks the headlines that `predict` writes articles for."""

import csv
import sys
from collections.abc import Iterable
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from onion_lightning.data.files.cells import NotTextError, as_text
from onion_lightning.data.files.columns import HEADLINE_NAMES
from onion_lightning.data.files.formats.json_rows import parse_object
from onion_lightning.data.prompt import encode_prompt
from onion_lightning.errors import OnionError
from onion_lightning.messages import tell
from onion_lightning.surrogates import replace_surrogates

__all__ = ["load_headlines", "read_stream"]


def load_headlines(
    headlines: list[str] | None,
    file: str | None,
    tokenizer: PreTrainedTokenizerBase,
    context: int,
    streamed: bytes | None = None,
) -> list[str]:
    """Load the headlines, each as a single line.

    Args:
        headlines: the value of `--data.headlines`.
        file: the value of `--data.headlines_file`.
        tokenizer: the base model's tokenizer.
        context: the base model's context length in tokens.
        streamed: content of the file, if it was read by `read_stream`.

    Raises:
        OnionError: there are no headlines, one is blank, or a prompt does not fit into the context.
    """
    flag = f"--data.headlines_file {file}" if file else "--data.headlines"
    found = (headlines or []) + (read_headlines(Path(file), streamed) if file else [])
    if not found:
        raise OnionError(f"{flag}: no headlines; give --data.headlines 'A Headline' or --data.headlines_file FILE.")
    found = [" ".join(replace_surrogates(headline).split()) for headline in found]
    for number, headline in enumerate(found, 1):
        if not headline:
            raise OnionError(f"{flag}: headline {number} of {len(found)} is blank; remove it.")
        length = len(encode_prompt(tokenizer, headline))
        if length >= context:
            raise OnionError(
                f"{flag}: headline {number} is {length} tokens long including the prompt, but the model's context length is"
                f" {context}; shorten it ({headline[:40]!r}...)."
            )
    return found


def read_stream(file: str) -> bytes | None:
    """Read a headlines file that can be read only once: standard input or a pipe. None if it is an ordinary file, or missing.

    Raises:
        OnionError: standard input is closed.
    """
    path = Path(file)
    if file != "-":
        return path.read_bytes() if path.exists() and not path.is_file() and not path.is_dir() else None
    if sys.stdin is None:
        raise OnionError("--data.headlines_file -: standard input is closed; give a file.")
    if sys.stdin.isatty():
        tell("Type one headline per line, and Ctrl-D on a line of its own to finish.")
    return sys.stdin.buffer.read()


def read_headlines(file: Path, streamed: bytes | None) -> list[str]:
    """Read one headline per line, or the headline column of a CSV, TSV or JSONL file."""
    if streamed is None and not file.is_file():
        raise OnionError(
            f"--data.headlines_file {file}: no such file; give a text, CSV, TSV or JSONL file, or - for standard input."
        )
    try:
        text = (file.read_bytes() if streamed is None else streamed).decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise OnionError(f"--data.headlines_file {file}: is not UTF-8 ({error.reason}); save it as UTF-8.") from error
    match file.suffix.lower():
        case ".csv" | ".tsv" as suffix:
            return headlines_from_csv(text, file, "\t" if suffix == ".tsv" else ",")
        case ".jsonl" | ".ndjson":
            return headlines_from_jsonl(text, file)
        case _:
            return [line for line in text.split("\n") if line.strip()]


def headlines_from_csv(text: str, file: Path, delimiter: str) -> list[str]:
    header, *rows = list(csv.reader(text.splitlines(keepends=True), delimiter=delimiter)) or [[]]
    at = header.index(headline_column(header, file))
    return [row[at] if at < len(row) else "" for row in rows if row]


def headlines_from_jsonl(text: str, file: Path) -> list[str]:
    records = [parse_object(line) or {} for line in text.split("\n") if line.strip()]
    try:
        return [as_text(record.get(headline_column(record, file))) or "" for record in records]
    except NotTextError as error:
        raise OnionError(f"--data.headlines_file {file}: a headline is a list or an object; make it text.") from error


def headline_column(names: Iterable[object], file: Path) -> str:
    found = {str(name).strip().lower(): str(name) for name in names}
    for name in HEADLINE_NAMES:
        if name in found:
            return found[name]
    raise OnionError(
        f"--data.headlines_file {file}: no column named {' or '.join(HEADLINE_NAMES)}; the columns are"
        f" {', '.join(found) or '(none)'}; rename the one with the headlines."
    )
