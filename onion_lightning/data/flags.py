"""Checks the flags of the data module, and lists what a checkpoint saves of them and what identifies its content."""

import os
from typing import Any

from onion_lightning.data.cleaning.settings import Cleaning, Filters
from onion_lightning.data.files.columns import Columns
from onion_lightning.errors import OnionError, check_range
from onion_lightning.seeding import hash64

__all__ = ["check_flags", "check_length", "check_split", "identify", "saved_flags"]


def check_flags(data: Any) -> None:
    """Check the flags of an `OnionDataModule`.

    Raises:
        OnionError: a value is out of range, or two flags contradict each other.
    """
    counts = {"batch_size": 1, "global_batch_size": 1, "predict_batch_size": 1, "max_length": 8}
    for name, smallest in counts.items():
        value = getattr(data, name)
        check_range(f"--data.{name}", value, value >= smallest, f"at least {smallest}")
    paths = data.paths
    good = paths and all(map(str.strip, paths)) and len(set(paths)) == len(paths)
    check_range("--data.path", paths, bool(good), 'a source, or a list of different ones such as ["a.csv", "b.jsonl"]')
    check_cleaning(data.cleaning, data.filters)
    workers, most = data.num_workers, 4 * (os.cpu_count() or 1)
    check_range("--data.num_workers", workers, 0 <= workers <= most, f"from 0 to {most}, four for each CPU")
    check_range("--data.seed", data.seed, data.seed >= 0, "at least 0")  # numpy refuses others
    val, test = data.fractions
    check_range("--data.val_fraction", val, 0 <= val < 1, "at least 0 and less than 1")
    check_range("--data.test_fraction", test, 0 <= test < 1, "at least 0 and less than 1")
    check_columns(data.columns)
    if data.headlines is not None and data.headlines_file is not None:
        raise OnionError(
            f"--data.headlines_file {data.headlines_file}: cannot be combined with --data.headlines; give one of them (null"
            " for the other, if a YAML file sets it)."
        )
    if val + test >= 1:
        raise OnionError(
            f"--data.val_fraction {val}: with --data.test_fraction {test} leaves no rows to train on; give smaller"
            " fractions."
        )


def check_length(data: Any, context: int) -> None:
    """Check `--data.max_length` of an `OnionDataModule` against the base model's context length in tokens.

    Raises:
        OnionError: it is larger.
    """
    if data.max_length > context:
        raise OnionError(
            f"--data.max_length {data.max_length}: the context length is {context} tokens for {data.base_model}; give at most"
            f" {context}."
        )


def check_cleaning(cleaning: Cleaning, filters: Filters) -> None:
    words, language = cleaning.min_words, filters.language
    check_range("--data.min_words", words, words >= 0, "at least 0")
    if cleaning.skipped:
        from onion_lightning.data.cleaning.rows import CHANGES  # late: `--help` needs no HTML parser

        unknown = set(cleaning.skipped) - CHANGES.keys()
        wanted = f"names among {', '.join(CHANGES)}"
        check_range("--data.skip_cleaning", ", ".join(sorted(unknown)), not unknown, wanted)
    if language not in ("keep", "auto"):
        from onion_lightning.data.cleaning.languages import known_languages

        wanted = f"keep, auto, or one of {' '.join(known_languages())}"
        check_range("--data.language", language, language in known_languages(), wanted)


def check_columns(columns: Columns) -> None:
    """Check the flags that select columns and say how files are to be read.

    Raises:
        OnionError: both columns are the same, Python does not know the encoding, or a delimiter is not one character.
    """
    headline, article, encoding, delimiter, escapechar, separator, quotechar = columns
    if headline is not None and article is not None and headline.casefold() == article.casefold():
        raise OnionError(
            f"--data.article_column {article}: is the --data.headline_column too; name another column, or only one of both."
        )
    if separator is not None:
        wanted = "text other than spaces, such as ' | ' or '\\n\\n'"
        check_range("--data.separator", repr(separator), separator.strip(" ") != "", wanted)
        if headline is not None and article is not None:
            raise OnionError(
                f"--data.separator {separator!r}: divides one column; omit --data.headline_column or --data.article_column."
            )
    try:
        "".encode(encoding or "utf-8")
    except (LookupError, UnicodeError) as error:
        raise OnionError(
            f"--data.encoding {encoding}: must be an encoding of text that Python knows, such as utf-8, cp1252, cp1251,"
            " shift_jis or gb18030."
        ) from error
    for flag, value in (("delimiter", delimiter), ("escapechar", escapechar or None)):
        if value is not None and (len(value.replace("\\t", "\t")) != 1 or value in '"\r\n'):
            raise OnionError(f"--data.{flag} {value!r}: must be one character, and not a quote or a line break.")
    if quotechar and (len(quotechar) != 1 or quotechar in "\r\n"):
        raise OnionError(f"--data.quotechar {quotechar!r}: must be one character, and not a line break, or none.")
    if delimiter is not None and delimiter == escapechar:
        raise OnionError(f"--data.escapechar {escapechar}: is the --data.delimiter too; give another character.")
    if quotechar and quotechar in (delimiter, escapechar):
        flag = "delimiter" if quotechar == delimiter else "escapechar"
        raise OnionError(f"--data.quotechar {quotechar}: is the --data.{flag} too; give another character.")


def check_split(data: Any, split: str) -> None:
    """Check that a split of an `OnionDataModule` has rows, if the Trainer needs them.

    Raises:
        OnionError: it is empty.
    """
    trainer = data.trainer
    fits = trainer is not None and trainer.state.fn == "fit"
    unused = getattr(trainer, "limit_val_batches", 1) == 0 or (fits and data.fractions[0] == 0)
    if len(data.encoded[split]) or (split == "validation" and unused):
        return
    flag, value = ("test", data.fractions[1]) if split == "test" else ("val", data.fractions[0])
    raise OnionError(
        f"--data.{flag}_fraction {value}: leaves no {split} rows among the {data.report.kept} that remain from"
        f" {data.path} after cleaning; give a {'smaller' if split == 'train' else 'larger'} fraction, or more rows"
        + (", or 0 to train without validation." if fits and split == "validation" else ".")
    )


def saved_flags(data: Any) -> dict[str, Any]:
    """Return the flags of an `OnionDataModule` that determine the rows, their length and the steps."""
    return {
        "global_batch_size": data.global_batch_size,
        "max_length": data.max_length,
        "overflow": data.overflow,
        "min_words": data.cleaning.min_words,
        "truncated": data.cleaning.truncated,
        "skip_cleaning": list(data.cleaning.skipped),
        "near_duplicates": data.filters.near_duplicates,
        "language": data.filters.language,
        "val_fraction": data.fractions[0],
        "test_fraction": data.fractions[1],
    }


def identify(data: Any) -> dict[str, str]:
    """Return what identifies the content of an `OnionDataModule`, by flag: its headlines, or rows, splits and tokenizer."""
    if not data.texts:
        return {"--data.headlines": f"{len(data.rows)} headlines (fingerprint {short_hash(data.rows)})"}
    from onion_lightning.data.encoding import settings_key

    rows = " + ".join(f"{len(texts)} {split}" for split, texts in data.texts.items())
    tokenizer = settings_key(data.tokenizer, data.max_length, data.overflow)
    return {
        "--data.path": f"{rows} rows (fingerprint {short_hash(data.digests)})",
        "tokenizer and prompt of --model.base_model": f"fingerprint {tokenizer[:8]}",
    }


def short_hash(value: object) -> str:
    return f"{hash64(repr(value)) % 2**32:08x}"
