"""No command writes an article beyond the model's context, whatever --model.max_new_tokens says."""

import pytest

from tests.conftest import records
from tests.evaluation.conftest import SMALL

HUGE = ("--model.max_new_tokens", "100000", "--model.temperature", "0")
SAYS = "max_new_tokens 100000: the model's context length is 512 tokens, prompt included"


@pytest.fixture
def trained(run, tmp_path, capsys):
    """A checkpoint; at its validation, samples of any length were asked for."""
    samples = ("--samples.count", "2", "--samples.max_new_tokens", "100000")
    run(
        "fit", "--trainer.max_steps", "1", "--data.test_fraction", "0.5", "--trainer.limit_train_batches", "2", *samples
    )
    assert capsys.readouterr().err.count(f"--samples.{SAYS}") == 1
    return "--ckpt_path", str(tmp_path / "run" / "last.ckpt")


def test_every_command_that_generates_stops_at_the_context_and_says_so_once(run, refused, trained, tmp_path, capsys):
    run("predict", *trained, *HUGE, "--data.headlines", '["Egg Wins", "A Very Much Longer Headline About An Egg"]')
    written = records(tmp_path / "articles.jsonl")
    assert max(record["tokens"] for record in written) < 512
    assert {record["finish_reason"] for record in written} <= {"length", "eos"}
    assert capsys.readouterr().err.count(f"--model.{SAYS}") == 1
    run("evaluate", *trained, *SMALL, "--count", "2", *HUGE, "--output", str(tmp_path / "report"))
    assert capsys.readouterr().err.count(f"--model.{SAYS}") == 1
    for sample in records(tmp_path / "report" / "samples.jsonl"):
        assert all(one.get("new_tokens", 0) < 512 for one in sample["systems"].values())


def test_attend_stops_at_the_context_and_refuses_a_headline_that_fills_it(flags, refused, capsys):
    from onion_lightning.cli.main import main

    phrases = ("--query", "no such phrase", "--key", "nor this one")
    assert main(flags("attend", *phrases, "--headline", "Egg Wins", *HUGE)) == 1  # only the phrases are missing
    assert f"--model.{SAYS}" in capsys.readouterr().err
    assert "leaves no room for an article" in refused("attend", *phrases, "--headline", "egg " * 600, *HUGE)
