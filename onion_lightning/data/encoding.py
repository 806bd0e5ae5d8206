"""A corpus as token ids, through the cache, and the report of what became of its rows."""

import hashlib
import json
from functools import partial
from typing import Any, NamedTuple

import datasets
import numpy as np
from transformers import PreTrainedTokenizerBase

from onion_lightning.data.corpus import SPLITS, Corpus, column
from onion_lightning.data.prompt import Example, Overflow, encode_examples, encode_prompt
from onion_lightning.errors import OnionError

__all__ = ["Encoded", "encode_corpus"]

FEATURES = datasets.Features(
    {"input_ids": datasets.List(datasets.Value("int32"))}
    | {name: datasets.Value("int32") for name in ("prompt_length", "length", "full_length")}
)


class Encoded(NamedTuple):
    """For each split its rows as ids (`input_ids`, `prompt_length`, `length`) and as text, and the corpus report."""

    ids: dict[str, datasets.Dataset]
    texts: dict[str, datasets.Dataset]
    report: dict[str, Any]


def encode_corpus(corpus: Corpus, tokenizer: PreTrainedTokenizerBase, max_length: int, overflow: Overflow) -> Encoded:
    """Tokenize each split. A second call with the same rows and settings reads the cache.

    Raises:
        OnionError: no row is left.
    """
    encode = partial(encode_rows, tokenizer=tokenizer, max_length=max_length, overflow=overflow)
    dropped = dict(corpus.dropped)
    ids, texts, cut, lengths = {}, {}, 0, [np.zeros(0, dtype=int)]
    for split, rows in corpus.splits.items():
        key = cache_key(rows._fingerprint, tokenizer, max_length, overflow)
        every = datasets.Dataset.from_dict({name: [] for name in FEATURES}, features=FEATURES)
        if len(rows):  # mapping no rows would give no columns
            every = rows.map(
                encode, batched=True, remove_columns=rows.column_names, features=FEATURES, new_fingerprint=key
            )
        length, full = column(every, "length"), column(every, "full_length")
        kept = np.flatnonzero(length)
        dropped["too_long"] += len(rows) - len(kept)
        cut += int((full[kept] > length[kept]).sum())
        lengths.append(full[kept])
        ids[split], texts[split] = every.select(kept), rows.select(kept)
    if not any(map(len, ids.values())):
        raise OnionError(
            f"--data.max_length {max_length}: none of the {corpus.kept} articles fits; raise it, or set --data.overflow cut."
        )
    counts = {"read": corpus.read, "kept": sum(map(len, ids.values())), "dropped": dropped}
    splits = {split: len(ids[split]) for split in SPLITS}
    tokens = summarize(np.concatenate(lengths))
    return Encoded(ids, texts, counts | {"cleaned": corpus.cleaned, "cut": cut, "splits": splits, "tokens": tokens})


def encode_rows(
    batch: dict[str, list[str]], tokenizer: PreTrainedTokenizerBase, max_length: int, overflow: Overflow
) -> dict[str, list[Any]]:
    """Ids of a batch of rows; `length` 0 marks a row that is left out."""
    examples = encode_examples(tokenizer, batch["headline"], batch["article"], max_length, overflow)
    kept = [example or Example([], 0, 0) for example in examples]
    columns = {name: [getattr(example, name) for example in kept] for name in Example._fields}
    return columns | {"length": [len(example.input_ids) for example in kept]}


def cache_key(rows: str, tokenizer: PreTrainedTokenizerBase, max_length: int, overflow: Overflow) -> str:
    """Fingerprint of encoded rows. A fast tokenizer's own pickle changes as it is used, so its vocabulary is taken."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    vocabulary = backend.to_str() if backend else json.dumps(tokenizer.get_vocab(), sort_keys=True)
    template = encode_prompt(tokenizer, "")
    parts = (rows, vocabulary, tokenizer.eos_token_id, template, max_length, overflow)
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


def summarize(lengths: np.ndarray) -> dict[str, float]:
    """Tokens of an example, prompt and EOS included, before any is cut."""
    quantiles = dict(zip(("median", "p95", "max"), np.quantile(lengths, (0.5, 0.95, 1)), strict=True))
    return {"mean": round(float(lengths.mean()), 1)} | {name: int(value) for name, value in quantiles.items()}
