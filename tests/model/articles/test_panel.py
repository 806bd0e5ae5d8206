"""Articles on the terminal."""

import pytest

from onion_lightning.model.articles.panel import MAX_SHOWN, show_articles
from onion_lightning.model.articles.record import ArticleRecord


def record(index=0, article="An egg wins.", tokens=5, finish_reason="eos"):
    return ArticleRecord(index, 0, f"Headline {index}", article, tokens, finish_reason)


@pytest.mark.parametrize(("count", "shown"), [(1, True), (8, True), (9, False)])
def test_a_few_articles_are_shown_and_their_number_and_file_always(capsys, tmp_path, count, shown):
    file = tmp_path / "out[red].jsonl"
    show_articles([record(index) for index in range(min(count, MAX_SHOWN))], count, file)
    printed = capsys.readouterr()
    assert printed.err == f"{count} article{'s' if count > 1 else ''} written to {file}\n"
    assert all((f"Headline {index}" in printed.out) == shown for index in range(count))


@pytest.mark.parametrize(
    ("written", "text", "note"),
    [
        (record(), "An egg wins.", "5 tokens ─"),
        (record(tokens=1), "An egg wins.", "1 token ─"),
        (record(finish_reason="length"), "An egg wins.", "5 tokens, truncated ─"),
        (record(article="", tokens=0), "(empty article)", "0 tokens ─"),
        (record(article="[red]An egg[/red]"), "[red]An egg[/red]", "5 tokens ─"),
        (record(article="An egg\u2028wins."), "An egg\u2028wins.", "5 tokens ─"),
    ],
)
def test_a_panel_shows_the_article_its_length_and_whether_it_was_truncated(capsys, tmp_path, written, text, note):
    show_articles([written], 1, tmp_path / "articles.jsonl")
    printed = capsys.readouterr().out
    assert text in printed
    assert f" {note}" in printed
