"""Measures every article of an evaluation and groups the articles of all systems by headline."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from transformers import PreTrainedTokenizerBase

from onion_lightning.evaluation.style import TextMeasures, measure_text
from onion_lightning.evaluation.tasks import EvaluationData, ScoredArticle
from onion_lightning.model.writing.copying import COPIED_WORDS, CopiedRun, CopyIndex

__all__ = ["MeasuredArticle", "Sample", "build_samples"]


@dataclass(frozen=True)
class MeasuredArticle:
    """An article with all its measures."""

    scored: ScoredArticle
    measures: TextMeasures
    copied: CopiedRun

    @property
    def is_cut(self) -> bool:
        return self.scored.finish_reason == "length"

    @property
    def is_copied(self) -> bool:
        return self.copied.words >= COPIED_WORDS

    def to_json(self) -> dict[str, Any]:
        scored = self.scored
        keys = {"article": scored.text, "headline_rank": scored.rank} | asdict(self.measures)
        keys |= {"headline_top_1": scored.rank == 1, "headline_mrr": 1 / scored.rank}
        keys |= {"copied_words": self.copied.words, "copied_from": self.copied.headline, "copied_rate": self.is_copied}
        if scored.loss is not None:
            keys |= {"loss": scored.loss}
        if scored.system != "real":
            keys |= {"new_tokens": scored.tokens, "eos_rate": scored.finish_reason == "eos", "cut_rate": self.is_cut}
        if scored.seconds is not None:
            keys |= {"seconds": scored.seconds}
        return keys


@dataclass(frozen=True)
class Sample:
    """A headline with the real article and those of all systems: a line of `samples.jsonl`.

    Attributes:
        headline: text of the headline.
        tokens: number of scored tokens of the real article.
        bytes: size of their text in UTF-8.
        shots: number of examples in the few-shot prompt.
        systems: articles by system, "real" included.
    """

    headline: str
    tokens: int
    bytes: int
    shots: int
    systems: dict[str, MeasuredArticle]

    def to_json(self) -> dict[str, Any]:
        keys = {"headline": self.headline, "tokens": self.tokens, "bytes": self.bytes, "shots": self.shots}
        return keys | {"systems": {name: article.to_json() for name, article in self.systems.items()}}


def build_samples(
    articles: Sequence[ScoredArticle], data: EvaluationData, tokenizer: PreTrainedTokenizerBase
) -> list[Sample]:
    """Measure all articles and group them by headline.

    Args:
        articles: scored articles in any order.
        data: the test headlines, the systems and the training articles.
        tokenizer: tokenizer of the base model.
    """
    found = {(article.position, article.system): article for article in articles}
    samples = []
    for row in data.rows:
        size = len(tokenizer.decode(row.completion, skip_special_tokens=True).encode())
        systems = {
            name: measure_article(row.headline, found[row.position, name], data.copies)
            for name in (*data.systems, "real")
        }
        samples.append(Sample(row.headline, len(row.completion), size, row.shot_count, systems))
    return samples


def measure_article(headline: str, article: ScoredArticle, index: CopyIndex) -> MeasuredArticle:
    return MeasuredArticle(article, measure_text(headline, article.text), index.longest(article.text))
