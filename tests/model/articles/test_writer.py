"""The articles file, and how an interrupted run resumes."""

import json

import pytest

from onion_lightning.cli.library_warnings import silence_libraries
from onion_lightning.cli.onion_cli import OnionCLI
from onion_lightning.cli.signals import StopSignals
from onion_lightning.model.articles.parts import encode_batch
from onion_lightning.model.articles.record import ArticleBatch, ArticleRecord
from tests.conftest import records

HEADLINES = json.dumps([f"Headline Number {i} Wins" for i in range(7)])
WORDS = ("predict", "--data.headlines", HEADLINES, "--data.predict_batch_size", "2", "--model.temperature", "1")


def leave_parts(tmp_path, whole, settings):
    by_batch = {0: whole[:2], 1: whole[2:4], 2: whole[4:6]}
    stored = [
        encode_batch(ArticleBatch(n, [ArticleRecord(**row) for row in rows]), settings) for n, rows in by_batch.items()
    ]
    (tmp_path / ".articles.jsonl.0.part").write_bytes(b"".join(stored)[:-9])


def settings_of(run, monkeypatch):
    seen = []
    from onion_lightning.model.articles import writer

    original = writer.encode_batch
    monkeypatch.setattr(writer, "encode_batch", lambda *a: seen.append(a[1]) or original(*a))
    run(*WORDS)
    return seen[0]


def test_a_resumed_run_generates_only_the_missing_batches(run, tmp_path, monkeypatch):
    settings = settings_of(run, monkeypatch)
    whole = records(tmp_path / "articles.jsonl")
    marked = [row | {"article": "FROM THE FIRST RUN"} for row in whole]
    (tmp_path / "articles.jsonl").unlink()
    leave_parts(tmp_path, marked, settings)
    run(*WORDS, "--articles.resume", "true")
    resumed = records(tmp_path / "articles.jsonl")
    assert resumed == marked[:4] + whole[4:]
    assert not list(tmp_path.glob(".*"))


def test_resuming_with_other_headlines_or_settings_is_refused(run, refused, tmp_path, monkeypatch):
    settings = settings_of(run, monkeypatch)
    leave_parts(tmp_path, records(tmp_path / "articles.jsonl"), settings)
    before = (tmp_path / ".articles.jsonl.0.part").read_text()
    for change in (("--model.temperature", "0.5"), ("--seed_everything", "7"), ("--data.headlines", '["Egg"]')):
        assert "other headlines or settings" in refused(*WORDS, *change, "--articles.resume", "true")
    assert (tmp_path / ".articles.jsonl.0.part").read_text() == before


def test_a_run_without_the_flag_starts_over(run, tmp_path):
    run(*WORDS)
    whole = (tmp_path / "articles.jsonl").read_bytes()
    leave_parts(
        tmp_path, [row | {"article": "FROM ANOTHER RUN"} for row in records(tmp_path / "articles.jsonl")], "other"
    )
    (tmp_path / ".articles.jsonl.5.part").write_text("left by another run\n")
    run(*WORDS)
    assert (tmp_path / "articles.jsonl").read_bytes() == whole
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize(("more", "kept"), [((), 0), (("--return_predictions", "true"), 4)])
def test_articles_are_kept_in_memory_only_on_request(flags, more, kept):
    silence_libraries()
    with StopSignals() as signals:
        cli = OnionCLI(flags(*WORDS, *more), signals)
    assert len(cli.trainer.predict_loop.predictions) == kept


def test_brackets_in_the_name_of_the_file_are_no_pattern(run, tmp_path):
    file = tmp_path / "articles[1].jsonl"
    run(*WORDS, "--articles.path", str(file))
    assert [record["index"] for record in records(file)] == list(range(7))
