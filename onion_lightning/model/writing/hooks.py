"""How an `OnionModule` writes articles, as hooks of Lightning and as methods."""

import contextlib
from dataclasses import replace
from typing import Any

import lightning.pytorch as pl
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from onion_lightning.data.collate import HeadlineBatch
from onion_lightning.errors import OnionError
from onion_lightning.messages import tell
from onion_lightning.model.articles.record import Article, ArticleBatch, article_batch
from onion_lightning.model.decoding import Decoding
from onion_lightning.model.sharding.pace import Pace, keeping_pace
from onion_lightning.model.writing.best_of import write_articles
from onion_lightning.model.writing.copying import CopyIndex
from onion_lightning.ranks import gather
from onion_lightning.seeding import mix_seed

__all__ = ["WritingHooks"]


class WritingHooks(pl.LightningModule):
    """Writes articles with a model that a subclass loads.

    Attributes:
        tokenizer: of the model.
        decoding: the decoding flags.
        seed: of the sampling.
        pace: of the ranks that share the weights, if they are sharded.
        copies: training articles in which copied runs are searched for; None if there are none at hand.
        copies_digest: hash of their rows.
        copies_read: whether they have been looked for.
    """

    tokenizer: PreTrainedTokenizerBase
    decoding: Decoding
    seed: int
    pace: Pace | None
    copies: CopyIndex | None = None
    copies_digest: str | None = None
    copies_read = False

    @property
    def language_model(self) -> PreTrainedModel:
        """The model that writes."""
        raise NotImplementedError

    @property
    def one_article(self) -> Decoding:
        """The decoding flags, with one candidate."""
        return replace(self.decoding, candidates=1, best_of=1)

    def write(
        self, headlines: list[str], seed: int, decoding: Decoding | None = None, **options: Any
    ) -> list[list[Article]]:
        """Generate articles, by default with the decoding flags; for `options` see `write_articles`."""
        model, chosen = self.language_model, decoding or self.decoding
        return write_articles(model, self.tokenizer, headlines, chosen, seed, self.copies, **options)

    def write_one(self, headline: str) -> str:
        """Generate one article for one headline."""
        [[article]] = self.write([headline], mix_seed(self.seed, 0), self.one_article)
        return article.text

    def prepare_data(self) -> None:
        """Fill the cache of the corpus that `predict` searches for copied runs, in one process per machine."""
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        if self.trainer.predicting and self.decoding.best_of > 1 and data is not None:
            with contextlib.suppress(OnionError):  # `setup` reports it
                data.fill_cache(self.trainer.is_global_zero)

    def setup(self, stage: str) -> None:
        if stage == "predict":
            self.read_copies(self.trainer.datamodule)  # type: ignore[attr-defined]

    def read_copies(self, data: Any) -> None:
        """Prepare the search for copied runs that `--model.best_of` needs. A second call does nothing.

        Where a rank cannot read the corpus, or reads other rows, no rank searches for them, and a line says so.

        Args:
            data: an `OnionDataModule`, or None.
        """
        if self.decoding.best_of == 1 or self.copies_read:
            return
        from onion_lightning.data.encoding import rows_digest  # late: it imports `datasets`

        self.copies_read = True
        rows, digest, problem = None, None, "there is no data module."
        try:
            if data is not None:
                rows = (data.prepared or data.encode()).texts["train"]
                digest = rows_digest(rows)
        except OnionError as error:
            problem = str(error)
        found = gather((digest, problem))
        if rows is not None and all(other == digest for other, _ in found):
            self.copies, self.copies_digest = CopyIndex(rows["headline"], rows["article"]), digest
            return
        reason = next((text for other, text in found if other is None), "the ranks have different rows of --data.path.")
        tell(f"--model.best_of {self.decoding.best_of}: articles are not searched for copied runs: {reason}")

    def predict_step(self, batch: HeadlineBatch, batch_idx: int) -> ArticleBatch:
        """Write all articles for a batch. The seed depends on the batch, not on the number of ranks."""
        everything = replace(self.decoding, candidates=self.decoding.written)
        with keeping_pace(self.pace):
            articles = self.write(batch["headlines"], mix_seed(self.seed, batch["index"]), everything)
        return article_batch(batch, articles)
