"""Rows, tokens and steps of a run."""

import csv
import math

import huggingface_hub
import numpy as np
import pytest
from transformers import LlamaConfig

from onion_lightning.data.module import OnionDataModule
from onion_lightning.errors import OnionError
from onion_lightning.planning.report.workload import measure_workload
from onion_lightning.training.session import TrainerFlags
from tests.tiny import sample_rows

LLAMA = "NousResearch/Llama-2-7b-hf"
CONTEXT = LlamaConfig(max_position_embeddings=512)


def data_of(path, base, **changes) -> OnionDataModule:
    sizes = {"max_length": 200, "batch_size": 4, "global_batch_size": 8, "val_fraction": 0.2, "test_fraction": 0.15}
    return OnionDataModule(path=str(path), base_model=str(base), seed=1, **sizes | changes)


def test_a_corpus_that_is_here_is_counted(tiny_base, corpus_file):
    data = data_of(corpus_file, tiny_base)
    work = measure_workload(data, CONTEXT, TrainerFlags(max_epochs=3), ranks=1)
    lengths = np.array([len(ids) for ids in data.encoded["train"]["input_ids"]])
    assert (work.rows, work.longest) == (len(lengths), lengths.max())
    assert work.row_tokens == lengths.mean()
    assert work.square_tokens == pytest.approx((lengths.astype(float) ** 2).mean())
    assert work.epoch_tokens == pytest.approx(lengths.sum())
    assert (work.epoch_steps, work.steps) == (math.ceil(len(lengths) / 8), 3 * math.ceil(len(lengths) / 8))
    assert (work.micro_rows, work.accumulate, work.assumptions) == (4, 2, ())


def test_ranks_take_the_micro_batches_of_a_step_and_at_most_their_share_of_its_rows(tiny_base, corpus_file):
    for ranks, micro_rows, accumulate in ((2, 4, 1), (4, 2, 1), (16, 1, 1)):
        work = measure_workload(data_of(corpus_file, tiny_base), CONTEXT, TrainerFlags(max_epochs=1), ranks)
        assert (work.micro_rows, work.accumulate) == (micro_rows, accumulate)


@pytest.mark.parametrize(
    ("flags", "epoch_steps", "steps"),
    [
        (TrainerFlags(max_epochs=2, limit_train_batches=4), 2, 4),  # two micro-batches a step
        (TrainerFlags(max_epochs=2, limit_train_batches=0.5), 2, 4),
        (TrainerFlags(max_epochs=2, limit_train_batches=1000), 5, 10),
        (TrainerFlags(max_epochs=2, max_steps=3), 5, 3),
        (TrainerFlags(max_steps=100), 5, 100),
        (TrainerFlags(max_epochs=-1, max_steps=5), 5, 5),
    ],
)
def test_the_limits_of_the_trainer_count_whole_steps(tiny_base, corpus_file, flags, epoch_steps, steps):
    work = measure_workload(data_of(corpus_file, tiny_base), CONTEXT, flags, ranks=1)
    assert (work.epoch_steps, work.steps) == (epoch_steps, steps)


def test_without_a_limit_it_is_lightnings_thousand_epochs(tiny_base, corpus_file):
    work = measure_workload(data_of(corpus_file, tiny_base), CONTEXT, TrainerFlags(), ranks=1)
    assert work.steps == 1000 * work.epoch_steps
    assert "1,000 epochs" in work.assumptions[0]


def test_the_corpus_of_the_gpu_configs_is_assumed_and_not_downloaded():
    data = OnionDataModule(batch_size=8, global_batch_size=64)
    work = measure_workload(data, CONTEXT, TrainerFlags(max_epochs=3), ranks=8)
    assert (work.rows, work.row_tokens, work.longest) == (6110, 285, 512)  # 90% of 6,789 rows
    assert (work.epoch_steps, work.steps) == (96, 288)
    assert "the median of real articles" in work.assumptions[0]
    assert "6,110 training rows: 90% of 6,789" in work.assumptions[1]


def test_of_another_corpus_that_is_not_here_only_the_step_is_known():
    data = OnionDataModule(path="someone/news", max_length=100)
    work = measure_workload(data, CONTEXT, TrainerFlags(max_epochs=3), ranks=1)
    assert (work.rows, work.epoch_steps, work.steps, work.epoch_tokens) == (None, None, None, None)
    assert (work.row_tokens, work.longest, work.step_tokens) == (100, 100, 6400)
    assert measure_workload(data, CONTEXT, TrainerFlags(max_steps=7), ranks=1).steps == 7


def test_without_the_tokenizer_of_llama_2_tokens_are_estimated_from_words(tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "empty"))
    file = tmp_path / "rows.csv"
    articles = [" ".join(row["Content"].split()[:40]) for row in sample_rows()[:9]]
    with file.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows(
            [("title", "text"), *((f"Egg {at} Wins", text) for at, text in enumerate(articles))]
        )
    data = data_of(file, LLAMA, val_fraction=0.0, test_fraction=0.0, near_duplicates="keep")
    work = measure_workload(data, CONTEXT, TrainerFlags(max_epochs=1), ranks=1)
    assert (work.rows, work.longest) == (9, 91)  # 27 + 1.6 * 40
    assert f"the tokenizer of {LLAMA} is not on this machine" in work.assumptions[0]


def test_what_fit_refuses_is_refused(tiny_base, tmp_path):
    with pytest.raises(OnionError, match=r"--data.max_length 600: the context length is 512"):
        measure_workload(OnionDataModule(max_length=600), CONTEXT, TrainerFlags(), ranks=1)
    with pytest.raises(OnionError, match="no such file"):
        measure_workload(data_of(tmp_path / "none.csv", tiny_base), CONTEXT, TrainerFlags(), ranks=1)
