"""`fit` on preference pairs keeps the guarantees of `fit`, and the other commands take its line and its checkpoints."""

import json

import pytest
import torch

from onion_lightning.cli.main import main
from tests.conftest import adapters, curve, ranks, records
from tests.pairs import some_pairs, write_pairs

EXACT = ("--model.load_in", "none", "--model.lora_dropout", "0", "--trainer.gradient_clip_val", "1.0")
COUNT = 30


@pytest.fixture
def pairs(tmp_path):
    return "--data.pairs", write_pairs(tmp_path / "pairs.jsonl", some_pairs(COUNT))


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def exported(run, tmp_path):
    """Returns the flag for adapters that a run on articles has trained."""
    words = ("--trainer.max_steps", "3", "--samples.count", "0", "--model.lora_rank", "4")
    run("fit", *words, "--checkpoint.dirpath", str(tmp_path / "articles"))
    run("export", "--ckpt_path", str(tmp_path / "articles" / "last.ckpt"), "--output", str(tmp_path / "exported"))
    return "--model.adapter", str(tmp_path / "exported")


def reference_files(tmp_path):
    return sorted((tmp_path / "cache" / "onion_lightning_reference").glob("*"))


def test_fit_learns_to_prefer_the_chosen_articles(run, pairs, tmp_path, capsys, caplog):
    run("fit", *pairs, "--trainer.max_epochs", "4", "--progress", "lines", "--trainer.enable_progress_bar", "true")
    folder = tmp_path / "run"
    losses, accuracy = curve(folder), curve(folder, "train/reward_accuracy")
    assert losses[0] == pytest.approx(0.693147, abs=1e-4)
    assert list(losses.values())[-1] < 0.3
    assert (accuracy[0], list(accuracy.values())[-1]) == (0.0, 1.0)
    assert list(curve(folder, "train/reward_margin").values())[-1] > 1
    for name in ("val/loss", "val/reward_accuracy", "val/reward_margin", "val/kl"):
        assert len(curve(folder, name)) == 4
    kl = list(curve(folder, "val/kl").values())
    assert 0 < kl[0] < kl[-1]
    assert "reward accuracy 1.00, margin" in caplog.text
    assert f"KL to the reference {kl[-1]:.4f} nats a token" in caplog.text
    printed = capsys.readouterr().err
    assert printed.count("chosen, ") == printed.count("rejected, ") == 1  # the first pair
    report = json.loads((folder / "corpus_report.json").read_text())
    assert (report["read"], report["kept"], sum(report["splits"].values())) == (COUNT, COUNT, COUNT)
    assert (folder / "samples.txt").read_text().count("=== step") == 4
    assert (folder / "best.ckpt").exists()


@pytest.mark.parametrize("stop", [1, 2, 3, 4])
def test_a_run_stopped_anywhere_and_resumed_ends_bit_for_bit_like_an_uninterrupted_one(
    run, flags, pairs, exported, tmp_path, stop
):
    """From adapters, with dropout, 8 bit and accumulation; the adapters and the cache may be gone by then."""
    settings = (*pairs, "--checkpoint.every_n_train_steps", "1", "--model.beta", "0.3", "--model.lora_dropout", "0.1")
    run("fit", *settings, *exported, "--checkpoint.dirpath", str(tmp_path / "whole"))
    halt = ("--trainer.callbacks+=tests.stopper.StopAt", f"--trainer.callbacks.step={stop - 1}")
    assert main(flags("fit", *settings, *exported, *halt)) == 130
    for file in reference_files(tmp_path):
        file.unlink()
    run("fit", *pairs, "--checkpoint.every_n_train_steps", "1", "--ckpt_path", "last")
    whole, resumed = (torch.load(tmp_path / name / "last.ckpt", weights_only=True) for name in ("whole", "run"))
    assert whole["global_step"] == resumed["global_step"] > 4
    assert all(torch.equal(value, resumed["state_dict"][name]) for name, value in whole["state_dict"].items())
    for name in ("train/loss", "train/reward_margin", "val/loss", "val/kl"):
        assert curve(tmp_path / "run", name) == curve(tmp_path / "whole", name)


def test_micro_batches_and_ranks_change_results_only_by_rounding(run, flags, shell, pairs, tmp_path):
    settings = (*EXACT, *pairs, "--model.rpo_alpha", "0.2")
    for size in ("8", "3", "1"):
        run("fit", *settings, "--data.batch_size", size, "--checkpoint.dirpath", str(tmp_path / size))
    two = flags("fit", *settings, *ranks(2), "--data.batch_size", "2", "--checkpoint.dirpath", str(tmp_path / "two"))
    for words in (two, [*two, "--model.shard", "true", "--checkpoint.dirpath", str(tmp_path / "sharded")]):
        done = shell(words)
        assert done.returncode == 0, done.stderr
    whole, sharded = (adapters(tmp_path / name / "last.ckpt") for name in ("two", "sharded"))
    assert all(torch.equal(value, sharded[name]) for name, value in whole.items())
    for other in ("3", "1", "two"):
        for name in ("train/loss", "train/reward_margin", "val/loss", "val/kl"):
            assert curve(tmp_path / other, name) == pytest.approx(curve(tmp_path / "8", name), rel=1e-3, abs=1e-5)
        for name, value in adapters(tmp_path / "8" / "last.ckpt").items():
            torch.testing.assert_close(adapters(tmp_path / other / "last.ckpt")[name], value, atol=1e-4, rtol=2e-3)


@pytest.mark.filterwarnings("ignore:.*int8 and int4 quantization.*")
@pytest.mark.parametrize("load_in", ["int8", "nf4", "none"])
@pytest.mark.parametrize("precision", ["bf16-mixed", "32-true"])
def test_pairs_train_in_8_4_and_16_bit(run, pairs, tmp_path, monkeypatch, load_in, precision):
    monkeypatch.setattr("onion_lightning.cli.trainer.best_precision", lambda device: precision)
    run("fit", *pairs, "--model.load_in", load_in, "--trainer.precision", precision, "--samples.count", "0")
    losses = list(curve(tmp_path / "run").values())
    assert losses[0] == pytest.approx(0.6931, abs=0.02)
    assert losses[-1] < 0.6


def test_the_reference_is_computed_once_and_again_if_the_file_is_damaged_or_another_models(
    run, pairs, exported, tmp_path, capsys
):
    words = (*pairs, "--trainer.max_steps", "2", "--samples.count", "0", "--model.warmup_ratio", "0")
    run("fit", *words)
    (file,) = reference_files(tmp_path)
    first, written = curve(tmp_path / "run"), file.read_bytes()
    run("fit", *words, "--model.beta", "0.5")  # the same reference
    assert reference_files(tmp_path) == [file]
    run("fit", *words, *exported)
    (other,) = set(reference_files(tmp_path)) - {file}
    for content, says in ((other.read_bytes(), True), (written[:-2] + b"xx", False), (b"", False)):
        file.write_bytes(content)
        capsys.readouterr()
        run("fit", *words)
        assert ("has other log-probabilities than the reference" in capsys.readouterr().err) == says
        assert file.read_bytes() == written
        assert curve(tmp_path / "run") == first
    assert not list(file.parent.glob(".*"))


def test_a_reference_that_is_there_is_not_computed_again(run, pairs, monkeypatch):
    words = (*pairs, "--trainer.max_steps", "1", "--samples.count", "0")
    run("fit", *words)
    from onion_lightning.model.preferences import reference

    asked = []
    compute = reference.compute
    monkeypatch.setattr(reference, "compute", lambda *args, **more: asked.append(more) or compute(*args, **more))
    run("fit", *words)
    assert asked == [{"batches": 1}]


def test_rewards_begin_at_zero_from_adapters(run, pairs, exported, tmp_path):
    run("fit", *pairs, *exported, "--trainer.max_steps", "1", "--model.lora_dropout", "0")
    assert curve(tmp_path / "run", "train/reward_margin")[0] == pytest.approx(0, abs=1e-4)
    saved = torch.load(tmp_path / "run" / "last.ckpt", weights_only=True)["onion_lightning"]
    assert saved["flags"]["model.lora_rank"] == 4


def test_what_cannot_be_resumed_is_one_sentence(run, refused, pairs, tmp_path):
    short = ("--trainer.max_steps", "2", "--samples.count", "0")
    run("fit", *short, "--checkpoint.dirpath", str(tmp_path / "articles"))
    run("fit", *short, *pairs)
    sentence = refused("fit", *pairs, "--ckpt_path", str(tmp_path / "articles" / "last.ckpt"))
    assert "is not of a run with --data.pairs" in sentence
    sentence = refused("fit", "--ckpt_path", str(tmp_path / "run" / "last.ckpt"))
    assert "is of a run that learned preferences, with --model.beta 0.1; give its --data.pairs" in sentence
    others = write_pairs(tmp_path / "others.jsonl", [pair | {"chosen": "Egg."} for pair in some_pairs(COUNT)])
    with pytest.warns(UserWarning, match="the training rows, .* have changed"):
        sentence = refused("fit", "--data.pairs", others, "--ckpt_path", "last")
    assert f"--data.pairs {others}: has other pairs" in sentence


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--data.pairs", "none.jsonl"), "--data.pairs none.jsonl: no such file"),
        (("--data.pairs", ""), "--data.pairs '': is empty"),
        (("--model.beta", "0.2"), "--model.beta 0.2: is not a flag of fit; give --data.pairs as well"),
        (("--data.votes", "v.jsonl"), "--data.votes v.jsonl: is not a flag of fit; give --data.pairs."),
        (("--data.pairs", "PAIRS", "--model.beta", "0"), "--model.beta 0.0: must be above 0"),
        (("--data.pairs", "PAIRS", "--model.beat", "1"), "did you mean --model.beta?"),
        (
            ("--data.pairs", "PAIRS", "--data.val_fraction", "0.999", "--data.test_fraction", "0"),
            "leaves no train rows",
        ),
        (("--data.pairs", "PAIRS", "--data.max_length", "12"), "no pairs remain (read: 30; dropped: 30 too_long)"),
    ],
)
def test_bad_input_is_one_sentence(refused, pairs, tmp_path, words, says):
    assert says in refused("fit", *(pairs[1] if word == "PAIRS" else word for word in words))
    assert not (tmp_path / "run").exists()


def test_other_commands_take_the_line_and_the_checkpoint(run, pairs, tmp_path, capsys):
    line = (*pairs, "--model.beta", "0.3")
    run("fit", *line, "--trainer.max_steps", "3", "--samples.count", "0")
    greedy = ("--data.headlines", '["Egg Wins"]', "--model.temperature", "0")
    written = []
    for more in (line, ()):  # with the flags, which have no effect, and without them
        run("predict", *more, "--ckpt_path", "last", *greedy)
        written.append(records(tmp_path / "articles.jsonl"))
        capsys.readouterr()
        run("validate", *more, "--ckpt_path", "last")
        written.append(capsys.readouterr().out)
        assert "val/perplexity" in written[-1]
        run("export", *more, "--ckpt_path", "last", "--output", str(tmp_path / "e"), "--overwrite", "true")
    assert written[:2] == written[2:]
    run("fit", "--config", str(tmp_path / "run" / "config.yaml"), "--model.adapter", str(tmp_path / "e"))


def test_preview_shows_both_articles_of_each_pair_and_what_was_left_out(run, tmp_path, capsys):
    rows = some_pairs(COUNT)
    file = write_pairs(tmp_path / "pairs.jsonl", [*rows, rows[0] | {"rejected": rows[0]["chosen"]}])
    run("preview", "--data.pairs", file, "--rows", "3", "--output", str(tmp_path / "p"))
    preview = json.loads((tmp_path / "p" / "preview.json").read_text())
    assert [row["role"] for row in preview["rows"]] == ["chosen", "rejected"] * 3
    for chosen, rejected in zip(preview["rows"][0::2], preview["rows"][1::2], strict=True):
        assert (chosen["headline"], chosen["step"]) == (rejected["headline"], rejected["step"])
        assert chosen["input_ids"] != rejected["input_ids"]
        prompt = chosen["supervised"].index(1)
        assert chosen["input_ids"][:prompt] == rejected["input_ids"][:prompt]
        assert all(chosen["supervised"][prompt:] + rejected["supervised"][prompt:])
    assert preview["dropped"] == {"identical": {"rows": 1, "examples": []}}
    assert (preview["read"], sum(preview["splits"].values())) == (COUNT + 1, COUNT)
    page = (tmp_path / "p" / "preview.html").read_text()
    assert "Both articles are the same" in page
    assert "Step 1: chosen, " in page
    printed = capsys.readouterr().err
    assert not any("ignores" in line and "--data.pairs" in line for line in printed.splitlines())
    assert "step 1: rejected, " in printed


def test_plan_counts_both_articles_of_a_pair(run, pairs, tmp_path):
    plans = []
    for words in (("--data.batch_size", "1"), ("--data.batch_size", "4")):
        run("plan", *pairs, *words, "--gpu", "RTX 4090", "--find_batch_size", "true", "--output", str(tmp_path / "p"))
        plans.append(json.loads((tmp_path / "p" / "plan.json").read_text()))
    one, four = (plan["work"] for plan in plans)
    assert (one["micro_rows"], four["micro_rows"]) == (2, 8)
    assert (one["global_batch"], one["accumulate"], four["accumulate"]) == (16, 8, 2)
    assert one["rows"] % 2 == 0
    assert one["epoch_steps"] == -(-one["rows"] // 16)
    activations = [plan["memory"]["without_checkpointing"]["activations"] for plan in plans]
    assert 3.5 < activations[1] / activations[0] < 4.5
    assert plans[0]["largest_batch"]["batch_size"] == 8  # pairs
    assert any("the reference" in text for text in one["assumptions"])


def test_without_pairs_nothing_of_this_is_in_the_parser(flags, capsys):
    with pytest.raises(SystemExit):
        main(["fit", "--help"])
    assert "rpo_alpha" not in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["fit", "--data.pairs", "pairs.jsonl", "--help"])
    assert "rpo_alpha" in capsys.readouterr().out
