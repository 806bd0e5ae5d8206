"""Writes several articles for each headline and ranks them: first those without faults, then those that fit it best."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from onion_lightning.data.prompt import encode_prompt
from onion_lightning.errors import NonFiniteError
from onion_lightning.model.articles.record import Article
from onion_lightning.model.decoding import Decoding, continue_ids, read_article, writing_mode
from onion_lightning.model.writing.copying import COPIED_WORDS, CopyIndex
from onion_lightning.model.writing.losses import completion_losses
from onion_lightning.model.writing.words import is_looping, words_of

__all__ = ["rank_articles", "write_articles"]

DEFAULT = Decoding()


def write_articles(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    headlines: Sequence[str],
    decoding: Decoding = DEFAULT,
    seed: int = 0,
    copies: CopyIndex | None = None,
    **options: Any,
) -> list[list[Article]]:
    """Generate articles for a batch of headlines.

    The model may be in `train()` mode: it is in `eval()` mode while it generates, so dropout is never active, and returns
    to its mode afterwards.

    Args:
        model: causal language model, such as `OnionModule.language_model`.
        tokenizer: of the model.
        headlines: processed as one batch.
        decoding: how tokens are chosen, and which articles are returned.
        seed: seeds torch's global random number generator. The same seed, headlines and decoding give the same articles.
        copies: with `decoding.best_of`, articles that copy from this corpus come last.
        options: further arguments of `generate`, such as a streamer or stopping criteria, and `flag`: the flag that
            `max_new_tokens` comes from, for messages.

    Returns:
        For each headline a list of `decoding.candidates` articles; with `decoding.best_of`, the best one first.
    """
    prompts = [encode_prompt(tokenizer, headline) for headline in headlines]
    ids = continue_ids(
        model, tokenizer, prompts, replace(decoding, candidates=decoding.written, best_of=1), seed, **options
    )
    articles = [[read_article(one, number, tokenizer) for number, one in enumerate(rows)] for rows in ids]
    if decoding.best_of == 1 or not prompts:
        return articles
    with writing_mode(model, decoding.adapter_strength):
        scores = score(model, tokenizer, prompts, ids)
    ranked = (rank_articles(*each, copies) for each in zip(articles, scores, strict=True))
    return [found[: decoding.candidates] for found in ranked]


def score(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Sequence[int]],
    articles: Sequence[Sequence[Sequence[int]]],
) -> list[list[float]]:
    """Return how much more probable a headline makes each article: log p(article | headline) - log p(article), per token.

    This is their pointwise mutual information, by which Li et al. 2016 ("A Diversity-Promoting Objective Function") rank
    replies: articles that would fit any headline score low. p(article) is the probability after the prompt with an empty
    headline, not after BOS alone: the model has never seen an article without the template, and the difference would mostly
    measure the template (Holtzman et al. 2021, "Surface Form Competition", condition on the bare template, too).

    Args:
        model: causal language model.
        tokenizer: of the model.
        prompts: token ids, one list for each headline.
        articles: for each headline, the token ids of its articles, with EOS.

    Raises:
        NonFiniteError: a score is not finite.
    """
    flat = [list(ids) for rows in articles for ids in rows]
    given = [prompt for prompt, rows in zip(prompts, articles, strict=True) for _ in rows]
    without = completion_losses(model, [encode_prompt(tokenizer, "")] * len(flat), flat)
    losses = zip(completion_losses(model, given, flat), without, flat, strict=True)
    scores = iter([(other - own) / len(ids) for own, other, ids in losses])
    found = [[next(scores) for _ in rows] for rows in articles]
    if not all(math.isfinite(one) for row in found for one in row):
        raise NonFiniteError(
            "--model.best_of: the score of an article is not finite; a value overflowed: try --trainer.precision 32-true."
        )
    return found


def rank_articles(articles: Sequence[Article], scores: Sequence[float], copies: CopyIndex | None) -> list[Article]:
    """Return the articles for one headline with their scores, the best one first.

    Empty ones come last, before them those with the most faults, and the score decides between equals.

    Args:
        articles: in any order.
        scores: of the articles.
        copies: None if there is no corpus to search for copied runs.
    """
    scored = [article._replace(score=one) for article, one in zip(articles, scores, strict=True)]

    def order(article: Article) -> tuple[bool, int, float]:
        return not article.text, faults(article, copies), -(article.score or 0.0)

    return sorted(scored, key=order)


def faults(article: Article, copies: CopyIndex | None) -> int:
    """Count what is wrong with an article, whatever its headline: a loop, a copied run, no ending."""
    copied = copies is not None and copies.longest(article.text).words >= COPIED_WORDS
    return is_looping(words_of(article.text)) + copied + (article.finish_reason != "eos")
