"""A preview on the terminal."""

import io
import re

import pytest
from rich.console import Console

from onion_lightning.preview.rows import SeenRow
from onion_lightning.preview.terminal import show_preview, show_row
from onion_lightning.preview.tokens import SeenToken


def printed(width: int, *shown) -> str:
    console = Console(file=io.StringIO(), width=width)
    show_row(console, *shown)
    return console.file.getvalue()


def made_row(words: int, cut: int | None = None, padding: int = 0) -> SeenRow:
    tokens = [SeenToken((1,), "<s>", False, "BOS"), SeenToken((5,), " ### Headline: Egg\n", False, "")]
    tokens += [SeenToken((10 + at,), f" egg{at}", True, "") for at in range(words)]
    tokens += [SeenToken((2,), "</s>", True, "EOS")] if cut is None else []
    return SeenRow("Egg", 0, 4, tokens, True, cut or 0, padding)


def test_a_short_row_is_shown_whole_with_its_special_tokens():
    text = " ".join(printed(100, made_row(3)).split())
    assert (
        text == "step 4: 6 tokens, 4 of them in the loss prompt [BOS] ### Headline: Egg⏎ trained egg0 egg1 egg2 [EOS]"
    )


def test_a_row_that_was_cut_or_padded_says_so():
    text = " ".join(printed(200, made_row(3, cut=3, padding=7)).split())
    assert text.endswith("egg2 [cut here: 3 more tokens, no EOS] [PAD × 7]")


@pytest.mark.parametrize("width", [60, 80, 120])
def test_of_a_long_row_only_beginning_and_end_are_shown_in_at_most_twelve_lines(width):
    text = printed(width, made_row(2000, cut=9))
    assert len(text.splitlines()) <= 12
    assert max(map(len, text.splitlines())) <= min(width, 100)
    (between,) = re.findall(r"…\s+([\d,]+)\s+tokens\s+…", text)
    shown = [int(number) for number in re.findall(r"egg(\d+)", text)]
    assert len(shown) + int(between.replace(",", "")) == 2000
    assert (shown[0], shown[-1]) == (0, 1999)


@pytest.mark.parametrize("width", [80, 120])
def test_everything_is_shown_within_the_width_of_the_terminal(preview, tmp_path, capsys, monkeypatch, width):
    monkeypatch.setenv("COLUMNS", str(width))
    show_preview(preview, tmp_path / "preview.html")
    *lines, last = capsys.readouterr().err.splitlines()
    assert last == f"Page: {tmp_path / 'preview.html'}"
    assert max(map(len, lines)) <= min(width, 100)
    text = "\n".join(lines)
    assert text.count(" of them in the loss") == len(preview.rows)
    for title in ("tokens in the loss", "rows without EOS", "padding", "longest rows", "dropped rows", "cleaned"):
        assert title in text
    assert "  Brief 2: Too short 2." in text
    assert "Brief 3" not in text


def test_control_characters_of_the_raw_text_do_not_reach_the_terminal(preview, tmp_path, capsys):
    row, cleaning = preview.rows[0]
    segment = cleaning.article[0]._replace(before="\x1b[31m red")
    shown = [(row, cleaning._replace(article=[segment]))]
    object.__setattr__(preview, "rows", shown)
    show_preview(preview, tmp_path / "preview.html")
    text = capsys.readouterr().err
    assert "\x1b" not in text
    assert "[-[U+001B][31m␣red-]" in text
