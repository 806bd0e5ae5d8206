"""Helpers that write small tables and load them as corpora."""

import csv
import random
from pathlib import Path
from typing import Any

import pytest
from transformers import PreTrainedTokenizerBase

from onion_lightning.data.cleaning.settings import Cleaning, Filters
from onion_lightning.data.corpus import Corpus, load_corpus
from onion_lightning.pretrained.locate import load_tokenizer

BODY = (
    "TOLEDO, OH—Citing the egg, officials said on Monday that number {} had been counted twice and that"
    " nobody would ever know why or when."
)
README = Path(__file__).parents[2] / "onion_lightning" / "data" / "README.md"


def body(number: int) -> str:
    """An article of its own for each number."""
    return BODY.format(f"{number} " + " ".join(random.Random(number).choices("abcdefgh", k=6)))


def write_csv(path: Path, rows: list, header: tuple = ("Title", "Published Time", "Content"), **options: Any) -> Path:
    with path.open("w", newline="", encoding=options.pop("encoding", "utf-8")) as stream:
        writer = csv.writer(stream, **options)
        writer.writerow(header)
        writer.writerows(rows)
    return path


def misread(text: str, encoding: str) -> str:
    """UTF-8 as it looks when it is decoded with another encoding; undefined bytes become controls, as on Windows."""
    return "".join(bytes([byte]).decode(encoding, "ignore") or chr(byte) for byte in text.encode())


def put(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def load(path: Path | str, *others: Path | str, **more: Any) -> Corpus:
    """Load one or several sources. Keywords are those of `load_corpus`, or fields of `Cleaning` and `Filters`."""
    cleaning = Cleaning(**{name: more.pop(name) for name in Cleaning._fields if name in more})
    filters = Filters(**{name: more.pop(name) for name in Filters._fields if name in more})
    settings = {"columns": (None, None), "val_fraction": 0.1, "test_fraction": 0.1}
    return load_corpus(list(map(str, (path, *others))), cleaning=cleaning, filters=filters, **(settings | more))


def texts(corpus: Corpus) -> dict[str, str]:
    """The article of each headline, over all splits."""
    return {row["headline"]: row["article"] for split in corpus.splits.values() for row in split}


def readme_table(heading: str) -> dict[str, str]:
    """A two-column table of the package's README, keyed by its first column."""
    section = README.read_text(encoding="utf-8").split(f"\n## {heading}\n")[1].split("\n## ")[0]
    rows = [line.strip("| ").split(" | ") for line in section.splitlines() if line.startswith("| `")]
    return {key.strip("`"): text for key, text in rows}


@pytest.fixture(scope="session")
def tokenizer(tiny_base: Path) -> PreTrainedTokenizerBase:
    return load_tokenizer(str(tiny_base))
