"""A generated article, and the records that articles are saved as."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from onion_lightning.data.collate import HeadlineBatch

__all__ = ["Article", "ArticleBatch", "ArticleRecord", "article_batch"]


class Article(NamedTuple):
    """A generated article.

    Attributes:
        text: what was written.
        tokens: its length.
        finish_reason: "eos", or "length" if it was truncated at `max_new_tokens` or at the model's context length.
        candidate: its number among those that were written for the same headline.
        score: how much more probable the headline makes it, in nats per token; None if nothing was chosen by it.
    """

    text: str
    tokens: int
    finish_reason: str
    candidate: int = 0
    score: float | None = None


# Not frozen: Lightning rebuilds what `predict_step` returns when it moves predictions to the CPU, field by field.
@dataclass
class ArticleRecord:
    """A line of the articles file.

    Attributes:
        index: position of the headline in the input.
        candidate: number of the article among those for the same headline.
        headline: text.
        article: text.
        tokens: length of the article.
        finish_reason: as in `Article`.
        rank: 1 for the best of the candidates; None if they were not ranked.
        score: as in `Article`.
    """

    index: int
    candidate: int
    headline: str
    article: str
    tokens: int
    finish_reason: str
    rank: int | None = None
    score: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the fields that have a value."""
        return {name: value for name, value in vars(self).items() if value is not None}


@dataclass
class ArticleBatch:
    """The articles for a `HeadlineBatch`. `index` is that of the batch, counted over all ranks."""

    index: int
    articles: list[ArticleRecord]


def article_batch(batch: HeadlineBatch, articles: Sequence[Sequence[Article]]) -> ArticleBatch:
    """Build the records of the articles generated for each headline of a batch."""
    records = []
    for row, headline, candidates in zip(batch["rows"], batch["headlines"], articles, strict=True):
        for rank, (text, tokens, finish_reason, candidate, score) in enumerate(candidates, 1):
            ranked = (None, None) if score is None else (rank, round(score, 4))
            records.append(ArticleRecord(row, candidate, headline, text, tokens, finish_reason, *ranked))
    return ArticleBatch(batch["index"], records)
