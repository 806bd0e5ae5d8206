"""Compares continuations with articles: verbatim (Carlini et al. 2022) and near-verbatim (Ippolito et al. 2022)."""

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import takewhile

__all__ = ["NEAR", "Continuation", "bleu", "compare", "longest_run"]

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


def bleu(written: Sequence[int], truth: Sequence[int]) -> float:
    """Return BLEU with one to four tokens (Papineni et al. 2002), without smoothing."""
    from torchmetrics.functional.text import bleu_score  # late: it takes long to import

    return float(bleu_score([" ".join(map(str, written))], [[" ".join(map(str, truth))]]))
