"""Every GPU config starts on the tiny model: with its precision, its sanity check, gradient checkpointing and strategy."""

import pytest

from tests.conftest import ROOT, curve
from tests.gpu.conftest import CARD, GPU, cards

pytestmark = GPU


@pytest.mark.parametrize("config", ["gpu1", "qlora", "ddp8"])
def test_a_gpu_config_trains_two_steps(shell, tiny_base, corpus_file, tmp_path, config):
    words = ["fit", "--config", str(ROOT / "configs" / f"{config}.yaml"), *CARD, "--trainer.logger", "false"]
    words += ["--model.base_model", str(tiny_base), "--data.path", str(corpus_file), "--data.max_length", "200"]
    words += ["--data.val_fraction", "0.2", "--data.global_batch_size", "16", "--data.batch_size", "4"]
    words += ["--checkpoint.dirpath", str(tmp_path), "--trainer.max_steps", "2", "--samples.max_new_tokens", "5"]
    if config == "ddp8":
        words += ["--trainer.devices", str(min(cards(), 8))]
    done = shell(words)
    assert done.returncode == 0, done.stderr
    assert "Done: step 2" in done.stderr
    assert len(curve(tmp_path)) == 2
