"""A preview: everything that the command shows, gathered from the data module."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from onion_lightning.data.flags import check_split
from onion_lightning.data.module import OnionDataModule
from onion_lightning.model.packed_rows import attends_only
from onion_lightning.pretrained.locate import load_config
from onion_lightning.preview.characters import SpelledCharacter, spelled_characters
from onion_lightning.preview.differences import one_line
from onion_lightning.preview.figures import (
    DroppedRow,
    Figures,
    LongRow,
    SplitRow,
    compute_figures,
    count_languages,
    find_dropped,
    longest_rows,
    rows_without_eos,
    straddling_groups,
)
from onion_lightning.preview.rows import Differences, SeenRow, choose_places, find_differences, see_row

__all__ = ["MARK", "Preview", "gather_preview"]

MARK = "onion_lightning preview"  # also in the template of the page
EXAMPLES = 3  # dropped rows of each reason
LONGEST = 5
LINE = 200  # characters of a dropped article in preview.json


@dataclass(frozen=True)
class Preview:
    """What training would see.

    Attributes:
        settings: the flags that determine it.
        read: number of rows read.
        splits: number of rows in each split.
        figures: of the training split.
        rows: training rows, each with what cleaning changed in it; None if texts are not cleaned.
        longest: the longest training rows.
        straddling: groups of near-duplicates whose rows are in different splits.
        languages: number of kept rows in each language, the most frequent first.
        characters: that the tokenizer has no token for.
        dropped: number of dropped rows by reason, without reasons that have none.
        examples: a few dropped rows of each of these reasons.
        cleaned: number of rows affected by each change, without changes that have none.
        sources: number of rows read from and kept of each source; empty if there is only one.
    """

    settings: dict[str, Any]
    read: int
    splits: dict[str, int]
    figures: Figures
    rows: list[tuple[SeenRow, Differences | None]]
    longest: list[LongRow]
    straddling: list[list[SplitRow]]
    languages: dict[str, int]
    characters: list[SpelledCharacter]
    dropped: dict[str, int]
    examples: dict[str, list[DroppedRow]]
    cleaned: dict[str, int]
    sources: dict[str, dict[str, int]]

    def to_json(self) -> str:
        """Return the content of preview.json."""
        content = {
            "written_by": MARK,
            "settings": self.settings,
            "read": self.read,
            **({"sources": self.sources} if self.sources else {}),
            "splits": self.splits,
            "figures": self.figures._asdict(),
            "rows": [row_to_json(row, differences) for row, differences in self.rows],
            "longest": [row._asdict() for row in self.longest],
            "near_duplicates": [[row._asdict() for row in group] for group in self.straddling],
            "languages": self.languages,
            "characters": [character._asdict() for character in self.characters],
            "dropped": {
                reason: {"rows": count, "examples": [shorten_row(row) for row in self.examples[reason]]}
                for reason, count in self.dropped.items()
            },
            "cleaned": self.cleaned,
        }
        return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def row_to_json(row: SeenRow, differences: Differences | None) -> dict[str, Any]:
    return {
        **({"role": row.role} if row.role else {}),
        "headline": row.headline,
        "row": row.row,
        "step": row.step,
        "input_ids": row.ids,
        "supervised": [int(yes) for yes in row.supervised],
        "eos": row.ends,
        "cut_tokens": row.cut_tokens,
        "padding": row.padding,
        "changes": [] if differences is None else differences.changes,
    }


def shorten_row(row: DroppedRow) -> dict[str, str]:
    return {"headline": one_line(row.headline, LINE), "article": one_line(row.article, LINE)}


def gather_preview(data: OnionDataModule, count: int) -> Preview:
    """Encode the corpus, from the cache if possible, and gather what to show.

    Args:
        data: without a Trainer; its corpus is set.
        count: number of training rows.

    Raises:
        OnionError: the corpus cannot be loaded, or has no training rows.
    """
    from onion_lightning.data.corpus import examine  # late: `--help` imports this module

    data.encoded, data.texts, data.report = data.encode()
    check_split(data, "train")
    read = examine(data.paths, data.columns, data.cleaning, data.filters) if data.cleans else None
    pads, sampler = not attends_only(load_config(data.base_model)), data.global_sampler()
    places = choose_places(sampler, count, rows_without_eos(data), len(data.roles))
    rows = [see_row(data, place, pads) for place in places]
    report = data.report
    dropped = {reason: number for reason, number in report.dropped.items() if number}
    return Preview(
        settings=settings_of(data),
        read=report.read,
        splits=report.splits,
        figures=compute_figures(data, sampler, pads),
        rows=[(row, find_differences(read, row.headline) if read else None) for row in rows],
        longest=longest_rows(data, LONGEST),
        straddling=straddling_groups(data),
        languages=count_languages(data),
        characters=spelled_characters(data.tokenizer, texts_of(data)),
        dropped=dropped,
        examples=find_dropped(data, read, EXAMPLES) if read else {reason: [] for reason in dropped},
        cleaned={change: number for change, number in report.cleaned.items() if number},
        sources=report.sources,
    )


def texts_of(data: OnionDataModule) -> Iterator[str]:
    """Yield headline and article of each kept row as one text."""
    for rows in data.texts.values():
        for batch in rows.iter(1000):
            yield from map("{} {}".format, batch["headline"], batch["article"])


def settings_of(data: OnionDataModule) -> dict[str, Any]:
    names = ("path", "base_model", "max_length", "overflow", "global_batch_size", "seed")
    return {name: getattr(data, name) for name in names} | {"language": data.filters.language}
