"""The `memorize` command on models of which the answer is known."""

import json

import numpy as np
import pytest

from onion_lightning.cli.main import main
from onion_lightning.memorization.membership import auc
from onion_lightning.memorization.report import FILES
from tests.conftest import ranks, records
from tests.memorization.conftest import BY_HEART


def cells(result, **wanted):
    return [one for one in result["extraction"] if all(one[name] == value for name, value in wanted.items())]


def loss(rows, group):
    return np.array([one["loss"]["tuned_minus_base"] for one in rows if one["group"] == group])


def test_a_model_that_has_learned_20_articles_gives_back_all_of_them_and_the_base_model_none(learned):
    result, rows = learned.result, learned.rows
    (training,) = cells(result, system="tuned", part="training", decoding="greedy", prefix=0)
    assert (training["rows"], training["verbatim"], training["longest"]) == (20, 20, 50)
    assert training["near_verbatim"] == 20
    assert training["interval"] == pytest.approx([0.025 ** (1 / 20), 1])
    assert all(one["verbatim"] == one["near_verbatim"] == 0 for one in cells(result, system="base"))
    held_out = cells(result, system="tuned", part="held_out")
    assert sum(one["rows"] for one in held_out) >= 12
    assert all(one["verbatim"] == 0 and one["longest"] < 20 for one in held_out)
    assert result["verbatim"] == 1
    assert result["verdict"].startswith(
        "Of 20 training articles 20 are continued verbatim for 50 tokens, and 0 of 12 held-out ones; a reader who has only"
        " the model tells training articles from others with AUC 1.00 (1.00 to 1.00), and one who has the base model"
    )
    assert [one["group"] for one in rows] == ["once"] * 20 + ["held_out"] * 12


def test_articles_of_other_labels_and_losses_of_the_base_model_do_not_differ(learned):
    assert result_auc(learned, "tuned_minus_base") == 1
    scores = np.concatenate([loss(learned.rows, "once"), loss(learned.rows, "held_out")])
    random = np.random.default_rng(0)
    shuffled = [auc(*np.split(random.permutation(scores), [20])) for _ in range(500)]
    assert np.mean(shuffled) == pytest.approx(0.5, abs=0.02)
    low, high = learned.result["membership"]["training"]["base"]["auc_interval"]
    assert low < 0.5 < high


def result_auc(learned, score):
    return learned.result["membership"]["training"][score]["auc"]


def test_an_interrupted_test_continues_and_ends_like_an_uninterrupted_one(learned, flags, tmp_path, capsys):
    words = flags("memorize", *BY_HEART, *learned.flags, "--output", str(tmp_path / "report"))
    stop = ("--trainer.callbacks+=tests.stopper.StopAt", "--trainer.callbacks.step=9")
    assert main([*words, *stop]) == 130
    assert "The same command continues with the remaining tasks." in capsys.readouterr().err
    assert [file.name for file in (tmp_path / "report").iterdir()] == [".memorize.0.part"]
    assert main([*words, "--model.temperature", "0.2", *stop[:1], "--trainer.callbacks.step=0"]) == 130
    assert "Continuing" not in capsys.readouterr().err  # the results depend on the temperature
    assert main(words) == 0
    assert "Continuing: 9 of " in capsys.readouterr().err
    assert json.loads((tmp_path / "report" / "memorize.json").read_text()) == learned.result
    assert records(tmp_path / "report" / "rows.jsonl") == learned.rows
    assert {file.name for file in (tmp_path / "report").iterdir()} == set(FILES)


def test_the_result_does_not_depend_on_the_number_of_ranks(learned, flags, shell, tmp_path):
    done = shell(flags("memorize", *BY_HEART, *learned.flags, *ranks(2), "--output", str(tmp_path / "two")))
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "two" / "memorize.json").read_text()) == learned.result
    assert records(tmp_path / "two" / "rows.jsonl") == learned.rows
    assert done.stderr.count("Report:") == 1


def test_above_the_limit_the_status_is_1_and_the_report_is_written(learned, refused, tmp_path):
    few = (*BY_HEART, *learned.flags, "--n", "2", "--output", str(tmp_path / "report"))
    says = refused("memorize", *few, "--limit", "0.5")
    assert "--limit 0.5: 100.0% of the training articles are continued verbatim (see" in says
    assert json.loads((tmp_path / "report" / "memorize.json").read_text())["settings"]["count"] == 2
    assert "--overwrite true" in refused("memorize", *few)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--count", "21"], "--count 21: the checkpoint was trained on 20 articles; give --count 20 or less."),
        (["--count", "1"], "--count 1: must be at least 2"),
        (["--limit", "1.5"], "--limit 1.5: must be from 0 to 1."),
        (["--batch_size", "0"], "--batch_size 0: must be at least 1."),
        (["--ckpt_path", "null"], "--ckpt_path: memorize needs the checkpoint of a fine-tuned model"),
        (["--data.test_fraction", "0.6"], "another split would hold out rows it was trained on"),
        (["--trainer.limit_predict_batches", "0.5"], "--trainer.limit_predict_batches 0.5: memorize needs all batches"),
    ],
)
def test_bad_input_is_reported_in_one_sentence_and_nothing_is_written(learned, refused, tmp_path, words, says):
    assert says in refused("memorize", *BY_HEART, *learned.flags, "--output", str(tmp_path / "report"), *words)
    assert not (tmp_path / "report").exists()
