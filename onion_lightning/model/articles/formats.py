"""The formats of the articles file, which its suffix chooses: JSON Lines, CSV, Markdown or plain text."""

import csv
import io
import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import fields
from itertools import groupby

from onion_lightning.model.articles.record import ArticleRecord

__all__ = ["FORMATS"]

# Characters that Markdown reads as markup: anywhere, at the beginning of a paragraph, or at the end of a heading.
MARKUP = re.compile(r"[\\`*_\[\]<~]|&(?=#?\w+;)|^[#>+-]|#(?=#*$)")
LIST_ITEM = re.compile(r"^(\d{1,9})([.)])")


def json_lines(records: Iterable[ArticleRecord]) -> Iterator[str]:
    for record in records:
        yield json.dumps(vars(record), ensure_ascii=False) + "\n"


def comma_separated(records: Iterable[ArticleRecord]) -> Iterator[str]:
    """Yield the lines of a table with a header. Texts are always quoted, numbers never."""
    line = io.StringIO()
    writer = csv.writer(line, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\n")
    writer.writerow(field.name for field in fields(ArticleRecord))
    for record in records:
        writer.writerow(vars(record).values())
        yield line.getvalue()
        line.seek(0)
        line.truncate()
    yield line.getvalue()  # the header, if there is no article


def markdown(records: Iterable[ArticleRecord]) -> Iterator[str]:
    """Yield a heading for each headline and its articles, whose lines become paragraphs. Markup in them is escaped."""
    for headline, articles in by_headline(records):
        yield f"# {escape(' '.join(headline.split()))}\n\n"
        for number, article in articles:
            yield f"## Candidate {number}\n\n" if len(articles) > 1 else ""
            yield "".join(f"{escape(line.strip())}\n\n" for line in re.split(r"[\r\n]+", article) if line.strip())


def plain_text(records: Iterable[ArticleRecord]) -> Iterator[str]:
    """Yield each headline, and its articles as they are."""
    for headline, articles in by_headline(records):
        yield f"{headline}\n\n"
        for number, article in articles:
            yield f"Candidate {number}:\n\n" if len(articles) > 1 else ""
            yield f"{article}\n\n"
        yield "\n"


def by_headline(records: Iterable[ArticleRecord]) -> Iterator[tuple[str, list[tuple[int, str]]]]:
    """Yield each headline with its articles, which are numbered from 1."""
    for _, group in groupby(records, key=lambda record: record.index):
        found = list(group)
        yield found[0].headline, [(record.candidate + 1, record.article) for record in found]


def escape(line: str) -> str:
    return LIST_ITEM.sub(r"\1\\\2", MARKUP.sub(r"\\\g<0>", line))


FORMATS: dict[str, Callable[[Iterable[ArticleRecord]], Iterator[str]]] = {
    ".jsonl": json_lines,
    ".csv": comma_separated,
    ".md": markdown,
    ".txt": plain_text,
}
