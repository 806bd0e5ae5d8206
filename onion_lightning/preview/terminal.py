"""Prints a preview, or a single row, on the terminal."""

from collections.abc import Iterator, Sequence
from itertools import accumulate
from pathlib import Path

from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from onion_lightning.messages import stderr_console
from onion_lightning.preview.differences import one_line, visible
from onion_lightning.preview.page import (
    describe_character,
    describe_differences,
    describe_end,
    describe_row,
    list_figures,
)
from onion_lightning.preview.result import Preview
from onion_lightning.preview.rows import Differences, SeenRow
from onion_lightning.preview.tokens import SeenToken

__all__ = ["show_preview", "show_row"]

WIDTH = 100  # columns
PROMPT, BEGINNING, END = 160, 230, 120  # characters of a row
CHARACTERS, SNIPPETS, GROUPS, GROUP_ROWS = 8, 3, 3, 4  # shown at most
CONTEXT = 16  # characters around a difference


def show_preview(preview: Preview, page: Path) -> None:
    """Print the rows, the figures, what cleaning changed and what was dropped, and the path of the page."""
    console = stderr_console()
    for row, differences in preview.rows:
        show_row(console, row, differences)
    tables = (
        source_table,
        figure_table,
        longest_table,
        straddling_table,
        character_table,
        dropped_table,
        cleaned_table,
    )
    for table in (build(preview) for build in tables):
        if table.row_count:
            console.print(table, width=min(console.width, WIDTH), highlight=False)
    console.print(f"Page: {page}", highlight=False, markup=False, soft_wrap=True)


def show_row(console: Console, row: SeenRow, differences: Differences | None = None) -> None:
    """Print a row in a few lines: its prompt, the beginning and the end of what is trained, and what cleaning changed."""
    prompt = [token for token in row.tokens if not token.supervised]
    trained = [token for token in row.tokens if token.supervised]
    article = shorten(trained, BEGINNING, END, "green")
    if cut := describe_end(row):
        article.append(f" [{cut}]", "bold yellow")
    if row.padding:
        article.append(f" [PAD × {row.padding}]", "dim")
    lines = Table.grid(padding=(0, 2))
    lines.add_row("prompt", shorten(prompt, PROMPT // 2, PROMPT // 2, "dim"))
    lines.add_row("trained", article)
    if differences is not None and (changed := list(snippets(differences))):
        lines.add_row("cleaned", Text("  ").join(changed))
    width = min(console.width, WIDTH)
    console.print(Text(f"  {describe_row(row)}", "bold"), width=width)
    console.print(Padding(lines, (0, 0, 0, 4), expand=False), width=width, highlight=False)
    console.print()


def shorten(tokens: Sequence[SeenToken], beginning: int, end: int, style: str) -> Text:
    """Return the first and the last tokens on one line, with at most this many characters, and the number between them."""
    shown = [show_token(token) for token in tokens]
    if sum(map(len, shown)) <= beginning + end:
        first, last = len(shown), 0
    else:
        first = sum(length <= beginning for length in accumulate(map(len, shown)))
        last = sum(length <= end for length in accumulate(map(len, reversed(shown))))
    text = Text("".join(shown[:first]).lstrip(), style)
    if between := len(shown) - first - last:
        text.append(f" … {between:,} tokens … ", "not dim default")
    return text.append("".join(shown[len(shown) - last :]).lstrip() if last else "")


def show_token(token: SeenToken) -> str:
    """Return the text of a token on one line; special tokens by name."""
    if token.name:
        return f"[{token.name}] " if token.name == "BOS" else f" [{token.name}]"
    return "".join(character if character.isprintable() else f"{visible(character)} " for character in token.text)


def snippets(differences: Differences) -> Iterator[Text]:
    """Yield the first differences between raw and cleaned text with their surroundings, and what kind they are."""
    segments = [*differences.headline, *differences.article]
    changed = [at for at, segment in enumerate(segments) if not segment.is_same]
    for at in changed[:SNIPPETS]:
        before = one_line(segments[at - 1].after[-CONTEXT:], CONTEXT) if at else ""
        after = one_line(segments[at + 1].after[:CONTEXT], CONTEXT) if at + 1 < len(segments) else ""
        snippet = Text(f"“{before}")
        snippet.append(f"[-{visible(segments[at].before)[:40]}-]" if segments[at].before else "", "red")
        snippet.append(f"[+{visible(segments[at].after)[:40]}+]" if segments[at].after else "", "green")
        yield snippet.append(f"{after}”")
    if changed:
        yield Text(f"({describe_differences(differences)})", "dim")


def make_table(*titles: str, right: int = 1) -> Table:
    """Return an empty table; the columns from `right` on are aligned to the right."""
    table = Table(*titles, box=box.SIMPLE_HEAD)
    for column in table.columns[right:]:
        column.justify = "right"
    return table


def source_table(preview: Preview) -> Table:
    table = make_table("sources", "rows", "kept")
    for path, counts in preview.sources.items():
        table.add_row(Text(path), f"{counts['read']:,}", f"{counts['kept']:,}")
    return table


def figure_table(preview: Preview) -> Table:
    table = make_table("training rows", f"{preview.figures.rows:,}")
    table.add_column("")
    for figure in list_figures(preview):
        table.add_row(figure.title, figure.value, Text(figure.note, "dim"))
    return table


def longest_table(preview: Preview) -> Table:
    table = make_table("longest rows", "tokens", "trained on")
    for row in preview.longest:
        table.add_row(one_row(row.headline), f"{row.full_length:,}", f"{row.length:,}")
    return table


def straddling_table(preview: Preview) -> Table:
    table = make_table("near-duplicates across splits", "split", right=2)
    for group in preview.straddling[:GROUPS]:
        for row in group[:GROUP_ROWS]:
            table.add_row(one_row(row.headline), row.split)
        table.add_section()
    return table


def character_table(preview: Preview) -> Table:
    table = make_table("characters without a token", "", "rows", right=2)
    for character in preview.characters[:CHARACTERS]:
        name = Text(f"{visible(character.character)}  {character.name}")
        table.add_row(name, describe_character(character), f"{character.rows:,}")
    return table


def dropped_table(preview: Preview) -> Table:
    table = make_table("dropped rows", "rows")
    for reason, count in preview.dropped.items():
        table.add_row(reason.replace("_", " "), f"{count:,}")
        for row in preview.examples[reason]:
            table.add_row(one_row(f"  {row.headline or '(no headline)'}: {row.article or '(no article)'}", "dim"), "")
    return table


def cleaned_table(preview: Preview) -> Table:
    table = make_table("cleaned", "rows")
    for change, count in preview.cleaned.items():
        table.add_row(change.replace("_", " "), f"{count:,}")
    return table


def one_row(text: str, style: str = "") -> Text:
    """Return the beginning of a text, as much as fits into the column; spaces at its beginning are kept."""
    indent = " " * (len(text) - len(text.lstrip(" ")))
    return Text(indent + one_line(text, WIDTH), style, no_wrap=True, overflow="ellipsis")
