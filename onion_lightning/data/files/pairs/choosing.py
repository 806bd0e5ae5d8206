"""Decides how the rows of a table give a headline and an article, from its columns and its first rows."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from onion_lightning.data.files.cells import NotTextError, as_text
from onion_lightning.data.files.columns import (
    ARTICLE_NAMES,
    COMPLETION_NAMES,
    HEADLINE_NAMES,
    INPUT_NAMES,
    PROMPT_NAMES,
    SUMMARY_NAMES,
    TURN_NAMES,
    Columns,
    Layout,
    Pair,
    Record,
    cut,
    field,
    fold,
    named,
    present,
)
from onion_lightning.data.files.pairs.instructions import find_instruction
from onion_lightning.data.files.pairs.rows import to_row
from onion_lightning.data.files.pairs.separators import BLANK_LINE, MOST_WORDS, divide, find_separator, unescape
from onion_lightning.data.files.pairs.turns import last_pair, list_turns
from onion_lightning.errors import OnionError
from onion_lightning.messages import tell_once

__all__ = ["choose_pair"]

SAME = 0.95  # share of the first rows; a column in which as many have the same text contains no headlines
LAST_TURNS = "the last user turn is the headline, the last assistant turn the article"
DIVIDED = 0.5  # share of the first rows that --data.separator must divide
NAMES = (  # of the headline column and the article column, the best first
    *((HEADLINE_NAMES, ARTICLE_NAMES), (PROMPT_NAMES, COMPLETION_NAMES)),
    *((INPUT_NAMES, COMPLETION_NAMES), (HEADLINE_NAMES, COMPLETION_NAMES)),
)
LAST_NAMES = (  # where there is no chat either
    *((PROMPT_NAMES, ARTICLE_NAMES), (INPUT_NAMES, ARTICLE_NAMES)),
    *((HEADLINE_NAMES, SUMMARY_NAMES), (PROMPT_NAMES, SUMMARY_NAMES)),
)


class Head(NamedTuple):
    """What is known of a table.

    Attributes:
        layout: how it was read so far.
        given: the flags.
        names: the names in its header, or those in its first records.
        records: its first rows, as far as they could be read.
        source: its name for messages.
        fixed: whether all rows have the same columns.
    """

    layout: Layout
    given: Columns
    names: Sequence[object]
    records: list[dict[str, Any]]
    source: str
    fixed: bool

    def has(self, names: tuple[str, ...]) -> list[str]:
        """Return those of the names that a column has."""
        return present(names, self.names, list(self.records))

    def texts(self, name: str) -> list[str]:
        """Return the text of each first row in a column; blank for a cell that has none."""
        return [text_of(field(record, name)) for record in self.records]


class Choice(NamedTuple):
    """A way to read a table, and the sentence that says so; blank if it need not be said."""

    layout: Layout
    sentence: str = ""


def choose_pair(
    layout: Layout, given: Columns, names: Sequence[object], records: list[Record], source: str, fixed: bool
) -> Layout | None:
    """Decide how the rows of a table give a headline and an article, and print it unless it is as usual.

    Args:
        layout: how the table was read so far.
        given: the flags.
        names: the names in its header, or those in its first records.
        records: its first `LOOK_AT` rows.
        source: its name for messages.
        fixed: whether all rows have the same columns.

    Returns:
        The layout, or None if a column is missing. Ways in which some of the first rows have an article are preferred.

    Raises:
        OnionError: the separator of `--data.separator` does not divide the rows.
    """
    head = Head(layout, given, names, [row for row in records if isinstance(row, dict)], source, fixed)
    first = None
    for choice in list_choices(head):
        rows = [to_row(record, choice.layout) for record in head.records]
        if any((row["article"] or "").strip() for row in rows):
            return finish(choice, [row["headline"] or "" for row in rows], source)
        first = first or choice
    return finish(first, [], source) if first else None


def finish(choice: Choice, headlines: list[str], source: str) -> Layout:
    """Return the layout of a choice, without the instruction that all headlines share if they are prompts."""
    layout, sentence = choice
    prompts = layout.pair.kind != "columns" or layout.headline[0] in (*PROMPT_NAMES, *INPUT_NAMES)
    before, after = find_instruction([text for text in headlines if text.strip()]) if prompts else ("", "")
    if before or after:
        around = " … ".join(repr(cut(text)) for text in (before, after) if text)
        sentence += f"; the instruction {around} is removed, or kept with --data.skip_cleaning '[\"instruction\"]'"
    if sentence:
        tell_once(f"{source}: {sentence}.")
    return layout._replace(pair=layout.pair._replace(before=before, after=after))


def list_choices(head: Head) -> Iterator[Choice]:
    """Yield the ways in which a table can be read, the best first."""
    flags = [fold(name) for name in (head.given.headline, head.given.article) if name]
    if head.given.separator:
        yield from read_divided(head, flags)
    if len(flags) == 1:
        yield from read_chat(head, flags)
    yield from (choice for names in NAMES for choice in read_columns(head, *names))
    if not flags:
        yield from read_chat(head, [])
    yield from (choice for names in LAST_NAMES for choice in read_columns(head, *names))
    if not head.given.separator and len(flags) < 2 and not (set(head.has(HEADLINE_NAMES)) - set(flags)):
        yield from read_divided(head, flags)


def read_columns(head: Head, headline_names: tuple[str, ...], article_names: tuple[str, ...]) -> Iterator[Choice]:
    """Read a headline column and an article column: of several, the one with the longest text."""
    headline_names, article_names = named(head.given.headline, headline_names), named(head.given.article, article_names)
    headlines, articles = head.has(headline_names), head.has(article_names)
    alone = article_names == SUMMARY_NAMES and len(head.records) < 2  # it describes other tables
    if not headlines or not articles or alone:
        return
    total = {name: sum(map(len, head.texts(name))) for name in articles}
    articles = sorted(articles, key=lambda name: -total[name])
    chats = any(list_turns(field(row, name)) for row in head.records for name in (headlines[0], articles[0]))
    if chats:
        sentence = f"reading `{headlines[0]}` and `{articles[0]}`: {LAST_TURNS}"
        yield Choice(chosen(head, headlines[:1], articles[:1], Pair("turns")), sentence)
    elif headline_names == INPUT_NAMES:
        different = without_same(head, headlines)
        columns = " or, where that is blank, ".join(f"`{name}`" for name in different)
        sentence = f"reading {columns} as the headline and `{articles[0]}` as the article"
        if different != headlines and len(headlines) == 2:
            sentence += f"; `{(set(headlines) - set(different)).pop()}` is the same in nearly all rows, or blank"
        headlines = different
        yield Choice(chosen(head, headlines, articles[:1], Pair("filled")), sentence)
    else:
        sentence = rivals(head, articles)
        if headlines[0] in PROMPT_NAMES or articles[0] in (*COMPLETION_NAMES, *SUMMARY_NAMES):
            sentence = f"reading `{headlines[0]}` as the headline and `{articles[0]}` as the article"
        if not head.fixed:  # later records may have other names
            headlines, articles = [*headlines, *headline_names], [*articles, *article_names]
        yield Choice(chosen(head, headlines, articles, Pair()), sentence)


def chosen(head: Head, headlines: list[str], articles: list[str], pair: Pair) -> Layout:
    only = 1 if head.fixed and pair.kind == "columns" else None
    headline, article = (tuple(dict.fromkeys(names))[:only] for names in (headlines, articles))
    return head.layout._replace(headline=headline, article=article, pair=pair)


def rivals(head: Head, articles: list[str]) -> str:
    """Return the sentence that says which of several article columns is read, or "" if the others are empty."""
    texts = [head.texts(name) for name in articles]
    if not any(sum(map(bool, cells)) > 1 for cells in zip(*texts, strict=True)):
        return ""
    return (
        f"the article column is {articles[0]}, which has the longest text in the first {len(head.records)} rows of"
        f" {' and '.join(head.has(ARTICLE_NAMES))}; select another one with --data.article_column"
    )


def without_same(head: Head, names: list[str]) -> list[str]:
    """Leave out the columns in which nearly all first rows have the same text, or none: a constant instruction."""
    filled = {name: Counter(text for text in head.texts(name) if text.strip()) for name in names}
    different = [
        name
        for name, texts in filled.items()
        if texts and (len(head.records) == 1 or texts.most_common(1)[0][1] < SAME * texts.total())
    ]
    return different or names


def read_chat(head: Head, names: list[str]) -> Iterator[Choice]:
    """Read headline and article from one column of chats: one of these, or the one with most chats."""
    fields = [*TURN_NAMES, *(name for record in head.records for name in list_fields(record))]
    found = {name: sum(map(has_pair, (field(row, name) for row in head.records))) for name in names or fields}
    best = max(found, key=lambda name: found[name])
    if found[best]:
        yield Choice(chosen(head, [best], [best], Pair("turns")), f"reading `{best}`: {LAST_TURNS}")


def list_fields(record: dict[str, Any]) -> Iterator[str]:
    """Yield the names of the columns, and those of the fields of objects in them."""
    for name, cell in record.items():
        yield name
        if isinstance(cell, dict):
            yield from (fold(f"{name}.{inner}") for inner in cell)


def has_pair(cell: Any) -> bool:
    try:
        return None not in last_pair(cell)
    except NotTextError:
        return False


def read_divided(head: Head, names: list[str]) -> Iterator[Choice]:
    """Read headline and article from one column of texts: this one, or the one with the longest texts.

    Raises:
        OnionError: the separator of `--data.separator` does not divide the rows, and there are no columns without it.
    """
    names = names or head.has(ARTICLE_NAMES)
    if not names and (not head.fixed or not head.layout.headline):  # every column was read
        names = list(dict.fromkeys(name for row in head.records for name in row))
    longest = max(names, key=lambda name: sum(map(len, head.texts(name))), default="")
    texts = [text for text in head.texts(longest) if text.strip()]
    if not texts:
        return
    if head.given.separator:
        separator, most_words = unescape(head.given.separator), 0
        divided = sum(divide(text, separator, 0) is not None for text in texts)
        if divided < DIVIDED * len(texts) and not list(read_columns(head, HEADLINE_NAMES, ARTICLE_NAMES)):
            raise OnionError(
                f"--data.separator {head.given.separator!r}: divides {divided} of the first {len(texts)} texts in the column"
                f" {longest} of {head.source}; give what is between headline and article there."
            )
        found = separator if divided >= DIVIDED * len(texts) else None
    else:
        found, most_words = find_separator(texts), MOST_WORDS
    if found is not None:
        sign = "blank line" if found == BLANK_LINE else repr(found)
        sentence = f"reading `{longest}`: the headline is before the first {sign}, the article after it"
        sentence += "" if head.given.separator else "; override with --data.separator"
        yield Choice(chosen(head, [longest], [longest], Pair("divided", found, most_words)), sentence)


def text_of(cell: Any) -> str:
    try:
        return as_text(cell) or ""
    except NotTextError:
        return ""
