"""OnionDataModule: headline/article pairs as batches of token ids, and headlines to write articles for."""

import contextlib
import hashlib
import os
from functools import cached_property
from typing import TYPE_CHECKING, Any

import lightning.pytorch as pl
import numpy as np
import torch
from torch.utils.data import DataLoader

from onion_lightning.data.cleaning.settings import RENAMED, Cleaning, Filters, NearDuplicates, Truncated
from onion_lightning.data.collate import ExampleBatches, HeadlineBatches
from onion_lightning.data.files.columns import Columns
from onion_lightning.data.flags import check_flags, check_length, check_split, identify, saved_flags
from onion_lightning.data.headlines import load_headlines, read_stream
from onion_lightning.data.limits import check_fraction, set_whole_steps
from onion_lightning.data.prompt import Overflow, encode_prompt
from onion_lightning.data.sampler import GlobalBatchSampler, HeldOutSampler
from onion_lightning.errors import OnionError
from onion_lightning.messages import tell
from onion_lightning.pretrained.locate import load_config, load_tokenizer
from onion_lightning.ranks import connected, share, together

if TYPE_CHECKING:  # `datasets` takes half a second to import, and `--help` imports this module
    import datasets

    from onion_lightning.data.encoding import CorpusReport, Encoded

__all__ = ["OnionDataModule"]


class OnionDataModule(pl.LightningDataModule):
    """Reads, cleans, splits and tokenizes a corpus, and distributes its rows over the ranks.

    Args:
        path: CSV, TSV, JSON, JSON Lines, Parquet or Excel file, also compressed (.gz, .zst, .zip); directory of such files;
            sheet of a workbook (FILE.xlsx::SHEET); SQLite database with a query (FILE.db::SELECT title, body FROM t); Hugging
            Face dataset ID; kaggle:OWNER/NAME; sample for the packaged corpus; or a list of these (one corpus). With
            --data.pairs FILE instead, fit learns preferences (see `fit --data.pairs FILE --help` and configs/README.md).
        headline_column: name of the headline column, or of the column with headline and article; by default, title or
            headline, or what the formats of other tools have. A dot selects a field inside an object, as in title.rendered.
        article_column: name of the article column; by default, content, article, text, body, story and others, or what the
            formats of other tools have (see onion_lightning/data/README.md). A dot selects a field, as in content.rendered.
        encoding: encoding of CSV, TSV and JSON files, such as utf-8, cp1251 or shift_jis; by default, it is detected.
        delimiter: character between the cells of CSV and TSV files (\\t for a tab); by default, it is detected.
        escapechar: character before a quote inside a cell of CSV and TSV files, or "" for none; by default, it is detected.
        separator: text between headline and article in a single column (\\n for a line break); by default, it is detected.
        quotechar: quotation mark around cells of CSV and TSV files, or none; by default, ", unless it is found to be text.
        min_words: minimum number of words in an article; shorter articles are dropped.
        truncated: what to do with an article that an aggregator cut off ("... [+2101 chars]"); drop discards it, cut removes
            the marker and trains without an end-of-sequence token, keep changes nothing.
        near_duplicates: what to do with articles that are nearly the same; drop keeps the longest, keep puts all of them into
            one split.
        language: ISO 639-1 code of the language to keep, auto for that of most articles, or keep for all.
        skip_cleaning: names of cleaning rules that are not applied, such as '["html_tags"]'.
        val_fraction: fraction of headlines in the validation split, selected by a hash of the headline; 0 trains without
            validation, samples and best.ckpt.
        test_fraction: fraction of headlines in the test split, selected by a hash of the headline.
        max_length: maximum number of tokens in an example: prompt, article and end-of-sequence token.
        overflow: what to do with a longer example; cut keeps its beginning, drop discards it.
        batch_size: maximum number of rows in a micro-batch on each device.
        global_batch_size: number of rows per optimizer step over all devices; gradient accumulation is derived from it.
        predict_batch_size: maximum number of headlines that articles are written for at a time on each device; by default,
            batch_size. Larger batches take less time per article, and the key-value cache more memory.
        num_workers: number of worker processes that load batches; 0 loads them in the main process.
        headlines: a headline, or a list of headlines, to write articles for (predict only).
        headlines_file: text file with one headline per line, or CSV, TSV or JSONL file with a headline column (predict only);
            - is standard input.
        base_model: model whose tokenizer is used; set automatically from --model.base_model.
        seed: seed for the order of the training rows; by default, the value of --seed_everything.
    """

    cleans = True  # its texts
    roles: tuple[str, ...] = ("",)  # of the articles in each row that the batch sizes count
    before_training: tuple[str, ...] = ()  # what fit computes before the first step, for plan
    report: "CorpusReport"  # set by `setup`, like `tokenizer`, `rows` and `sampler`

    def __init__(
        self,
        path: str | list[str] = "kaggle:undefinenull/satirical-news-from-the-onion",
        headline_column: str | None = None,
        article_column: str | None = None,
        encoding: str | None = None,
        delimiter: str | None = None,
        escapechar: str | None = None,
        separator: str | None = None,
        quotechar: str | None = None,
        min_words: int = 20,
        truncated: Truncated = "drop",
        near_duplicates: NearDuplicates = "drop",
        language: str = "keep",
        skip_cleaning: list[str] | None = None,
        val_fraction: float = 0.05,
        test_fraction: float = 0.05,
        max_length: int = 512,
        overflow: Overflow = "cut",
        batch_size: int = 8,
        global_batch_size: int = 64,
        predict_batch_size: int | None = None,
        num_workers: int = 0,
        headlines: list[str] | str | None = None,
        headlines_file: str | None = None,
        base_model: str = "NousResearch/Llama-2-7b-hf",
        seed: int | None = None,
    ) -> None:
        super().__init__()
        self.paths = [path] if isinstance(path, str) else path
        quote = "" if quotechar == "none" else quotechar
        self.columns = Columns(headline_column, article_column, encoding, delimiter, escapechar, separator, quote)
        self.cleaning = Cleaning(min_words, truncated, tuple(RENAMED.get(name, name) for name in skip_cleaning or ()))
        self.filters = Filters(near_duplicates, language)
        self.fractions = (val_fraction, test_fraction)
        self.max_length, self.overflow = max_length, overflow
        self.batch_size, self.global_batch_size = batch_size, global_batch_size
        self.predict_batch_size = batch_size if predict_batch_size is None else predict_batch_size
        self.num_workers = num_workers
        self.headlines = [headlines] if isinstance(headlines, str) else headlines
        self.headlines_file = headlines_file
        self.base_model = base_model
        self.seed = int(os.environ.get("PL_GLOBAL_SEED", 0)) if seed is None else seed
        self.resume_at = (0, 0)  # epoch, global batches already processed in it
        self.done_batches: set[int] = set()  # batches of headlines that an interrupted `predict` already wrote
        self.shares_cache = False  # with rank 0, which then fills it alone; set by the command
        self.prepared: Encoded | None = None  # by `prepare_data`, for the `setup` that follows
        self.encoded: dict[str, datasets.Dataset] = {}
        self.texts: dict[str, datasets.Dataset] = {}
        check_flags(self)
        self.path = ", ".join(self.paths)  # in messages

    def prepare_data(self) -> None:
        """Fill the caches, in one process per machine, or in one of all if they share the cache of rank 0."""
        if self.trainer is not None and self.trainer.predicting:
            load_tokenizer(self.base_model)
        else:
            self.fill_cache(self.trainer is None or self.trainer.is_global_zero)

    def fill_cache(self, is_rank_zero: bool) -> None:
        """Encode the corpus, unless rank 0 does so in the same cache."""
        if self.shares_cache and not is_rank_zero:
            return
        deferred = contextlib.suppress(OnionError) if connected() else contextlib.nullcontext()
        with deferred:  # `setup` raises it on all ranks
            self.prepared = self.encode()

    def setup(self, stage: str) -> None:
        """Load the data of a stage from the caches, in every process.

        Raises:
            OnionError: a split that the stage needs is empty, or there are no headlines.
        """
        streamed = self.read_stream_once() if stage == "predict" else None
        with together():
            if stage == "predict":
                self.load_headlines(streamed)
            else:
                self.load_corpus(stage)

    def load_headlines(self, streamed: bytes | None) -> None:
        """Load the headlines of `predict`; `streamed` is the content of a file that can be read only once."""
        self.tokenizer = load_tokenizer(self.base_model)
        self.rows = load_headlines(self.headlines, self.headlines_file, self.tokenizer, self.context, streamed)
        assert self.trainer is not None
        batches = len(self.held_out_sampler([0] * len(self.rows), self.predict_batch_size))
        check_fraction(self.trainer, "limit_predict_batches", batches)

    def load_corpus(self, stage: str) -> None:
        """Load the splits of a stage."""
        self.encoded, self.texts, self.report = self.prepared or self.encode()
        self.prepared = None  # a later stage reads the files again
        for split in {"fit": ("train", "validation"), "validate": ("validation",), "test": ("test",)}.get(stage, ()):
            check_split(self, split)
            self.check_held_out(split)
        if stage == "fit":
            self.make_sampler()
            if self.fractions[0] == 0 and self.trainer is not None:
                self.trainer.limit_val_batches = 0
                tell("--data.val_fraction 0: training without validation, samples and best.ckpt.")

    def encode(self) -> "Encoded":
        """Return the encoded corpus, from the cache if possible, and set the tokenizer."""
        from onion_lightning.data.corpus import load_corpus
        from onion_lightning.data.encoding import encode_corpus
        from onion_lightning.data.files.cache import writing_cache

        check_length(self, self.context)
        with writing_cache():
            corpus = load_corpus(self.paths, self.columns, self.cleaning, self.filters, *self.fractions)
            self.tokenizer = load_tokenizer(self.base_model)
            return encode_corpus(corpus, self.tokenizer, self.max_length, self.overflow)

    def column(self, split: str, name: str) -> np.ndarray:
        """Return a column of the encoded rows of a split, of shape (rows,)."""
        from onion_lightning.data.corpus import column_values

        return column_values(self.encoded[split], name)

    def read_stream_once(self) -> bytes | None:
        """Return what rank 0 reads from a headlines file that can be read only once; None if it is an ordinary file."""
        assert self.trainer is not None
        if self.headlines_file is None:
            return None
        return share(read_stream(self.headlines_file) if self.trainer.is_global_zero else None)

    @property
    def context(self) -> int:
        """The base model's context length in tokens."""
        return int(load_config(self.base_model).max_position_embeddings)

    def check_held_out(self, split: str) -> None:
        """Check the fraction of a held-out split that this command reads; `evaluate` has limits of its own."""
        flag = {"validation": "limit_val_batches", "test": "limit_test_batches"}.get(split)
        if flag is not None and self.trainer is not None and not self.trainer.predicting:
            check_fraction(self.trainer, flag, len(self.held_out_sampler(self.column(split, "length"))))

    def make_sampler(self) -> None:
        """Form the global batches, and set the Trainer's gradient accumulation to one optimizer step per global batch."""
        trainer = self.trainer
        assert trainer is not None
        self.sampler = self.global_sampler(trainer.world_size, trainer.global_rank)
        self.sampler.resume_at = self.resume_at
        if trainer.accumulate_grad_batches not in (1, self.sampler.accumulate):
            raise OnionError(
                f"--trainer.accumulate_grad_batches {trainer.accumulate_grad_batches}: is derived from"
                f" --data.global_batch_size {self.global_batch_size} (here {self.sampler.accumulate}); omit the flag."
            )
        trainer.accumulate_grad_batches = self.sampler.accumulate
        set_whole_steps(trainer, len(self.sampler), self.sampler.accumulate)

    def global_sampler(self, world_size: int = 1, rank: int = 0) -> GlobalBatchSampler:
        """Return the sampler of the training rows for one of the ranks."""
        lengths = self.column("train", "length")
        supervised = lengths - self.column("train", "prompt_length")
        sizes = (self.batch_size, self.global_batch_size)
        return GlobalBatchSampler(lengths, supervised, *sizes, world_size, rank, self.seed)

    def resume(self, epoch: int, step: int) -> None:
        """Start the given epoch after `step` global batches. Called when a checkpoint is loaded."""
        self.resume_at = (epoch, step)
        if hasattr(self, "sampler"):
            self.sampler.resume_at, self.sampler.epoch = self.resume_at, epoch

    def flags(self) -> dict[str, Any]:
        """Return the flags saved in a checkpoint: those that determine the rows, their length and the steps."""
        return saved_flags(self)

    def headlines_of(self, epoch: int, step: int, most: int = 8) -> list[str]:
        """Return the first few headlines of the global batch of an optimizer step."""
        rows = self.sampler.global_batches(epoch)[step]
        return [self.texts["train"][int(row)]["headline"] for row in rows[:most]]

    @cached_property
    def digests(self) -> dict[str, str]:
        """Hash of the rows of each split, in order."""
        from onion_lightning.data.encoding import rows_digest

        return {split: rows_digest(texts) for split, texts in self.texts.items()}

    @cached_property
    def fingerprint(self) -> str:
        """Hash of everything that determines the order of training rows: the rows, the seed and the global batch size."""
        parts = (self.digests["train"], self.max_length, self.seed, self.global_batch_size)
        return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]

    def identity(self) -> dict[str, str]:
        """Return what must be the same on all ranks, by flag: the headlines of `predict`, or rows, splits and tokenizer."""
        return identify(self)

    def train_dataloader(self) -> DataLoader:
        return self.example_dataloader("train", self.sampler)

    def val_dataloader(self) -> DataLoader:
        return self.held_out_dataloader("validation")

    def test_dataloader(self) -> DataLoader:
        return self.held_out_dataloader("test")

    def batches(self, split: str) -> ExampleBatches:
        """Return a split, indexed by micro-batch."""
        return ExampleBatches(self.encoded[split])

    def held_out_dataloader(self, split: str) -> DataLoader:
        return self.example_dataloader(split, self.held_out_sampler(self.column(split, "length")))

    def example_dataloader(self, split: str, sampler: Any) -> DataLoader:
        # Without pinned memory, the host would wait for each copy to the GPU.
        options: dict[str, Any] = {"num_workers": self.num_workers, "pin_memory": torch.cuda.is_available()}
        return DataLoader(self.batches(split), batch_size=None, sampler=sampler, **options)

    def predict_dataloader(self) -> DataLoader:
        lengths = [len(encode_prompt(self.tokenizer, headline)) for headline in self.rows]
        sampler = self.held_out_sampler(lengths, self.predict_batch_size)
        return DataLoader(HeadlineBatches(self.rows), batch_size=None, sampler=sampler)

    def held_out_sampler(self, lengths: Any, batch_size: int | None = None) -> HeldOutSampler:
        assert self.trainer is not None
        world, rank = self.trainer.world_size, self.trainer.global_rank
        return HeldOutSampler(lengths, batch_size or self.batch_size, world, rank, self.done_batches)
