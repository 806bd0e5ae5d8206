"""Fixtures of the evaluation tests: the whole command on a tiny model, and samples with chosen values."""

import json
from dataclasses import replace

import pytest

from onion_lightning.evaluation.metrics import EvaluationSettings
from onion_lightning.evaluation.samples import MeasuredArticle, Sample
from onion_lightning.evaluation.style import TextMeasures
from onion_lightning.evaluation.tasks import ScoredArticle
from onion_lightning.model.writing.copying import CopiedRun
from tests.conftest import records

SMALL = (
    "--model.max_new_tokens",
    "6",
    "--data.test_fraction",
    "0.5",
    "--shots",
    "1",
    "--count",
    "5",
    "--batch_size",
    "2",
)
UNCUT = ("--data.max_length", "400")  # no training example is cut
MEASURES = TextMeasures(
    words=2,
    loop_rate=False,
    headline_recall=0.5,
    dateline=False,
    spokesperson=False,
    closing_turn=False,
    words_per_sentence=0.0,
    distinct_1=0.5,
    distinct_2=0.5,
    distinct_3=0.5,
)
NOT_COPIED = CopiedRun(3, "Eggs")


@pytest.fixture
def evaluated(run, tmp_path):
    """Evaluates a tiny model after two training steps; returns the metrics, the samples and the page."""
    run("fit", "--trainer.max_steps", "2", "--samples.count", "0", "--data.test_fraction", "0.5", *UNCUT)

    def evaluate(*more, name="report"):
        folder = tmp_path / name
        checkpoint = ("--ckpt_path", str(tmp_path / "run" / "last.ckpt"))
        run("evaluate", *SMALL, *checkpoint, "--output", str(folder), *more)
        metrics = json.loads((folder / "metrics.json").read_text())
        return metrics, records(folder / "samples.jsonl"), (folder / "report.html").read_text()

    return evaluate


def measured(system, text="x", loss=None, copied=NOT_COPIED, rank=1, **more):
    """An article; it ends with EOS if its loss is above 8, and is cut otherwise."""
    written = {} if loss is None else {"loss": loss, "tokens": 6, "finish_reason": "eos" if loss > 8 else "length"}
    return MeasuredArticle(ScoredArticle(0, system, text, rank, **(written | more)), MEASURES, copied)


def sample(base, few_shot, tuned, tokens, size, headline="Egg"):
    """A sample with the given losses."""
    losses = {"base": base, "few_shot": few_shot, "tuned": tuned}
    systems = {name: measured(name, loss=loss) for name, loss in losses.items()}
    return Sample(headline, tokens, size, 1, systems | {"real": measured("real")})


def with_best_of(one, rank, tuned_rank):
    """The sample with a fourth system, whose model has its loss already."""
    best = measured("best_of", "best", rank=rank, tokens=6, finish_reason="eos", seconds=4.0)
    tuned = measured("tuned", loss=one.systems["tuned"].scored.loss, rank=tuned_rank, seconds=1.0)
    real = one.systems["real"]
    systems = {name: one.systems[name] for name in ("base", "few_shot")} | {
        "tuned": tuned,
        "best_of": best,
        "real": real,
    }
    return replace(one, systems=systems)


def settings(**more):
    values = {"headlines": 3, "n": None, "shots": 3, "shots_least": 3, "base_model": "tiny", "load_in": "int8"}
    values |= {"checkpoint": "last.ckpt", "seed": 1, "corpus": "corpus.csv", "batch_size": 8, "max_new_tokens": 6}
    values |= {"temperature": 0.8, "top_p": 0.95, "repetition_penalty": 1.1}
    return EvaluationSettings(**(values | more))
