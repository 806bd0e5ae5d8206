"""What the ranks of a run send each other while it trains."""

import json

from tests.conftest import ranks


def test_two_ranks_exchange_the_gradients_of_the_adapters_and_little_else(flags, shell, tmp_path):
    count = ("--trainer.callbacks+=tests.benchmarks.traffic.Traffic", "--trainer.callbacks.path")
    limits = ("--trainer.max_steps", "3", "--trainer.limit_val_batches", "0", "--trainer.enable_checkpointing", "false")
    done = shell(flags("fit", *ranks(2), *limits, *count, str(tmp_path / "traffic.json")))
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "traffic.json").read_text())
    assert found["steps"] == 3
    assert found["gradients"] == 3 * 4 * found["adapters"]
    assert 0 < found["other"] <= 3 * 16, found  # the loss of each step
