"""`attention.png`: the layer by head map, and the text as the best head sees it."""

import io
import textwrap
from collections.abc import Iterator
from typing import Any

import matplotlib
import matplotlib.figure
import matplotlib.font_manager
import numpy as np

from onion_lightning.attention.phrase_attention import AttentionAnswer

__all__ = ["plot_attention"]

COLUMNS = 64  # characters of a line
SHOWN = 240  # tokens, at most: around the key and before the query
HOT = "#e08a3c"


def plot_attention(answer: AttentionAnswer) -> bytes:
    """A PNG of both."""
    layer, head = answer.ranking[0]
    figures = answer.heads[answer.shown]
    figure = matplotlib.figure.Figure(figsize=(12, 6.5), layout="constrained", dpi=120)
    left, right = figure.subplots(1, 2, width_ratios=[1, 1.7])
    image = left.imshow(100 * figures.key, cmap="Oranges", aspect="auto", vmin=0)
    left.plot(head, layer, "s", markersize=9, markerfacecolor="none", markeredgecolor="black")
    left.set_xlabel("head")
    left.set_ylabel("layer")
    left.set_title(f"Attention to the key, {answer.shown} model", fontsize=11)
    figure.colorbar(image, ax=left, label="% of the query's attention")
    draw_text(right, answer, answer.maps[answer.shown].phrase[layer, head].numpy())
    right.set_title(f"Layer {layer}, head {head}: {100 * figures.key[layer, head]:.1f}% to the key", fontsize=11)
    asked, given = (textwrap.shorten(one.text, 45, placeholder=" …") for one in (answer.query, answer.key))
    figure.suptitle(printable(f"“{asked}” → “{given}”"), parse_math=False)
    stream = io.BytesIO()
    figure.savefig(stream, format="png", metadata={"Software": None})
    return stream.getvalue()


def draw_text(axis: Any, answer: AttentionAnswer, attention: np.ndarray) -> None:
    """The text around both phrases, each token on a ground as dark as the attention it gets; the first token has none."""
    most = attention[1:].max(initial=0) or 1.0
    colours = matplotlib.colors.LinearSegmentedColormap.from_list("hot", ["white", HOT])
    last = 0
    for at, line, column, word in lay_out(answer):
        share = attention[at] / most if at > 0 else 0.0
        inside = answer.query.first <= at < answer.query.stop or answer.key.first <= at < answer.key.stop
        axis.text(
            column,
            -line,
            word,
            family="DejaVu Sans Mono",
            fontsize=11,
            weight="bold" if inside else "normal",
            parse_math=False,
            bbox={"facecolor": colours(np.sqrt(share)), "edgecolor": "none", "pad": 1},
        )
        last = line
    axis.set_xlim(0, COLUMNS + 2)
    axis.set_ylim(-max(last, 16) - 1, 1)
    axis.set_axis_off()


def lay_out(answer: AttentionAnswer) -> Iterator[tuple[int, int, int, str]]:
    """For each token shown its index, line, column and characters."""
    line = column = 0
    before = -1
    for at in chosen(answer):
        if at != before + 1:
            line, column = line + 2, 0
        before = at
        raw = answer.words[at]
        word = printable(" ".join(raw.split()))
        column += 1 if raw[:1].isspace() or (at and spaced(answer, at)) else 0
        if column + len(word) > COLUMNS:
            line, column = line + 1, 0
        if word:
            yield at, line, column, word
        column += len(word)


def spaced(answer: AttentionAnswer, at: int) -> bool:
    """Whether white space that no token has stands before a token."""
    return answer.tokens[at].start > answer.tokens[at - 1].end


def chosen(answer: AttentionAnswer) -> list[int]:
    """All tokens to the query's last, or in a long text those around the key and those before the query's end."""
    stop = answer.query.stop
    near_key = range(max(0, answer.key.first - SHOWN // 6), min(stop, answer.key.stop + SHOWN // 6))
    near_query = range(max(0, stop - SHOWN // 2), stop)
    return list(range(stop)) if stop <= SHOWN else sorted({0, *near_key, *near_query})[: SHOWN * 2]


def printable(text: str) -> str:
    """A text with a box for what the font does not have, such as emoji."""
    font = matplotlib.font_manager.get_font(matplotlib.font_manager.findfont("DejaVu Sans Mono"))
    return "".join(c if font.get_char_index(ord(c)) else "□" for c in text)
