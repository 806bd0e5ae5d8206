"""`predict --model.best_of`: the file, with any number of ranks, after a resume, and with or without a corpus."""

import csv
import json

import pytest

from onion_lightning.model.writing import best_of
from tests.conftest import ranks, records

HEADLINES = json.dumps(["Egg Wins", "Man Of Many Words Loses Them", "Three", "The Fourth Headline", "Five"])
WORDS = ("predict", "--data.headlines", HEADLINES, "--data.predict_batch_size", "2", "--model.max_new_tokens", "40")
FOUR = (*WORDS, "--model.best_of", "4")


@pytest.fixture
def written(run, tmp_path):
    """Runs `predict`, and returns its records."""

    def predict(*words):
        file = tmp_path / "articles.jsonl"
        run(*words)
        found = records(file)
        file.unlink()
        return found

    return predict


def test_the_best_is_kept_and_all_are_in_the_file_on_request(written, tmp_path, capsys):
    everything = written(*FOUR, "--articles.keep_all", "true")
    assert [(one["index"], one["rank"]) for one in everything] == [
        (index, rank) for index in range(5) for rank in range(1, 5)
    ]
    assert written(*FOUR) == [one for one in everything if one["rank"] == 1]
    assert written(*FOUR, "--model.candidates", "2") == [one for one in everything if one["rank"] <= 2]
    plain = written(*WORDS, "--model.candidates", "4")
    assert "score" not in plain[0]
    unranked = [{name: value for name, value in one.items() if name not in ("rank", "score")} for one in everything]
    assert sorted(unranked, key=lambda one: (one["index"], one["candidate"])) == plain
    assert unranked != plain
    assert "not searched for copied runs" not in capsys.readouterr().err


def test_copied_runs_are_searched_for_in_the_training_rows(written, corpus_file, monkeypatch):
    """What the tiny model writes would be dropped from a corpus as garbled: the index is looked at instead."""
    given, rank = [], best_of.rank_articles
    monkeypatch.setattr(best_of, "rank_articles", lambda *words: given.append(words[2]) or rank(*words))
    written(*FOUR)
    assert len({id(index) for index in given}) == 1
    with corpus_file.open(newline="", encoding="utf-8") as stream:
        rows = {row["Title"]: row["Content"] for row in csv.DictReader(stream)}
    assert len(rows) // 3 < len(given[0].headlines) < len(rows)  # those that are held out are not searched
    for headline in given[0].headlines:
        assert given[0].longest(rows[headline]).words >= 12


def test_without_a_corpus_a_line_says_what_is_not_searched_for(written, capsys):
    missing = ("--data.path", "no/such/file.csv")
    found = written(*FOUR, *missing)
    said = "--model.best_of 4: articles are not searched for copied runs: --data.path no/such/file.csv: no such file"
    assert capsys.readouterr().err.count(said) == 1
    assert len(found) == 5
    written(*WORDS, *missing)
    assert "copied runs" not in capsys.readouterr().err


@pytest.mark.parametrize("load_in", ["int8", "nf4"])
def test_the_file_is_the_same_on_any_number_of_ranks_and_after_a_resume(run, flags, shell, tmp_path, load_in):
    more = ("--model.load_in", load_in, "--articles.keep_all", "true")
    file = tmp_path / "articles.jsonl"
    run(*FOUR, *more)
    one = file.read_bytes()
    done = shell(flags(*FOUR, *more, *ranks(2)))
    assert done.returncode == 0, done.stderr
    assert file.read_bytes() == one
    crash = ("--trainer.callbacks+=tests.stopper.CrashAt", "--trainer.callbacks.step=1")
    assert shell(flags(*FOUR, *more, *crash)).returncode != 0
    assert (tmp_path / ".articles.jsonl.0.part").exists()
    run(*FOUR, *more, "--articles.resume", "true")
    assert file.read_bytes() == one


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ((*WORDS, "--articles.keep_all", "true"), "--articles.keep_all true: needs --model.best_of 2 or more"),
        ((*FOUR, "--model.candidates", "5"), "--model.best_of 4: is less than --model.candidates 5"),
        ((*FOUR, "--model.temperature", "0"), "--model.best_of 4: with --model.temperature 0"),
        (("evaluate", "--model.best_of", "4"), "--model.best_of 4: is for predict; give --best_of 4"),
    ],
)
def test_flags_that_contradict_one_another_are_refused(refused, tmp_path, words, says):
    assert says in refused(*words)
    assert not list(tmp_path.iterdir())
