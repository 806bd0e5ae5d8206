"""Compares continuations with articles: verbatim (Carlini et al. 2022) and near-verbatim (Ippolito et al. 2022)."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import takewhile
from typing import Any

import torch
from transformers import StoppingCriteria

__all__ = ["NEAR", "Continuation", "Hopeless", "bleu", "compare", "longest_run"]

NEAR = 0.75  # BLEU above which Ippolito et al. count a continuation as memorized


@dataclass(frozen=True)
class Continuation:
    """How close a continuation is to the article.

    Attributes:
        leading: number of tokens before the first one that differs.
        verbatim: whether none differs.
        longest: longest run of tokens that occurs anywhere in the rest of the article.
        bleu: BLEU of its tokens, from 0 to 1.
        ids: the tokens, up to EOS.
    """

    leading: int
    verbatim: bool
    longest: int
    bleu: float
    ids: list[int]

    @property
    def near(self) -> bool:
        """Whether it is verbatim or nearly so."""
        return self.bleu > NEAR


def compare(ids: Sequence[int], rest: Sequence[int], span: int, eos: int) -> Continuation:
    """Compare a continuation with the rest of the article, at least `span` tokens."""
    written, truth = list(takewhile(lambda token: token != eos, ids)), list(rest[:span])
    leading = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(written, truth, strict=False)))
    return Continuation(leading, leading == span, longest_run(written, rest), bleu(written, truth), written)


def longest_run(first: Sequence[int], second: Sequence[int]) -> int:
    """Return the length of the longest run of tokens that both contain."""
    return SequenceMatcher(None, first, second, autojunk=False).find_longest_match().size


def bleu(written: Sequence[int], truth: Sequence[int], more: int = 0) -> float:
    """Return BLEU with one to four tokens (Papineni et al. 2002), without smoothing.

    Args:
        written: tokens of the continuation.
        truth: tokens of the article.
        more: number of tokens that are still to be written. Then the result is the highest that BLEU can become.
    """
    total, product = len(written) + more, 1.0
    for n in range(1, 5):
        matches = sum((ngrams(written, n) & ngrams(truth, n)).values())
        count = max(total - n + 1, 0)
        unwritten = count - max(len(written) - n + 1, 0)
        product *= (matches + unwritten) / max(count, 1)
    return float(product**0.25) * (1.0 if total >= len(truth) else math.exp(1 - len(truth) / max(total, 1)))


def ngrams(tokens: Sequence[int], n: int) -> Counter[tuple[int, ...]]:
    return Counter(tuple(tokens[at : at + n]) for at in range(len(tokens) - n + 1))


class Hopeless(StoppingCriteria):
    """Ends a continuation that cannot become nearly verbatim any more, whatever follows: most do not after a few tokens.

    Args:
        truths: tokens of the article for each row.
        width: number of tokens of the prompts, with padding.
    """

    def __init__(self, truths: Sequence[Sequence[int]], width: int) -> None:
        self.truths = truths
        self.width = width
        self.lengths: dict[int, int] = {}  # number of tokens of the rows that were ended

    def __call__(self, input_ids: torch.Tensor, scores: Any, **more: Any) -> torch.Tensor:
        for row, ids in enumerate(input_ids[:, self.width :].tolist()):
            truth = self.truths[row]
            if row not in self.lengths and bleu(ids, truth, len(truth) - len(ids)) <= NEAR:
                self.lengths[row] = len(ids)
        return torch.tensor([row in self.lengths for row in range(len(self.truths))], device=input_ids.device)
