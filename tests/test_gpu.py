"""The tiny model on a real GPU: fp16 with the gradient scaler, in 8 bit and in 4 bit. Skipped without CUDA."""

import pytest
import torch

from tests.conftest import adapters, curve, records

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA"),
]
GPU = ("--trainer.accelerator", "gpu", "--trainer.precision", "16-mixed")


@pytest.mark.parametrize("load_in", ["int8", "nf4", "none"])
def test_fit_in_fp16_trains_float32_adapters_and_logs_gpu_statistics(run, tmp_path, load_in):
    run("fit", *GPU, "--model.load_in", load_in)
    assert all(value.dtype == torch.float32 for value in adapters(tmp_path / "run" / "last.ckpt").values())
    assert all(value > 0 for value in curve(tmp_path / "run", "gpu/memory_gb").values())
    assert len(curve(tmp_path / "run", "gpu/utilization")) > 0


def test_predict_writes_the_same_greedy_articles_twice(run, tmp_path):
    written = []
    for _ in range(2):
        run("predict", *GPU, "--data.headlines", '["Egg Wins", "Man Loses A Hat"]', "--model.temperature", "0")
        written.append(records(tmp_path / "articles.jsonl"))
    assert written[0] == written[1]
