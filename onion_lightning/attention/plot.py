"""Draws `attention.png`: a heatmap of layers and heads, and the text colored by the attention of the top-ranked head."""

import io
import textwrap
from collections.abc import Iterator
from typing import Any, NamedTuple

import matplotlib
import matplotlib.figure
import matplotlib.font_manager
import numpy as np

from onion_lightning.attention.result import MARK, AttentionResult

__all__ = ["plot_attention"]

COLUMNS = 64  # characters per line
MAX_TOKENS = 240  # longer texts are cut to the tokens around the key and before the end of the query
ORANGE = "#e08a3c"


class Word(NamedTuple):
    """Where the text of a token is drawn."""

    token: int
    line: int
    column: int
    text: str


def plot_attention(result: AttentionResult) -> bytes:
    """Return the plot as a PNG."""
    figure = matplotlib.figure.Figure(figsize=(12, 6.5), layout="constrained", dpi=120)
    left, right = figure.subplots(1, 2, width_ratios=[1, 1.7])
    draw_heatmap(left, result)
    draw_text(right, result)
    query, key = (textwrap.shorten(phrase.text, 45, placeholder=" …") for phrase in (result.query, result.key))
    figure.suptitle(printable(f"Attention from “{query}” to “{key}”"), parse_math=False)
    stream = io.BytesIO()
    figure.savefig(stream, format="png", metadata={"Software": MARK})
    return stream.getvalue()


def draw_heatmap(axis: Any, result: AttentionResult) -> None:
    """Draw the key share of every head, and mark the top-ranked one."""
    layer, head = result.ranking[0]
    image = axis.imshow(100 * result.heads[result.primary].key_share, cmap="Oranges", aspect="auto", vmin=0)
    axis.plot(head, layer, "s", markersize=9, markerfacecolor="none", markeredgecolor="black")
    axis.set_xlabel("head")
    axis.set_ylabel("layer")
    axis.set_title(f"Attention to the key ({result.primary} model)", fontsize=11)
    axis.figure.colorbar(image, ax=axis, label="% of the query's attention")


def draw_text(axis: Any, result: AttentionResult) -> None:
    """Draw the text around both phrases, with the attention of the top-ranked head as background color.

    The first token, the attention sink, has no background.
    """
    layer, head = result.ranking[0]
    attention = result.maps[result.primary].mean[layer, head].numpy()
    largest = attention[1:].max(initial=0) or 1.0
    colors = matplotlib.colors.LinearSegmentedColormap.from_list("white to orange", ["white", ORANGE])
    last_line = 0
    for token, line, column, text in layout(result):
        share = attention[token] / largest if token > 0 else 0.0
        axis.text(
            column,
            -line,
            text,
            family="DejaVu Sans Mono",
            fontsize=11,
            weight="bold" if in_phrase(result, token) else "normal",
            parse_math=False,
            bbox={"facecolor": colors(np.sqrt(share)), "edgecolor": "none", "pad": 1},
        )
        last_line = line
    axis.set_xlim(0, COLUMNS + 2)
    axis.set_ylim(-max(last_line, 16) - 1, 1)
    axis.set_axis_off()
    share = 100 * result.heads[result.primary].key_share[layer, head]
    axis.set_title(f"Layer {layer}, head {head}: {share:.1f}% of the query's attention goes to the key", fontsize=11)


def in_phrase(result: AttentionResult, token: int) -> bool:
    return any(phrase.first <= token < phrase.stop for phrase in (result.query, result.key))


def layout(result: AttentionResult) -> Iterator[Word]:
    """Wrap the visible tokens into lines; an empty line marks a gap between them."""
    line = column = 0
    previous = -1
    for token in visible_tokens(result):
        if token != previous + 1:
            line, column = line + 2, 0
        previous = token
        raw = result.token_texts[token]
        text = printable(" ".join(raw.split()))
        column += 1 if raw[:1].isspace() or (token and follows_white_space(result, token)) else 0
        if column + len(text) > COLUMNS:
            line, column = line + 1, 0
        if text:
            yield Word(token, line, column, text)
        column += len(text)


def follows_white_space(result: AttentionResult, token: int) -> bool:
    """Return whether there are characters before a token that belong to no token."""
    return result.tokens[token].start > result.tokens[token - 1].end


def visible_tokens(result: AttentionResult) -> list[int]:
    """Return the tokens up to the end of the query; of a long text, those around the key and before the query's end."""
    stop = result.query.stop
    if stop <= MAX_TOKENS:
        return list(range(stop))
    around_key = range(max(0, result.key.first - MAX_TOKENS // 6), min(stop, result.key.stop + MAX_TOKENS // 6))
    before_end = range(max(0, stop - MAX_TOKENS // 2), stop)
    return sorted({0, *around_key, *before_end})[: MAX_TOKENS * 2]


def printable(text: str) -> str:
    """Replace characters that the font does not have, such as emoji, with a box."""
    font = matplotlib.font_manager.get_font(matplotlib.font_manager.findfont("DejaVu Sans Mono"))
    return "".join(c if font.get_char_index(ord(c)) else "□" for c in text)
