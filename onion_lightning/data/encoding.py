"""Encodes a corpus as token ids, cached by `datasets`, and reports how many rows were kept, dropped, cleaned and cut."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any, NamedTuple

import datasets
import numpy as np
import pyarrow as pa
from transformers import PreTrainedTokenizerBase

from onion_lightning.data.corpus import Corpus, column_values
from onion_lightning.data.prompt import Example, Overflow, encode_examples, encode_prompt
from onion_lightning.errors import OnionError
from onion_lightning.heartbeat import Counter
from onion_lightning.private_api import dataset_fingerprint

__all__ = [
    "CorpusReport",
    "Encoded",
    "TokenCounts",
    "count_tokens",
    "encode_batch",
    "encode_corpus",
    "rows_digest",
    "settings_key",
]

FEATURES = datasets.Features(
    {"input_ids": datasets.List(datasets.Value("int32"))}
    | {name: datasets.Value("int32") for name in ("prompt_length", "length", "full_length")}
)


@dataclass(frozen=True)
class TokenCounts:
    """Tokens per kept example, including prompt and EOS, before examples are cut."""

    mean: float
    median: int
    p95: int
    max: int


@dataclass(frozen=True)
class CorpusReport:
    """What happened to the rows of a corpus. The fields, in this order, are the keys of `corpus_report.json`.

    Attributes:
        read: number of rows read; equals `kept` plus the sum of `dropped`.
        kept: number of rows in all splits.
        dropped: number of rows dropped for each reason in `corpus.DROP_REASONS`.
        cleaned: number of rows affected by each change in `cleaning.CHANGES`.
        misread: number of rows repaired as a whole, by the encoding in which their UTF-8 was read.
        cut: number of kept rows that were cut to `--data.max_length`.
        splits: number of rows in each split.
        tokens: tokens per example.
        sources: number of rows `read` from and `kept` of each source; empty, and no key, if there is only one.
    """

    read: int
    kept: int
    dropped: dict[str, int]
    cleaned: dict[str, int]
    misread: dict[str, int]
    cut: int
    splits: dict[str, int]
    tokens: TokenCounts
    sources: dict[str, dict[str, int]] = field(default_factory=dict)

    def to_json(self) -> str:
        content = {name: value for name, value in asdict(self).items() if name != "sources" or value}
        return json.dumps(content, indent=2, ensure_ascii=False)


class Encoded(NamedTuple):
    """An encoded corpus.

    Attributes:
        ids: for each split, its rows as token ids (`input_ids`, `prompt_length`, `length`, `full_length`).
        texts: for each split, the same rows as text (`headline`, `article`).
        report: the counts.
    """

    ids: dict[str, datasets.Dataset]
    texts: dict[str, datasets.Dataset]
    report: CorpusReport


def encode_corpus(corpus: Corpus, tokenizer: PreTrainedTokenizerBase, max_length: int, overflow: Overflow) -> Encoded:
    """Tokenize every split. A second call with the same rows and settings reads the cache.

    Raises:
        OnionError: no example fits into `max_length`.
    """
    ids, texts, full_lengths = {}, {}, []
    too_long = cut = 0
    from_sources = np.zeros(len(corpus.sources), dtype=int)
    counter = Counter("tokenizing", corpus.kept)
    work = partial(encode_batch, tokenizer=tokenizer, max_length=max_length, overflow=overflow, counter=counter)
    settings = settings_key(tokenizer, max_length, overflow)
    for split, rows in corpus.splits.items():
        encoded = encode_split(rows, work, settings)
        length, full = column_values(encoded, "length"), column_values(encoded, "full_length")
        kept = np.flatnonzero(length)
        too_long += len(rows) - len(kept)
        cut += int((full[kept] > length[kept]).sum())
        full_lengths.append(full[kept])
        from_sources += np.bincount(corpus.source[split][kept], minlength=len(corpus.sources))
        ids[split], texts[split] = encoded.select(kept), rows.select(kept)
    if too_long == corpus.kept:
        raise OnionError(
            f"--data.max_length {max_length}: none of the {corpus.kept} articles fits; increase it, or set"
            " --data.overflow cut."
        )
    report = CorpusReport(
        read=corpus.read,
        kept=corpus.kept - too_long,
        dropped=corpus.dropped | {"too_long": corpus.dropped["too_long"] + too_long},
        cleaned=corpus.cleaned,
        misread=corpus.misread,
        cut=cut,
        splits={split: len(rows) for split, rows in ids.items()},
        tokens=count_tokens(np.concatenate(full_lengths)),
        sources=count_sources(corpus, from_sources),
    )
    return Encoded(ids, texts, report)


def count_sources(corpus: Corpus, kept: np.ndarray) -> dict[str, dict[str, int]]:
    """Return the number of rows read and kept by source; empty if there is only one."""
    counts = zip(corpus.sources.items(), kept.tolist(), strict=True)
    found = {path: {"read": read, "kept": number} for (path, read), number in counts}
    return found if len(found) > 1 else {}


def encode_split(rows: datasets.Dataset, work: Callable[..., pa.Table], settings: str) -> datasets.Dataset:
    """Tokenize the rows of a split, or read them from the cache. A `length` of 0 marks a row to drop.

    Args:
        rows: of the split.
        work: `encode_batch` with its settings.
        settings: the settings as a part of the cache key.
    """
    if not len(rows):  # mapping no rows would return no columns
        return datasets.Dataset.from_dict({name: [] for name in FEATURES}, features=FEATURES)
    key = hashlib.sha256(f"{dataset_fingerprint(rows)} {settings}".encode()).hexdigest()[:16]
    return rows.map(work, batched=True, remove_columns=rows.column_names, features=FEATURES, new_fingerprint=key)


def encode_batch(
    batch: dict[str, list[Any]],
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
    overflow: Overflow,
    counter: Counter,
) -> pa.Table:
    counter.begin(len(batch["headline"]))
    examples = encode_examples(tokenizer, batch["headline"], batch["article"], max_length, overflow, batch["whole"])
    kept = [example or Example([], 0, 0) for example in examples]
    columns = {name: [getattr(example, name) for example in kept] for name in Example._fields}
    columns["length"] = [len(ids) for ids in columns["input_ids"]]
    return pa.table(columns, schema=FEATURES.arrow_schema)  # `datasets` takes longer to convert lists


def settings_key(tokenizer: PreTrainedTokenizerBase, max_length: int, overflow: Overflow) -> str:
    """Return a hash of what the token ids of a text depend on.

    It includes the tokenizer's vocabulary rather than its pickle: the pickle of a fast tokenizer changes when it is used.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    vocabulary = backend.to_str() if backend else json.dumps(tokenizer.get_vocab(), sort_keys=True)
    template = encode_prompt(tokenizer, "")
    parts = (vocabulary, tokenizer.eos_token_id, template, max_length, overflow)
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def rows_digest(texts: datasets.Dataset) -> str:
    """Return a hash of the rows of a split, in their order."""
    rows = hashlib.sha256()
    for batch in texts.iter(1000):
        open_ended = () if all(batch["whole"]) else (batch["whole"],)
        rows.update(repr((batch["headline"], batch["article"], *open_ended)).encode())
    return rows.hexdigest()


def count_tokens(lengths: np.ndarray) -> TokenCounts:
    median, p95, longest = (int(value) for value in np.quantile(lengths, (0.5, 0.95, 1)))
    return TokenCounts(mean=round(float(lengths.mean()), 1), median=median, p95=p95, max=longest)
