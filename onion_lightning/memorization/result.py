"""Puts the results of the tasks together: figures by group of articles, the most exposed articles, and a verdict."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from scipy.stats import binomtest

from onion_lightning.evaluation.bootstrap import Interval
from onion_lightning.memorization.extraction import Continuation, compare
from onion_lightning.memorization.membership import Membership, try_membership
from onion_lightning.memorization.tasks import SPAN, WAYS, Probe, Row

__all__ = ["SCORES", "Extraction", "Memorization", "ProbedRow", "collect_rows", "summarize"]

SCORES = ("tuned", "tuned_minus_base", "base")
PARTS = {"training": ("once", "repeated"), "once": ("once",), "repeated": ("repeated",), "held_out": ("held_out",)}


@dataclass(frozen=True)
class ProbedRow:
    """What is known about an article: a line of `rows.jsonl`.

    Attributes:
        row: the article.
        scores: loss per token of each system in nats, and their difference.
        continuations: by system, decoding and prefix, where the article is long enough.
    """

    row: Row
    scores: dict[str, float]
    continuations: dict[tuple[str, str, int], Continuation]

    @property
    def closest(self) -> tuple[str, str, int] | None:
        """The continuation of the tuned model that is closest to the article."""
        own = [key for key in self.continuations if key[0] == "tuned"]
        return max(own, key=lambda key: (self.continuations[key].longest, self.continuations[key].bleu), default=None)

    @property
    def exposure(self) -> tuple[int, float]:
        """What articles are ordered by: the longest run that the tuned model copies, then how much it has learned."""
        return self.continuations[self.closest].longest if self.closest else 0, -self.scores["tuned_minus_base"]

    def is_verbatim(self, system: str = "tuned") -> bool:
        return any(one.verbatim for key, one in self.continuations.items() if key[0] == system)

    def to_json(self) -> dict[str, Any]:
        found = [
            {"system": system, "decoding": decoding, "prefix": prefix, **asdict(one)}
            for (system, decoding, prefix), one in self.continuations.items()
        ]
        return {"headline": self.row.headline, "group": self.row.group, "loss": self.scores, "continuations": found}


class Extraction(NamedTuple):
    """How many articles of a group a system continues, after a prefix.

    Attributes:
        rows: number of articles that are long enough.
        verbatim: number that are continued verbatim.
        interval: 95% interval of their share (Clopper and Pearson 1934).
        near_verbatim: number that are continued verbatim or nearly so.
        longest: longest run of tokens copied.
    """

    part: str
    system: str
    decoding: str
    prefix: int
    rows: int
    verbatim: int
    interval: Interval
    near_verbatim: int
    longest: int


@dataclass(frozen=True)
class Memorization:
    """The content of `memorize.json`.

    Attributes:
        settings: what was tested, and how.
        verdict: the result in a sentence.
        verbatim: share of the training articles that the tuned model continues verbatim, in any way that was tried.
        extraction: figures for each part of the articles, system, decoding and prefix.
        membership: by part of the training articles and by score, against the held-out articles.
        notes: what the reader should know about the articles.
    """

    settings: dict[str, Any]
    verdict: str
    verbatim: float
    extraction: list[Extraction]
    membership: dict[str, dict[str, Membership]]
    notes: list[str]

    def to_json(self) -> dict[str, Any]:
        content = {name: getattr(self, name) for name in ("settings", "verdict", "verbatim", "notes")}
        content["extraction"] = [one._asdict() for one in self.extraction]
        found = self.membership.items()
        return content | {"membership": {part: {s: one._asdict() for s, one in by.items()} for part, by in found}}


def collect_rows(
    rows: Sequence[Row], probes: Sequence[Probe], values: dict[int, list[Any]], eos: int
) -> list[ProbedRow]:
    """Assign the results of the tasks to the articles, and compare continuations.

    Args:
        rows: the articles.
        probes: the tasks.
        values: their results, by number.
        eos: id of the EOS token.
    """
    found = [ProbedRow(row, {}, {}) for row in rows]
    for probe in probes:
        for row, value in zip(probe.rows, values[probe.number], strict=True):
            if probe.decoding:
                key = (probe.system, probe.decoding, probe.prefix)
                found[row.position].continuations[key] = compare(value, row.body[probe.prefix :], SPAN, eos)
            else:
                found[row.position].scores[probe.system] = value / len(row.completion)
    for one in found:
        one.scores["tuned_minus_base"] = one.scores["tuned"] - one.scores["base"]
    return found


def summarize(rows: Sequence[ProbedRow], settings: dict[str, Any], notes: list[str], seed: int) -> Memorization:
    """Compute the figures.

    Args:
        rows: the articles.
        settings: reported along with the figures.
        notes: likewise.
        seed: seed of the bootstrap.
    """
    parts = {name: [one for one in rows if one.row.group in groups] for name, groups in PARTS.items()}
    if not parts["repeated"] or not parts["once"]:  # then one of them is all
        parts = {"training": parts["training"], "held_out": parts["held_out"]}
    extraction = [count_extracted(part, own, *way) for way in WAYS for part, own in parts.items()]
    held_out = {score: [one.scores[score] for one in parts["held_out"]] for score in SCORES}
    membership = {
        part: {score: try_membership([one.scores[score] for one in own], held_out[score], seed) for score in SCORES}
        for part, own in parts.items()
        if part != "held_out" and len(own) > 1  # an interval needs two
    }
    continued = {part: [one.is_verbatim() for one in own if one.continuations] for part, own in parts.items()}
    counts = {part: (sum(found), len(found)) for part, found in continued.items()}
    share = counts["training"][0] / max(counts["training"][1], 1)
    return Memorization(settings, state(counts, membership["training"]), share, extraction, membership, notes)


def count_extracted(part: str, rows: Sequence[ProbedRow], system: str, decoding: str, prefix: int) -> Extraction:
    key = (system, decoding, prefix)
    found = [one.continuations[key] for one in rows if key in one.continuations]
    verbatim = sum(one.verbatim for one in found)
    interval = Interval(*binomtest(verbatim, len(found)).proportion_ci()) if found else Interval(0.0, 1.0)
    longest = max((one.longest for one in found), default=0)
    return Extraction(part, *key, len(found), verbatim, interval, sum(one.near for one in found), longest)


def state(counts: dict[str, tuple[int, int]], membership: dict[str, Membership]) -> str:
    """Return the verdict.

    Args:
        counts: by part, the number of articles continued verbatim, and of those that are long enough.
        membership: of all training articles, by score.
    """
    (verbatim, training), (chance, held_out) = counts["training"], counts["held_out"]
    repeated = "" if "repeated" not in counts else " ({} of {} with near-duplicates)".format(*counts["repeated"])
    tuned, both = (
        f"AUC {one.auc:.2f} ({one.auc_interval.low:.2f} to {one.auc_interval.high:.2f})"
        for one in (membership["tuned"], membership["tuned_minus_base"])
    )
    return (
        f"Of {training} training articles {verbatim or 'none'} {'are' if verbatim > 1 else 'is'} continued verbatim for"
        f" {SPAN} tokens{repeated}, and {chance} of {held_out} held-out ones; a reader who has only the model tells training"
        f" articles from others with {tuned}, and one who has the base model as well with {both}."
    )
