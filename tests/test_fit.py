"""`fit`, `validate`, `test` and `predict` on the tiny model, in 8 bit, in this process."""

import json
import re

import pytest
import torch

from onion_lightning.cli.main import main
from onion_lightning.model.module import OnionModule
from tests.conftest import adapters, curve, records
from tests.tiny import sample_rows


@pytest.fixture
def stopped(flags):
    """Runs `fit` until Ctrl-C arrives during the step after the given one; that step is still completed."""

    def command(step, *words):
        stop = ("--trainer.callbacks+=tests.stopper.StopAt", f"--trainer.callbacks.step={step - 1}")
        assert main(flags("fit", *words, *stop)) == 130

    return command


def test_fit_trains_validates_and_leaves_a_small_checkpoint_without_base_weights(run, tmp_path):
    run("fit", "--trainer.max_epochs", "4")
    folder = tmp_path / "run"
    losses = curve(folder)
    assert len(losses) == 20
    assert sum(list(losses.values())[-4:]) < sum(list(losses.values())[:4])
    assert len(curve(folder, "val/perplexity")) == 4
    last = torch.load(folder / "last.ckpt", weights_only=True)
    assert last["global_step"] == 20
    assert all("lora_" in name for name in last["state_dict"])
    assert (folder / "last.ckpt").stat().st_size < 300_000
    assert (folder / "best.ckpt").exists()
    assert [file.name for file in folder.glob(".*")] == [".lock"]
    assert (folder / "samples.txt").read_text().count("=== step") == 4


def test_fit_in_eight_bit_trains_the_same_adapters_twice(run, tmp_path):
    for name in ("one", "two"):
        run("fit", "--trainer.max_steps", "3", "--checkpoint.dirpath", str(tmp_path / name))
    one, two = (adapters(tmp_path / name / "last.ckpt") for name in ("one", "two"))
    assert all(torch.equal(one[name], two[name]) for name in one)


@pytest.mark.parametrize(
    ("stop", "checkpoint", "interval"),
    [
        (2, "last", "6"),
        (3, "last", "6"),
        (5, "last", "6"),
        (7, "last", "6"),
        (4, "best", "6"),
        (9, "best", "6"),
        (5, "last", "1.0"),
        (6, "last", "1.0"),
        (6, "best", "1.0"),
        (10, "last", "1.0"),
    ],
)
def test_a_run_stopped_anywhere_and_resumed_ends_bit_for_bit_like_an_uninterrupted_one(
    run, stopped, tmp_path, stop, checkpoint, interval
):
    """With dropout, 8 bit, accumulation of 2, validation within the epoch, and 5 steps per epoch."""
    settings = ("--trainer.val_check_interval", interval, "--checkpoint.every_n_train_steps", "3")
    run("fit", *settings, "--checkpoint.dirpath", str(tmp_path / "whole"))
    stopped(stop, *settings)
    run("fit", *settings, "--ckpt_path", checkpoint)
    whole, resumed = (torch.load(tmp_path / name / "last.ckpt", weights_only=True) for name in ("whole", "run"))
    assert whole["global_step"] == resumed["global_step"] == 10
    for name, value in whole["state_dict"].items():
        assert torch.equal(value, resumed["state_dict"][name]), name
    for name in ("train/loss", "val/loss", "learning_rate"):
        assert curve(tmp_path / "run", name) == curve(tmp_path / "whole", name)


def test_a_run_stopped_again_and_again_ends_the_same(run, stopped, tmp_path):
    """Stops before, at and after the ends of epochs, where Lightning's own counts need correction."""
    settings = ("--checkpoint.every_n_train_steps", "1", "--data.batch_size", "2", "--trainer.max_epochs", "3")
    run("fit", *settings, "--checkpoint.dirpath", str(tmp_path / "whole"))
    for stop in (2, 5, 7, 10, 12):
        stopped(stop, *settings, "--ckpt_path", "last")
    run("fit", *settings, "--ckpt_path", "last")
    whole, resumed = (adapters(tmp_path / name / "last.ckpt") for name in ("whole", "run"))
    assert all(torch.equal(resumed[name], whole[name]) for name in whole)
    for name in ("train/loss", "val/loss", "learning_rate"):
        assert curve(tmp_path / "run", name) == curve(tmp_path / "whole", name)


def test_a_kill_between_checkpoint_and_log_loses_no_row_of_the_curve(run, tmp_path):
    run("fit", "--trainer.max_steps", "6", "--checkpoint.dirpath", str(tmp_path / "whole"))
    run("fit", "--trainer.max_steps", "3")
    metrics = tmp_path / "run" / "metrics.csv"
    lines = metrics.read_text().splitlines(keepends=True)
    assert lines[-1].startswith("2,")
    metrics.write_text("".join(lines[:-1]))
    run("fit", "--trainer.max_steps", "6", "--ckpt_path", "last")
    assert sorted(curve(tmp_path / "run")) == sorted(curve(tmp_path / "whole")) == list(range(6))


def test_a_run_resumed_with_other_micro_batches_sees_the_same_rows(run, stopped, tmp_path):
    exact = ("--model.load_in", "none", "--model.lora_dropout", "0")
    run("fit", *exact, "--checkpoint.dirpath", str(tmp_path / "whole"))
    stopped(3, *exact)
    run("fit", *exact, "--data.batch_size", "1", "--ckpt_path", "last")
    for name, value in adapters(tmp_path / "whole" / "last.ckpt").items():
        torch.testing.assert_close(adapters(tmp_path / "run" / "last.ckpt")[name], value, atol=2e-5, rtol=1e-3)


def test_micro_batches_and_accumulation_change_results_only_by_rounding(run, tmp_path):
    exact = ("--model.load_in", "none", "--model.lora_dropout", "0", "--trainer.gradient_clip_val", "1.0")
    for size in ("8", "3", "1"):
        run("fit", *exact, "--data.batch_size", size, "--checkpoint.dirpath", str(tmp_path / size))
    for size in ("3", "1"):
        assert curve(tmp_path / size) == pytest.approx(curve(tmp_path / "8"), rel=1e-4)
        for name, value in adapters(tmp_path / "8" / "last.ckpt").items():
            torch.testing.assert_close(adapters(tmp_path / size / "last.ckpt")[name], value, atol=2e-5, rtol=1e-3)


def test_fit_with_ckpt_path_last_starts_from_scratch_if_there_is_none_and_reports_it(run, tmp_path, capsys):
    run("fit", "--trainer.max_steps", "1", "--ckpt_path", "last")
    assert "starts from scratch" in capsys.readouterr().err
    assert (tmp_path / "run" / "last.ckpt").exists()


def test_data_changed_before_a_resume_is_reported_and_the_epoch_restarts(run, stopped, tmp_path):
    stopped(3)
    with pytest.warns(UserWarning, match="have changed since"):
        run("fit", "--ckpt_path", "last", "--data.min_words", "25")
    assert torch.load(tmp_path / "run" / "last.ckpt", weights_only=True)["global_step"] > 6


def test_only_fit_logs(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run("fit", "--trainer.max_steps", "2")
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    checkpoint = ("--ckpt_path", str(tmp_path / "run" / "last.ckpt"))
    run("validate", *checkpoint)
    run("test", *checkpoint)
    run("predict", *checkpoint, "--data.headlines", '["Egg"]')
    after = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    assert set(after) - set(before) == {tmp_path / "articles.jsonl"}
    assert all(before[path] == after[path] for path in after if path in before)


def test_validate_reports_the_loss_that_fit_logged(run, tmp_path, capsys):
    run("fit", "--trainer.max_epochs", "1")
    logged = list(curve(tmp_path / "run", "val/loss").values())[-1]
    capsys.readouterr()
    run("validate", "--ckpt_path", "last")
    shown = capsys.readouterr().out
    assert float(re.search(r"val/loss\D+([\d.]+)", shown)[1]) == pytest.approx(logged, rel=1e-5)


def test_predict_writes_every_headline_once_per_candidate_in_order(run, tmp_path):
    headlines = [
        "Ça va: “Egg” 🥚 Wins",
        "A Much Longer Headline About Absolutely Nothing At All",
        "NA",
        "null",
        "Egg",
        "Egg",
    ]
    run("predict", "--data.headlines", json.dumps(headlines), "--model.candidates", "2")
    written = records(tmp_path / "articles.jsonl")
    assert [(r["index"], r["candidate"]) for r in written] == [(i, c) for i in range(6) for c in range(2)]
    assert [r["headline"] for r in written] == [h for h in headlines for _ in range(2)]
    assert list(written[0]) == ["index", "candidate", "headline", "article", "tokens", "finish_reason"]
    assert not list(tmp_path.glob(".*"))


def test_predict_twice_writes_the_same_file(run, tmp_path):
    words = ("--data.headlines", '["Egg 🥚", "Man “Wins”", "Area Man Declares War On Tuesday"]')
    for temperature in ("0", "1"):
        files = []
        for _ in range(2):
            run("predict", *words, "--model.temperature", temperature)
            files.append((tmp_path / "articles.jsonl").read_bytes())
        assert files[0] == files[1]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("h.txt", "Egg Wins\n\nMan Loses\n"),
        ("h.csv", 'Title,x\nEgg Wins,1\n"Man Loses",2\n'),
        ("h.jsonl", '{"headline": "Egg Wins"}\n{"headline": "Man Loses"}\n'),
    ],
)
def test_headlines_come_from_a_file(run, tmp_path, name, text):
    (tmp_path / name).write_text(text)
    run("predict", "--data.headlines_file", str(tmp_path / name))
    assert [r["headline"] for r in records(tmp_path / "articles.jsonl")] == ["Egg Wins", "Man Loses"]


def test_predict_reads_adapter_flags_and_weights_from_the_checkpoint(run, tmp_path):
    run("fit", "--model.lora_rank", "4", "--model.target_modules", '["k_proj"]')
    greedy = ("--data.headlines", '["Egg Wins"]', "--model.temperature", "0")
    run("predict", *greedy, "--ckpt_path", "last")
    tuned = records(tmp_path / "articles.jsonl")
    run("predict", *greedy)
    assert tuned != records(tmp_path / "articles.jsonl")


def test_a_checkpoint_opens_as_a_module_in_a_notebook(run, tmp_path):
    run("fit", "--trainer.max_steps", "2", "--model.lora_rank", "4", "--model.target_modules", '["v_proj"]')
    made = OnionModule.load_from_checkpoint(tmp_path / "run" / "last.ckpt")
    saved = adapters(tmp_path / "run" / "last.ckpt")
    assert made.lora_rank == 4
    assert made.learning_rate == 0.01
    assert saved.keys() == {name for name, parameter in made.named_parameters() if parameter.requires_grad}
    assert all(torch.equal(made.get_parameter(name), value) for name, value in saved.items())


def test_a_loss_that_is_not_finite_stops_the_run_and_names_the_step_and_its_rows(run, refused, tmp_path):
    run("fit", "--trainer.max_steps", "2")
    before = (tmp_path / "run" / "last.ckpt").read_bytes()
    sentence = refused("fit", "--ckpt_path", "last", "--model.learning_rate", "1e36", "--model.warmup_ratio", "0")
    assert re.search(r"at optimizer step \d+ \(epoch \d\) the loss is (nan|inf)", sentence)
    with (tmp_path / "run" / "corpus_report.json").open() as stream:
        assert json.load(stream)["read"] == 43
    assert any(row["Title"][:25] in sentence for row in sample_rows()[:43])
    assert (tmp_path / "run" / "last.ckpt").read_bytes() == before


def test_an_error_in_the_middle_of_a_window_leaves_the_last_completed_step(flags, tmp_path):
    crash = ("--trainer.callbacks+=tests.stopper.CrashAt", "--trainer.callbacks.step=3")
    with pytest.raises(ZeroDivisionError):
        main(flags("fit", *crash))
    assert main(flags("fit", "--ckpt_path", "last")) == 0
    assert main(flags("fit", "--checkpoint.dirpath", str(tmp_path / "whole"))) == 0
    resumed, whole = (adapters(tmp_path / name / "last.ckpt") for name in ("run", "whole"))
    assert all(torch.equal(resumed[name], whole[name]) for name in whole)
    assert len(curve(tmp_path / "run")) == 10


@pytest.mark.parametrize("flags_again", [(), ("--model.learning_rate", "0.02")])
def test_the_config_that_a_run_saved_repeats_it(run, tmp_path, flags_again):
    run("fit", "--trainer.max_steps", "2")
    first, config = adapters(tmp_path / "run" / "last.ckpt"), str(tmp_path / "run" / "config.yaml")
    other = str(tmp_path / "again")
    assert main(["fit", "--config", config, "--checkpoint.dirpath", other, *flags_again]) == 0
    again = adapters(tmp_path / "again" / "last.ckpt")
    assert all(torch.equal(value, again[name]) for name, value in first.items()) == (not flags_again)
    assert main(["validate", "--config", config, "--ckpt_path", str(tmp_path / "again" / "last.ckpt")]) == 0
