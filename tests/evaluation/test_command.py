"""`evaluate`: figures by hand, what the systems see, and the report."""

import json
import math
import re

import markupsafe
import pytest
import torch
from scipy.special import logsumexp

from onion_lightning.data.module import OnionDataModule
from onion_lightning.data.prompt import encode_prompt
from onion_lightning.evaluation.evaluator import SYSTEMS, fit_shots
from onion_lightning.evaluation.likelihood import completion_losses, interval, paired_difference, per_unit
from onion_lightning.evaluation.metrics import compare
from onion_lightning.evaluation.report import FILES, render
from tests.conftest import ranks, records
from tests.model.test_module import module

SMALL = ("--model.max_new_tokens", "6", "--data.test_fraction", "0.5", "--shots", "1", "--n", "5", "--batch_size", "2")
WHOLE = ("--data.max_length", "400")  # no row is cut


@pytest.fixture
def evaluated(run, tmp_path):
    """Evaluates a tiny model after two steps; returns the metrics, the samples and the page."""
    run("fit", "--trainer.max_steps", "2", "--samples.count", "0", "--data.test_fraction", "0.5", *WHOLE)

    def evaluate(*more, name="report"):
        folder = tmp_path / name
        checkpoint = ("--ckpt_path", str(tmp_path / "run" / "last.ckpt"))
        run("evaluate", *SMALL, *checkpoint, "--output", str(folder), *more)
        metrics = json.loads((folder / "metrics.json").read_text())
        return metrics, records(folder / "samples.jsonl"), (folder / "report.html").read_text()

    return evaluate


def test_completion_losses_are_those_of_the_models_own_logits(tiny_base):
    made = module(tiny_base, load_in="none").eval()
    prompts, completions = [[1, 30, 40], [1, 50]], [[60, 70, 2], [80]]
    head = made.language_model.get_output_embeddings()
    with torch.no_grad():
        losses = completion_losses(made, head, prompts, completions, torch.device("cpu"))
        for prompt, completion, loss in zip(prompts, completions, losses, strict=True):
            logits = made.language_model(torch.tensor([prompt + completion])).logits[0].double().numpy()
            at = range(len(prompt) - 1, len(prompt) + len(completion) - 1)
            byhand = sum(logsumexp(logits[p]) - logits[p][t] for p, t in zip(at, completion, strict=True))
            assert loss == pytest.approx(byhand, rel=1e-5)


def sample(base, few_shot, tuned, tokens, size):
    texts = {"article": "x", "copied_from": "", "copied_words": 3, "words": 2, "headline_rank": 1}
    texts |= dict.fromkeys(("dateline", "spokesperson", "closing_turn", "words_per_sentence"), 0)
    texts |= dict.fromkeys(("distinct_1", "distinct_2", "distinct_3"), 0.5)
    losses = {"base": base, "few_shot": few_shot, "tuned": tuned}
    systems = {name: texts | {"loss": loss, "eos_rate": loss > 8} for name, loss in losses.items()}
    return {"headline": "Egg", "tokens": tokens, "bytes": size, "systems": systems | {"real": texts}}


def test_the_figures_by_hand():
    samples = [sample(10, 9, 6, 4, 10), sample(30, 27, 24, 16, 50), sample(9, 8, 7, 5, 12)]
    metrics = compare(samples, seed=1)
    base = metrics["systems"]["base"]
    assert base["loss"] == pytest.approx(49 / 25)
    assert base["perplexity"] == pytest.approx(math.exp(49 / 25))
    assert base["bits_per_byte"] == pytest.approx(49 / 72 / math.log(2))
    assert base["eos_rate"] == 1
    assert metrics["systems"]["tuned"]["eos_rate"] == pytest.approx(1 / 3)
    pair = metrics["paired"]["tuned_minus_base"]
    assert pair["difference"] == pytest.approx((37 - 49) / 25)
    assert -1 <= pair["interval"][0] <= pair["difference"] <= pair["interval"][1] <= -6 / 16
    assert metrics["intervals"]["base"]["perplexity"] == [math.exp(end) for end in metrics["intervals"]["base"]["loss"]]
    assert compare(samples, seed=1) == metrics


def test_an_interval_of_equal_articles_is_a_point_and_of_differing_ones_is_not():
    assert interval([[2, 2, 2], [1, 1, 1]], per_unit, 0) == [2, 2]
    low, high = interval([[1, 2, 3, 4], [1, 1, 1, 1]], per_unit, 0)
    assert 1 <= low < 2.5 < high <= 4
    assert paired_difference([1, 2], [2, 3], [1, 1], 0) == {"difference": -1.0, "interval": [-1, -1]}


def test_as_many_examples_as_fit_whole_with_one_bos():
    examples = [[1, 5, 6], [1, 7, 8], [1, 9, 9]]
    assert fit_shots(examples, 5, bos=1) == ([1, 5, 6, 7, 8], 2)
    assert fit_shots(examples, 4, bos=1) == ([1, 5, 6], 1)
    assert fit_shots(examples, 2, bos=1) == ([], 0)
    assert fit_shots([[1, 5, 6, 7], [1, 8], [1, 9]], 3, bos=1) == ([1, 8, 9], 2)


def test_a_report_has_the_figures_and_each_headline_once(evaluated):
    metrics, samples, page = evaluated()
    assert len(samples) == 5 == len({one["headline"] for one in samples})
    for name in SYSTEMS:
        figures = metrics["systems"][name]
        assert figures["eos_rate"] + figures["cut_rate"] == pytest.approx(1)
        losses = sum(one["systems"][name]["loss"] for one in samples)
        assert figures["loss"] == pytest.approx(losses / sum(one["tokens"] for one in samples))
        low, high = metrics["intervals"][name]["loss"]
        assert low <= figures["loss"] <= high
    assert metrics["systems"]["base"]["loss"] != metrics["systems"]["tuned"]["loss"]
    assert metrics["systems"]["base"]["loss"] != metrics["systems"]["few_shot"]["loss"]
    assert all(str(markupsafe.escape(one["headline"])) in page for one in samples)
    assert not re.search(r"(src|href)=\"?http|@import|url\(http", page)


def test_the_tuned_loss_is_the_one_that_test_logs_and_the_same_seed_gives_the_same_report(
    evaluated, run, tmp_path, capsys
):
    every = ("--n", "10", "--model.load_in", "none")
    metrics, _, page = evaluated(*every)
    again, _, same = evaluated(*every, name="again")
    assert again == metrics
    assert same == page
    capsys.readouterr()
    checkpoint = ("--ckpt_path", str(tmp_path / "run" / "last.ckpt"))
    run("test", "--data.test_fraction", "0.5", "--model.load_in", "none", *checkpoint)
    logged = float(re.search(r"test/loss\W+([\d.]+)", capsys.readouterr().out)[1])
    assert metrics["settings"]["headlines"] == 10
    assert metrics["systems"]["tuned"]["loss"] == pytest.approx(logged, rel=1e-4)


def test_examples_come_from_the_training_split_alone(evaluated, monkeypatch):
    seen = []
    made = OnionDataModule.setup

    def setup(self, stage):
        made(self, stage)
        seen.append(self)

    monkeypatch.setattr(OnionDataModule, "setup", setup)
    shown = []
    from onion_lightning.evaluation.evaluator import EvaluationData

    examples = EvaluationData.examples
    monkeypatch.setattr(EvaluationData, "examples", lambda self: shown.append(examples(self)) or shown[-1])
    evaluated("--shots", "3")
    data = seen[-1]
    assert len(shown[0]) == 3
    assert all(ids in list(data.encoded["train"]["input_ids"]) for ids in shown[0])
    held_out = [encode_prompt(data.tokenizer, h) for s in ("validation", "test") for h in data.texts[s]["headline"]]
    assert not any(ids[: len(prompt)] == prompt for ids in shown[0] for prompt in held_out)


def test_what_looks_like_html_is_text(evaluated):
    metrics, samples, _ = evaluated()
    nasty = "<script>alert(1)</script>"
    samples[0]["headline"] = samples[0]["systems"]["tuned"]["article"] = nasty
    samples[0]["systems"]["base"] |= {"copied_words": 20, "copied_from": nasty}
    page = render(metrics, samples)
    assert "<script" not in page
    assert page.count("&lt;script&gt;alert(1)&lt;/script&gt;") == 3


@pytest.mark.parametrize(("count", "batch_size"), [(2, "2"), (4, "8")])  # nine tasks, and three: one rank has none
def test_more_ranks_give_the_figures_of_one(evaluated, flags, shell, tmp_path, count, batch_size):
    metrics, samples, _ = evaluated("--batch_size", batch_size)
    words = (*SMALL, "--batch_size", batch_size, "--ckpt_path", str(tmp_path / "run" / "last.ckpt"), *ranks(count))
    words += ("--output", str(tmp_path / "two"))
    done = shell(flags("evaluate", *words))
    assert done.returncode == 0, done.stderr
    two = json.loads((tmp_path / "two" / "metrics.json").read_text())
    two["settings"]["checkpoint"] = metrics["settings"]["checkpoint"]
    assert two == metrics
    assert records(tmp_path / "two" / "samples.jsonl") == samples
    assert done.stderr.count("Report:") == 1


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--n", "500"], "--n 500: the test split has 10 headlines"),
        (["--n", "1"], "--n 1: must be at least 2"),
        (["--shots", "900"], "--shots 900: the training split has"),
        (
            ["--data.test_fraction", "0.6"],
            "was made with 0.5, and with another split its training rows would be held out",
        ),
        (["--data.val_fraction", "0.1"], "--data.val_fraction 0.1: "),
        (["--data.max_length", "150", "--shots", "3"], " rows that are not cut at --data.max_length 150; give fewer"),
        (["--trainer.limit_predict_batches", "0.5"], "evaluate needs all its batches"),
        (["--trainer.fast_dev_run", "true"], "evaluate needs all its batches"),
        (["--output", "/proc/nothing/here"], "--output /proc/nothing/here: cannot be written"),
        (["--ckpt_path", "null"], "--ckpt_path: evaluate needs a checkpoint"),
    ],
)
def test_bad_input_is_one_sentence_and_nothing_is_written(evaluated, refused, tmp_path, words, says):
    checkpoint = ("--ckpt_path", str(tmp_path / "run" / "last.ckpt"))
    assert says in refused("evaluate", *SMALL, *checkpoint, "--output", str(tmp_path / "report"), *words)
    assert not (tmp_path / "report").exists()


def test_a_loss_that_is_not_finite_is_told_and_no_report_is_written(evaluated, refused, tmp_path):
    checkpoint = torch.load(tmp_path / "run" / "last.ckpt", weights_only=True)
    next(value for name, value in checkpoint["state_dict"].items() if "lora_B" in name).fill_(math.nan)
    torch.save(checkpoint, tmp_path / "broken.ckpt")
    words = ("--ckpt_path", str(tmp_path / "broken.ckpt"), "--output", str(tmp_path / "report"))
    assert "the tuned model's loss is not finite for" in refused("evaluate", *SMALL, *words)
    assert not (tmp_path / "report").exists()


def test_an_earlier_report_is_replaced_only_when_told(evaluated, refused, tmp_path):
    evaluated()
    checkpoint = ("--ckpt_path", str(tmp_path / "run" / "last.ckpt"))
    assert "--overwrite true" in refused("evaluate", *SMALL, *checkpoint, "--output", str(tmp_path / "report"))
    evaluated("--overwrite", "true")
    assert {file.name for file in (tmp_path / "report").iterdir()} == set(FILES)  # nothing half written is left


def test_wandb_gets_the_articles_as_a_table(evaluated, tmp_path, monkeypatch):
    arguments = {"save_dir": str(tmp_path / "run"), "offline": True}
    logger = {"class_path": "lightning.pytorch.loggers.WandbLogger", "init_args": arguments}
    _, samples, _ = evaluated("--trainer.logger", json.dumps(logger))
    (file,) = (tmp_path / "run" / "wandb").glob("offline-run-*/files/media/table/evaluation_*.table.json")
    table = json.loads(file.read_text())
    assert table["columns"] == ["headline", *SYSTEMS, "real"]
    assert [row[0] for row in table["data"]] == [one["headline"] for one in samples]
    (run,) = (tmp_path / "run" / "wandb").glob("offline-run-*/run-*.wandb")
    assert b"evaluation/tuned/loss" in run.read_bytes()


@pytest.mark.browser
@pytest.mark.parametrize("dark", [False, True])
def test_the_report_opens_in_a_browser_asks_for_nothing_and_shows_scripts_as_text(evaluated, tmp_path, dark):
    from tests.browser import chromium, complaints, requests, screenshot

    metrics, samples, _ = evaluated()
    samples[0]["headline"] = "<script>document.title = 'broken'</script>"
    page = tmp_path / "page.html"
    page.write_text(render(metrics, samples), encoding="utf-8")
    with chromium(dark) as browser:
        browser.get(page.as_uri())
        assert browser.title == "Is it satire yet?"
        assert samples[0]["headline"] in browser.find_element("tag name", "body").text
        assert len(browser.find_elements("css selector", "svg")) == 3
        assert len(browser.find_elements("css selector", "section article")) == 4 * len(samples)
        background = browser.find_element("tag name", "body").value_of_css_property("background-color")
        assert (sum(map(int, re.findall(r"\d+", background)[:3])) < 200) == dark
        wide = browser.execute_script("return document.documentElement.scrollWidth - window.innerWidth")
        assert wide <= 0
        assert requests(browser) == [page.as_uri()]
        assert complaints(browser) == []
        assert len(screenshot(browser, tmp_path / "page.png")) > 20_000
