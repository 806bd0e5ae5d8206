"""Training rows as the loss sees them: the tokens of real micro-batches, and the raw text that each row was read from."""

from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from onion_lightning.data.collate import ExampleBatches
from onion_lightning.data.module import OnionDataModule
from onion_lightning.data.sampler import GlobalBatchSampler, MicroBatch
from onion_lightning.preview.differences import Segment, compare
from onion_lightning.preview.tokens import SeenToken, seen_tokens
from onion_lightning.seeding import hash64

if TYPE_CHECKING:  # `datasets` takes half a second to import, and `--help` imports this module
    from onion_lightning.data.corpus import Examined

__all__ = ["Differences", "Place", "SeenRow", "choose_places", "find_differences", "first_places", "see_row"]


class Place(NamedTuple):
    """Where a row is in the first epoch: its optimizer step, from 1, its micro-batch, and its number in that."""

    step: int
    batch: MicroBatch
    at: int

    @property
    def row(self) -> int:
        """Index in the training split."""
        return self.batch.rows[self.at]


class SeenRow(NamedTuple):
    """A training row as the loss sees it.

    Attributes:
        headline: the row's headline.
        row: index in the training split.
        step: optimizer step, from 1.
        tokens: all tokens of the row.
        whole: whether the article ends where its text does; its source cut others off.
        cut_tokens: number of the article's tokens that were cut off at `--data.max_length`.
        padding: number of padding tokens that the model adds after it.
        role: of the article in a pair; empty if there are no pairs.
    """

    headline: str
    row: int
    step: int
    tokens: list[SeenToken]
    whole: bool
    cut_tokens: int
    padding: int
    role: str = ""

    @property
    def ids(self) -> list[int]:
        return [number for token in self.tokens for number in token.ids]

    @property
    def ends(self) -> bool:
        """Whether the row ends with EOS."""
        return self.tokens[-1].name == "EOS"

    @property
    def supervised(self) -> list[bool]:
        return [token.supervised for token in self.tokens for _ in token.ids]


class Differences(NamedTuple):
    """What cleaning changed in a row.

    Attributes:
        headline: segments of the headline.
        article: segments of the article.
        changes: names of the changes.
    """

    headline: list[Segment]
    article: list[Segment]
    changes: list[str]


def choose_places(sampler: GlobalBatchSampler, count: int, cut: np.ndarray, together: int = 1) -> list[Place]:
    """Return the places of the first rows of training. If all of them have EOS, the first row without replaces the last.

    Args:
        sampler: for one rank.
        count: number of rows, or of pairs.
        cut: whether each row of the training split has no EOS, shape (rows,).
        together: number of rows that follow one another as one: 2 for pairs.
    """
    groups = zip(*[places_of(sampler)] * together, strict=True)
    chosen = list(islice(groups, count))
    if count > 1 and cut.any() and not any(cut[place.row] for group in chosen for place in group):
        chosen[-1] = next(group for group in groups if any(cut[place.row] for place in group))
    return [place for group in chosen for place in group]


def first_places(sampler: GlobalBatchSampler, count: int) -> list[Place]:
    """Return the places of the first rows that are trained next; none if there are none on this rank."""
    return list(islice(places_of(sampler), count))


def places_of(sampler: GlobalBatchSampler) -> Iterator[Place]:
    for batch in sampler:
        step = batch.number // (sampler.accumulate * sampler.world_size) + 1
        yield from (Place(step, batch, at) for at in range(len(batch.rows)))


def see_row(data: OnionDataModule, place: Place, pads: bool) -> SeenRow:
    """Collate the micro-batch of a row, and return what the loss sees of the row.

    Args:
        data: with an encoded corpus.
        place: of the row.
        pads: whether the model pads the rows of a micro-batch.
    """
    batch = ExampleBatches(data.encoded["train"])[place.batch]
    encoded, text = data.encoded["train"][int(place.row)], data.texts["train"][int(place.row)]
    return SeenRow(
        headline=text["headline"],
        row=int(place.row),
        step=place.step,
        tokens=seen_tokens(batch, place.at, data.tokenizer),
        whole=text["whole"],
        cut_tokens=max(encoded["full_length"] - encoded["length"] - int(text["whole"]), 0),
        padding=max(batch["row_lengths"]) - batch["row_lengths"][place.at] if pads else 0,
        role=data.roles[int(place.row) % len(data.roles)],
    )


def find_differences(read: "Examined", headline: str) -> Differences:
    """Compare a kept row with what was read from the source. Among kept rows, a headline's key is unique."""
    from onion_lightning.data.cleaning.headlines import headline_key  # late: `--help` imports this module
    from onion_lightning.data.cleaning.rows import CHANGES
    from onion_lightning.data.corpus import column_values

    keys = column_values(read.judged.clean, "headline_key")
    matches = (keys == hash64(headline_key(headline))) & read.judged.dropped_for("")
    row = int(np.flatnonzero(matches)[0])
    raw, clean = read.raw[row], read.judged.clean[row]
    return Differences(
        headline=compare(raw["headline"], clean["headline"]),
        article=compare(raw["article"], clean["article"]),
        changes=[name for bit, name in enumerate(CHANGES) if clean["changes"] >> bit & 1],
    )
