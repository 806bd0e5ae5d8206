"""Shows articles on the terminal."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.panel import Panel
from rich.text import Text

from onion_lightning.messages import tell
from onion_lightning.model.articles.record import ArticleRecord

__all__ = ["MAX_SHOWN", "show_article", "show_articles"]

MAX_WIDTH = 100  # columns
MAX_SHOWN = 8  # articles


def show_article(console: Console, headline: str, article: str, note: str | None = None) -> None:
    """Print an article in a panel.

    Args:
        console: where to print.
        headline: title of the panel.
        article: text.
        note: shown at the lower edge.
    """
    body, title = Text(article or "(empty article)"), Text(headline, style="bold")
    width = min(console.width, MAX_WIDTH)
    console.print(
        Panel(body, title=title, title_align="left", subtitle=note, subtitle_align="right", width=width, padding=1)
    )


def show_articles(first: Sequence[ArticleRecord], count: int, path: Path) -> None:
    """Print the articles if there are only a few, and their number and their file on stderr.

    Args:
        first: the first `MAX_SHOWN` articles.
        count: number of all articles.
        path: their file.
    """
    if count <= MAX_SHOWN:
        console = Console()
        for record in first:
            show_article(console, record.headline, record.article, length_note(record))
    tell(f"{count} article{'s' if count != 1 else ''} written to {path}")


def length_note(record: ArticleRecord) -> str:
    truncated = "" if record.finish_reason == "eos" else ", truncated"
    score = "" if record.score is None else f", score {record.score:.2f}"
    return f"{record.tokens} token{'s' if record.tokens != 1 else ''}{truncated}{score}"
