"""OnionDataModule: headline/article pairs as batches of token ids, and headlines to write articles for."""

import hashlib
import os
from functools import cached_property
from pathlib import Path
from typing import Any

import datasets
import lightning.pytorch as pl
from torch.utils.data import DataLoader

from onion_lightning.data.collate import Examples, Headlines
from onion_lightning.data.corpus import column, load_corpus
from onion_lightning.data.encoding import Encoded, encode_corpus
from onion_lightning.data.headlines import read_headlines
from onion_lightning.data.prompt import Overflow, encode_prompt
from onion_lightning.data.sampler import GlobalBatchSampler, HeldOutSampler
from onion_lightning.errors import OnionError
from onion_lightning.pretrained.source import load_config, load_tokenizer

__all__ = ["OnionDataModule"]


class OnionDataModule(pl.LightningDataModule):
    """Reads, cleans, splits and tokenizes a corpus; deals its rows to ranks.

    Args:
        path: CSV, TSV, JSONL or Parquet file, a directory of them, a Hugging Face data set id, or kaggle:OWNER/NAME.
        headline_column: name of the headline's column (found by itself: title, headline).
        article_column: name of the article's column (found by itself: content, article, text, body).
        min_words: articles with fewer words are dropped.
        val_fraction: share of the headlines that goes to validation, chosen by a hash of the headline.
        test_fraction: share of the headlines that goes to test.
        max_length: most tokens of a headline and its article together.
        overflow: what happens to a longer one: cut keeps its beginning, drop leaves it out.
        batch_size: most rows of a micro-batch on one device.
        global_batch_size: rows that the optimizer sees at a step, on all devices together.
        num_workers: processes that prepare batches.
        headlines: predict: headlines to write articles for.
        headlines_file: predict: a text file with a headline a line, or a CSV, TSV or JSONL file with a headline column.
        base_model: set from --model.base_model; its tokenizer is used.
        seed: order of the rows; by default --seed_everything.
    """

    def __init__(
        self,
        path: str = "kaggle:undefinenull/satirical-news-from-the-onion",
        headline_column: str | None = None,
        article_column: str | None = None,
        min_words: int = 20,
        val_fraction: float = 0.05,
        test_fraction: float = 0.05,
        max_length: int = 512,
        overflow: Overflow = "cut",
        batch_size: int = 8,
        global_batch_size: int = 64,
        num_workers: int = 0,
        headlines: list[str] | None = None,
        headlines_file: str | None = None,
        base_model: str = "NousResearch/Llama-2-7b-hf",
        seed: int | None = None,
    ) -> None:
        super().__init__()
        self.path = path
        self.columns = (headline_column, article_column)
        self.min_words = min_words
        self.fractions = (val_fraction, test_fraction)
        self.max_length = max_length
        self.overflow = overflow
        self.batch_size = batch_size
        self.global_batch_size = global_batch_size
        self.num_workers = num_workers
        self.headlines = headlines
        self.headlines_file = headlines_file
        self.base_model = base_model
        self.seed = int(os.environ.get("PL_GLOBAL_SEED", 0)) if seed is None else seed
        self.resume_at = (0, 0)
        self.done_batches: set[int] = set()  # of headlines, written by an earlier run
        self.encoded: dict[str, datasets.Dataset] = {}
        self.report: dict[str, Any] = {}
        self.texts: dict[str, datasets.Dataset] = {}
        check_flags(self)

    def prepare_data(self) -> None:
        """Fill the caches: on one process a node, before the others read them."""
        if self.wants_headlines:
            load_tokenizer(self.base_model)
        else:
            self.encode()

    def setup(self, stage: str) -> None:
        """Load from the caches, on every process.

        Raises:
            OnionError: a split that the stage needs is empty, or there are no headlines.
        """
        self.tokenizer = load_tokenizer(self.base_model)
        if stage == "predict":
            self.rows = self.load_headlines()
            return
        self.encoded, self.texts, self.report = self.encode()
        needed = {"fit": ("train", "validation"), "validate": ("validation",), "test": ("test",)}[stage]
        for split in needed:
            self.check_split(split)
        if stage == "fit":
            self.deal()

    def encode(self) -> Encoded:
        context = self.context
        if self.max_length > context:
            raise OnionError(
                f"--data.max_length {self.max_length}: the context is {context} tokens in"
                f" {self.base_model}; give that or less."
            )
        corpus = load_corpus(self.path, self.columns, self.min_words, *self.fractions)
        return encode_corpus(corpus, load_tokenizer(self.base_model), self.max_length, self.overflow)

    @property
    def context(self) -> int:
        """The base model's context, in tokens."""
        return int(load_config(self.base_model).max_position_embeddings)

    @property
    def wants_headlines(self) -> bool:
        return self.trainer is not None and self.trainer.predicting

    def check_split(self, split: str) -> None:
        limit = getattr(self.trainer, "limit_val_batches", 1) if split == "validation" else 1
        if len(self.encoded[split]) == 0 and limit != 0:
            flag = {"train": "val_fraction", "validation": "val_fraction", "test": "test_fraction"}[split]
            value = self.fractions[0] if flag == "val_fraction" else self.fractions[1]
            raise OnionError(
                f"--data.{flag} {value}: leaves no {split} rows of the {self.report['kept']} that {self.path} has after"
                f" cleaning; give {'a larger' if split != 'train' else 'a smaller'} fraction, or more rows."
            )

    def deal(self) -> None:
        """Form the global batches, and have Lightning step the optimizer after each."""
        trainer = self.trainer
        assert trainer is not None
        lengths = column(self.encoded["train"], "length")
        supervised = lengths - column(self.encoded["train"], "prompt_length")
        self.sampler = GlobalBatchSampler(
            lengths,
            supervised,
            self.batch_size,
            self.global_batch_size,
            trainer.world_size,
            trainer.global_rank,
            self.seed,
        )
        self.sampler.resume_at = self.resume_at
        if trainer.accumulate_grad_batches not in (1, self.sampler.accumulate):
            raise OnionError(
                f"--trainer.accumulate_grad_batches {trainer.accumulate_grad_batches}: it follows from"
                f" --data.global_batch_size {self.global_batch_size} (here {self.sampler.accumulate}); leave it out."
            )
        trainer.accumulate_grad_batches = self.sampler.accumulate

    def resume(self, epoch: int, step: int) -> None:
        """Have the given epoch begin after `step` global batches. Called when a checkpoint is loaded."""
        self.resume_at = (epoch, step)
        if hasattr(self, "sampler"):
            self.sampler.resume_at = self.resume_at
            self.sampler.epoch = epoch

    def flags(self) -> dict[str, Any]:
        """The flags that a checkpoint keeps: which rows there are, how they are cut, and how many make a step."""
        return {
            "global_batch_size": self.global_batch_size,
            "max_length": self.max_length,
            "overflow": self.overflow,
            "min_words": self.min_words,
            "val_fraction": self.fractions[0],
            "test_fraction": self.fractions[1],
        }

    def headlines_of(self, epoch: int, step: int, most: int = 8) -> list[str]:
        """Headlines of the rows that the optimizer sees at a step of an epoch, the first few."""
        rows = self.sampler.global_batches(epoch)[step]
        return [self.texts["train"][int(row)]["headline"] for row in rows[:most]]

    @cached_property
    def fingerprint(self) -> str:
        """What the order of training rows depends on: rows, seed and size of a global batch."""
        rows = hashlib.sha256()
        for batch in self.texts["train"].iter(1000):
            rows.update(repr((batch["headline"], batch["article"])).encode())
        parts = (rows.hexdigest(), self.max_length, self.seed, self.global_batch_size)
        return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]

    def train_dataloader(self) -> DataLoader:
        return DataLoader(
            Examples(self.encoded["train"]), batch_size=None, sampler=self.sampler, num_workers=self.num_workers
        )

    def val_dataloader(self) -> DataLoader:
        return self.held_out("validation")

    def test_dataloader(self) -> DataLoader:
        return self.held_out("test")

    def predict_dataloader(self) -> DataLoader:
        lengths = [len(encode_prompt(self.tokenizer, headline)) for headline in self.rows]
        return DataLoader(Headlines(self.rows), batch_size=None, sampler=self.held_out_sampler(lengths))

    def held_out(self, split: str) -> DataLoader:
        encoded = self.encoded[split]
        sampler = self.held_out_sampler(column(encoded, "length"))
        return DataLoader(Examples(encoded), batch_size=None, sampler=sampler, num_workers=self.num_workers)

    def held_out_sampler(self, lengths: Any) -> HeldOutSampler:
        assert self.trainer is not None
        world, rank = self.trainer.world_size, self.trainer.global_rank
        return HeldOutSampler(lengths, self.batch_size, world, rank, self.done_batches)

    def load_headlines(self) -> list[str]:
        """Headlines from the flags, checked.

        Raises:
            OnionError: none were given, one is blank, or one does not fit the model's context.
        """
        flag = f"--data.headlines_file {self.headlines_file}" if self.headlines_file else "--data.headlines"
        rows = (self.headlines or []) + (read_headlines(Path(self.headlines_file)) if self.headlines_file else [])
        if not rows:
            raise OnionError(
                f"{flag}: no headlines; give --data.headlines '[\"A Headline\"]' or --data.headlines_file FILE."
            )
        rows = [" ".join(row.split()) for row in rows]
        context = self.context
        for number, row in enumerate(rows, 1):
            if not row:
                raise OnionError(f"{flag}: headline {number} of {len(rows)} is blank; remove it.")
            length = len(encode_prompt(self.tokenizer, row))
            if length >= context:
                raise OnionError(
                    f"{flag}: headline {number} is {length} tokens long with its prompt, and the model's context is"
                    f" {context}; shorten it ({row[:40]!r}...)."
                )
        return rows


def check_flags(data: OnionDataModule) -> None:
    for flag, value, good, range_ in (
        ("batch_size", data.batch_size, data.batch_size >= 1, "at least 1"),
        ("global_batch_size", data.global_batch_size, data.global_batch_size >= 1, "at least 1"),
        ("max_length", data.max_length, data.max_length >= 8, "at least 8"),
        ("min_words", data.min_words, data.min_words >= 0, "0 or more"),
        ("num_workers", data.num_workers, data.num_workers >= 0, "0 or more"),
        ("val_fraction", data.fractions[0], 0 <= data.fractions[0] < 1, "from 0 to below 1"),
        ("test_fraction", data.fractions[1], 0 <= data.fractions[1] < 1, "from 0 to below 1"),
    ):
        if not good:
            raise OnionError(f"--data.{flag} {value}: must be {range_}.")
    if sum(data.fractions) >= 1:
        raise OnionError(
            f"--data.val_fraction {data.fractions[0]}: with --data.test_fraction {data.fractions[1]} nothing is left to"
            " train on; give smaller fractions."
        )
