"""Renders a preview as `preview.html`: one file without scripts that needs no network."""

from functools import partial
from typing import NamedTuple

import jinja2

from onion_lightning.preview.characters import SpelledCharacter
from onion_lightning.preview.differences import one_line, visible
from onion_lightning.preview.figures import MAX_COMPARED
from onion_lightning.preview.result import Preview
from onion_lightning.preview.rows import Differences, SeenRow

__all__ = [
    "Figure",
    "describe_character",
    "describe_differences",
    "describe_end",
    "describe_languages",
    "describe_row",
    "list_figures",
    "render_page",
]

CHARACTERS = 40  # without a token, at most
LINE = 160  # characters of a dropped article
LANGUAGES = 4  # besides the most frequent, at most
GROUPS = 10  # groups of near-duplicates, at most


class Figure(NamedTuple):
    """A figure as text, and what it means."""

    title: str
    value: str
    note: str


def render_page(preview: Preview) -> str:
    """Return the page. All text from the corpus is escaped, and the content security policy forbids every request."""
    from onion_lightning.data.cleaning.rows import CHANGES  # late: `--help` imports this module
    from onion_lightning.data.corpus import DROP_REASONS
    from onion_lightning.data.preferences.reading import PAIR_REASONS

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("onion_lightning.preview", ""),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"visible": visible, "count": "{:,}".format, "line": partial(one_line, length=LINE)}
    environment.filters["sentence"] = lambda text: text[:1].upper() + text[1:]
    environment.globals |= {
        "reasons": PAIR_REASONS | DROP_REASONS,
        "changes": CHANGES,
        "describe_character": describe_character,
        "describe_differences": describe_differences,
        "describe_end": describe_end,
        "describe_row": describe_row,
        "most_groups": GROUPS,
        "most_characters": CHARACTERS,
    }
    return environment.get_template("preview.html.jinja").render(preview=preview, figures=list_figures(preview))


def list_figures(preview: Preview) -> list[Figure]:
    """Return the figures of the training split."""
    settings, found = preview.settings, preview.figures
    padded = "rows are padded to the longest of their micro-batch" if found.padding else "rows follow one another"
    ends = (
        f"cut to --data.max_length {settings['max_length']}, or by their source"
        if found.without_eos
        else "no row is cut"
    )
    searched = "" if sum(preview.splits.values()) <= MAX_COMPARED else f"; {MAX_COMPARED:,} rows were compared"
    return [
        Figure(
            "tokens in the loss",
            f"{found.supervised_share:.1%}",
            f"{found.supervised:,} of {found.tokens:,}; prompts are not predicted",
        ),
        Figure("rows without EOS", share(found.without_eos, found.without_eos_share), ends),
        Figure("padding", share(found.padding, found.padding_share), padded),
        Figure(
            "near-duplicates across splits",
            plural(len(preview.straddling), "group"),
            f"similar articles that are not all in one split{searched}",
        ),
        Figure("rows in another language", *describe_languages(preview)),
        Figure(
            "characters without a token",
            f"{len(preview.characters):,}" if preview.characters else "none",
            "the tokenizer spells them in bytes, or loses them",
        ),
    ]


def describe_languages(preview: Preview) -> tuple[str, str]:
    """Return the number of rows that are not in the most frequent language, and what languages these are."""
    (most, _), *others = preview.languages.items()
    rows, count = sum(preview.languages.values()), sum(number for _, number in others)
    sampled = "" if rows == sum(preview.splits.values()) else f"of {rows:,} rows, "
    if not others:
        return "none", f"{sampled}all are in {most}"
    found = ", ".join(f"{number:,} in {code}" for code, number in others[:LANGUAGES])
    more = ", ..." if len(others) > LANGUAGES else ""
    remedy = "; --data.language auto drops them" if preview.settings["language"] == "keep" else ""
    return share(count, count / rows), f"{sampled}{found}{more}; most are in {most}{remedy}"


def plural(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'s' if count > 1 else ''}" if count else "none"


def share(count: int, part: float) -> str:
    return f"{count:,} ({part:.1%})" if count else "none"


def describe_row(row: SeenRow) -> str:
    """Return how many tokens a row has and how many of them are in the loss."""
    role = f"{row.role}, " if row.role else ""
    return f"step {row.step}: {role}{len(row.ids):,} tokens, {sum(row.supervised):,} of them in the loss"


def describe_end(row: SeenRow) -> str:
    """Return where a row was cut; an empty text for a row that ends with EOS."""
    if row.ends:
        return ""
    if not row.whole and not row.cut_tokens:
        return "cut off by its source: no EOS"
    more = f"{row.cut_tokens:,} more token{'s' if row.cut_tokens > 1 else ''}, " if row.cut_tokens else ""
    return f"cut here: {more}no EOS"


def describe_differences(differences: Differences) -> str:
    """Return the number of differences between the raw and the cleaned text, and the names of the changes."""
    count = sum(not segment.is_same for segment in (*differences.headline, *differences.article))
    if not count:
        return "cleaning changed nothing"
    names = ", ".join(name.replace("_", " ") for name in differences.changes)
    return f"{count:,} difference{'s' if count > 1 else ''} after cleaning" + (f": {names}" if names else "")


def describe_character(character: SpelledCharacter) -> str:
    """Return how the tokenizer treats a character."""
    ways = {"unknown": "becomes the unknown token", "replaced": "is replaced by other characters"}
    plural = "s" if character.tokens > 1 else ""
    return ways.get(character.spelled, f"{character.tokens} token{plural} in bytes")
