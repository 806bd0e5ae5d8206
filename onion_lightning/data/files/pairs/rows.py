"""Converts records to rows, as a layout says."""

from typing import Any

from onion_lightning.data.files.cells import NotTextError, RawRow, as_text
from onion_lightning.data.files.columns import Layout, Record, field, first_field
from onion_lightning.data.files.pairs.instructions import measure_instruction
from onion_lightning.data.files.pairs.separators import divide
from onion_lightning.data.files.pairs.turns import last_pair, last_text

__all__ = ["to_row"]


def to_row(record: Record, layout: Layout) -> RawRow:
    """Convert a record to a row. What cannot be converted is the row's problem."""
    if isinstance(record, str):
        return RawRow(headline=None, article=None, problem=record, misread="", before=0, after=0)
    pair, before, after = layout.pair, 0, 0
    try:
        if pair.kind == "columns":
            headline = as_text(first_field(record, layout.headline))
            article = as_text(first_field(record, layout.article))
        else:
            headline, article = OTHERS[pair.kind](record, layout)
    except NotTextError:
        return RawRow(headline=None, article=None, problem="not_text", misread="", before=0, after=0)
    if headline is not None and (pair.before or pair.after):
        before, after = measure_instruction(headline, pair.before, pair.after)
    return RawRow(headline=headline, article=article, problem="", misread=layout.misread, before=before, after=after)


def read_filled(record: dict[str, Any], layout: Layout) -> tuple[str | None, str | None]:
    """Return the first headline cell that is not blank, and the article."""
    texts = (as_text(field(record, name)) for name in layout.headline)
    return next((text for text in texts if text and text.strip()), None), as_text(first_field(record, layout.article))


def read_turns(record: dict[str, Any], layout: Layout) -> tuple[str | None, str | None]:
    if layout.headline == layout.article:
        return last_pair(first_field(record, layout.headline))
    headline, article = (first_field(record, names) for names in (layout.headline, layout.article))
    return last_text(headline, of_user=True), last_text(article, of_user=False)


def read_divided(record: dict[str, Any], layout: Layout) -> tuple[str | None, str | None]:
    """Divide the text of a column. A text without the separator is an article without a headline."""
    text = as_text(first_field(record, layout.article))
    return divide(text or "", layout.pair.separator, layout.pair.most_words) or (None, text)


OTHERS = {"filled": read_filled, "turns": read_turns, "divided": read_divided}
