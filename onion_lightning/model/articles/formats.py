"""The formats of the articles file, which its suffix chooses: JSON Lines, CSV, Markdown or plain text."""

import csv
import io
import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import MISSING, fields
from itertools import chain, groupby

from onion_lightning.model.articles.record import ArticleRecord

__all__ = ["FORMATS"]

# Characters that Markdown reads as markup: anywhere, at the beginning of a paragraph, or at the end of a heading.
MARKUP = re.compile(r"[\\`*_\[\]<~]|&(?=#?\w+;)|^[#>+-]|#(?=#*$)")
LIST_ITEM = re.compile(r"^(\d{1,9})([.)])")


def json_lines(records: Iterable[ArticleRecord]) -> Iterator[str]:
    for record in records:
        yield json.dumps(record.to_json(), ensure_ascii=False) + "\n"


def comma_separated(records: Iterable[ArticleRecord]) -> Iterator[str]:
    """Yield the lines of a table with a header. Texts are always quoted, numbers never."""
    line = io.StringIO()
    writer = csv.writer(line, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\n")
    rows = map(ArticleRecord.to_json, records)
    first = next(rows, None)
    writer.writerow(first or [field.name for field in fields(ArticleRecord) if field.default is MISSING])
    for row in rows if first is None else chain([first], rows):
        writer.writerow(row.values())
        yield line.getvalue()
        line.seek(0)
        line.truncate()
    yield line.getvalue()  # the header, if there is no article


def markdown(records: Iterable[ArticleRecord]) -> Iterator[str]:
    """Yield a heading for each headline and its articles, whose lines become paragraphs. Markup in them is escaped."""
    for headline, articles in by_headline(records):
        yield f"# {escape(' '.join(headline.split()))}\n\n"
        for name, article in articles:
            yield f"## {name}\n\n" if len(articles) > 1 else ""
            yield "".join(f"{escape(line.strip())}\n\n" for line in re.split(r"[\r\n]+", article) if line.strip())


def plain_text(records: Iterable[ArticleRecord]) -> Iterator[str]:
    """Yield each headline, and its articles as they are."""
    for headline, articles in by_headline(records):
        yield f"{headline}\n\n"
        for name, article in articles:
            yield f"{name}:\n\n" if len(articles) > 1 else ""
            yield f"{article}\n\n"
        yield "\n"


def by_headline(records: Iterable[ArticleRecord]) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """Yield each headline with its articles, which have the names of candidates, numbered from 1."""
    for _, group in groupby(records, key=lambda record: record.index):
        found = list(group)
        yield found[0].headline, [(name_of(record), record.article) for record in found]


def name_of(record: ArticleRecord) -> str:
    score = "" if record.score is None else f" (score {record.score:.2f})"
    return f"Candidate {record.candidate + 1}{score}"


def escape(line: str) -> str:
    return LIST_ITEM.sub(r"\1\\\2", MARKUP.sub(r"\\\g<0>", line))


FORMATS: dict[str, Callable[[Iterable[ArticleRecord]], Iterator[str]]] = {
    ".jsonl": json_lines,
    ".csv": comma_separated,
    ".md": markdown,
    ".txt": plain_text,
}
