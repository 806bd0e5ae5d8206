"""A generated article, and the records that articles are saved as."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from onion_lightning.data.collate import HeadlineBatch

__all__ = ["Article", "ArticleBatch", "ArticleRecord", "article_batch"]


class Article(NamedTuple):
    """A generated article.

    `finish_reason` is "eos", or "length" if it was truncated at `max_new_tokens` or at the model's context length.
    """

    text: str
    tokens: int
    finish_reason: str


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
    """

    index: int
    candidate: int
    headline: str
    article: str
    tokens: int
    finish_reason: str


@dataclass
class ArticleBatch:
    """The articles for a `HeadlineBatch`. `index` is that of the batch, counted over all ranks."""

    index: int
    articles: list[ArticleRecord]


def article_batch(batch: HeadlineBatch, articles: Sequence[Sequence[Article]]) -> ArticleBatch:
    """Build the records of the articles generated for each headline of a batch."""
    records = [
        ArticleRecord(row, candidate, headline, article.text, article.tokens, article.finish_reason)
        for row, headline, candidates in zip(batch["rows"], batch["headlines"], articles, strict=True)
        for candidate, article in enumerate(candidates)
    ]
    return ArticleBatch(batch["index"], records)
