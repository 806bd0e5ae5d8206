"""Predictions with round figures, for tests that compute by hand."""

from typing import Any

from onion_lightning.planning.memory import MemoryPlan
from onion_lightning.planning.report.target import Target
from onion_lightning.planning.report.workload import Workload


def made_plan(**changes: Any) -> MemoryPlan:
    """Return a prediction for 2 rows of 100 tokens."""
    sizes = {"linear": 7000, "embeddings": 500, "adapters": 40, "gradients": 40, "buckets": 0, "optimizer": 80}
    sizes |= {"activations": 1000, "logits": 200, "workspace": 800, "step": 60, "parameters": 8000, "trainable": 10}
    sizes |= {"trained_tensors": 4, "products": 2_000_000, "attention": 100_000}
    return MemoryPlan(**sizes | changes)


def made_work(**changes: Any) -> Workload:
    """Return a run of 50 steps, each of 8 rows in 2 micro-batches on each of 2 ranks."""
    sizes = {"rows": 200, "row_tokens": 50.0, "square_tokens": 3000.0, "longest": 100, "global_batch": 8}
    sizes |= {"micro_rows": 2, "accumulate": 2, "epoch_steps": 25, "steps": 50}
    return Workload(**sizes | changes)


def made_target(**changes: Any) -> Target:
    sizes = {"name": "A100 80GB", "device_type": "cuda", "precision": "16-mixed", "ranks": 2, "memory": 80_000_000_000}
    return Target(**sizes | {"rate": 1e6, "bandwidth": 1e5} | changes)
