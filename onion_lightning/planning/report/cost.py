"""What a run costs: floating-point operations, a range of time and money, checkpoints, and bytes between ranks."""

from dataclasses import dataclass

from onion_lightning.model.base_model import LoadIn, compute_dtype
from onion_lightning.planning.memory import PASSES, MemoryPlan
from onion_lightning.planning.report.communication import (
    LOCAL,
    NVLINK,
    PCIE,
    SIGNALS,
    Communication,
    Gathers,
    Range,
    communicate,
)
from onion_lightning.planning.report.target import Target
from onion_lightning.planning.report.workload import Workload

__all__ = ["Cost", "estimate_cost", "step_seconds"]

# Share of the peak rate of matrix products that a step reaches. An H100 reached 0.2 with micro-batches of 2,048 tokens and
# 0.35 with 8,192; for other cards it is assumed. On the CPU, matrix products take 40 to 50% of a step.
CARD_UTILIZATION: Range = (0.2, 0.5)
CPU_UTILIZATION: Range = (0.35, 0.7)
WORD = 4  # bytes of float32, the dtype of adapters, gradients and the optimizer's moments
CHECKPOINT_OVERHEAD = 700  # bytes for each adapter weight and its two moments: names and headers


@dataclass(frozen=True)
class Cost:
    """What a run costs.

    Attributes:
        step_flops: floating-point operations of an optimizer step on all ranks.
        step_seconds: from the least to the most; None if the device's rate is unknown.
        seconds: of the whole run, without validation, samples and loading; None if unknown.
        money: for `seconds` on all devices, in the currency of the price; None if unknown.
        checkpoint: bytes of `last.ckpt`.
        exchanged: bytes that all ranks add up in a step: gradients, the loss, and whether to stop; 0 on one rank.
        gathers: sharded weights that each rank gathers in a step; None if they are not sharded.
        communication: what both take, for each kind of link that nodes may have; empty if it is unknown.
        utilization: that `step_seconds` assumes.
    """

    step_flops: float
    step_seconds: Range | None
    seconds: Range | None
    money: Range | None
    checkpoint: int
    exchanged: int
    gathers: Gathers | None
    communication: tuple[Communication, ...]
    utilization: Range


def estimate_cost(
    plan: MemoryPlan, load_in: LoadIn, checkpointing: bool, work: Workload, target: Target, price_per_hour: float | None
) -> Cost:
    """Estimate the cost of a run.

    Args:
        plan: of a micro-batch of `work.micro_rows` rows, which all have the length `work.longest`.
        load_in: as --model.load_in.
        checkpointing: as --model.gradient_checkpointing.
        work: what the run trains on.
        target: the devices.
        price_per_hour: of one device.
    """
    flops = flops_of(plan, work, work.global_batch)
    step = step_seconds(flops, plan, load_in, checkpointing, work, target)
    seconds = None if step is None or work.steps is None else (work.steps * step[0], work.steps * step[1])
    gathers = gathers_of(plan, work, target)
    price = None if price_per_hour is None else price_per_hour * target.ranks / 3600
    return Cost(
        step_flops=flops,
        step_seconds=step,
        seconds=seconds,
        money=None if seconds is None or price is None else (price * seconds[0], price * seconds[1]),
        checkpoint=plan.adapters + plan.optimizer + CHECKPOINT_OVERHEAD * plan.trained_tensors,
        exchanged=plan.gradients + sum(SIGNALS) if target.ranks > 1 else 0,
        gathers=gathers,
        communication=communication(plan.gradients, gathers, step, target),
        utilization=utilization(target),
    )


def gathers_of(plan: MemoryPlan, work: Workload, target: Target) -> Gathers | None:
    """Return what each rank gathers in a step: every sharded layer, in both passes of every micro-batch."""
    if (shared := plan.shared) is None:
        return None
    nodes = target.nodes if shared.ranks == target.ranks else 1
    return Gathers(
        PASSES * work.accumulate * shared.count, shared.size / shared.count, nodes, work.accumulate * shared.received
    )


def communication(
    gradients: int, gathers: Gathers | None, step: Range | None, target: Target
) -> tuple[Communication, ...]:
    """Return what ranks communicate with NVLink and with PCIe; on CPUs, or with one rank on a node, the network only."""
    on_cards = target.device_type == "cuda" and target.devices > 1
    if target.network is None and (target.nodes > 1 or not on_cards):
        return ()
    links = (NVLINK, PCIE) if on_cards else (LOCAL,)
    network = target.network or LOCAL
    size = target.nodes, target.devices
    return tuple(communicate(gradients, *size, one, network, step, gathers) for one in links)


def flops_of(plan: MemoryPlan, work: Workload, rows: int) -> float:
    """Return the operations for rows of average length, from those for a micro-batch of rows of the largest length."""
    products = plan.products / (work.micro_rows * work.longest) * work.row_tokens * rows
    attention = plan.attention / (work.micro_rows * work.longest**2) * work.square_tokens * rows
    return products + attention


def step_seconds(
    flops: float, plan: MemoryPlan, load_in: LoadIn, checkpointing: bool, work: Workload, target: Target
) -> Range | None:
    """Return the time of an optimizer step: matrix products at a share of the peak rate, and reading the weights."""
    if target.rate is None:
        return None
    passes = (3 if checkpointing else 2) * work.accumulate
    reading = passes * weight_traffic(plan, load_in, target.precision) / target.bandwidth if target.bandwidth else 0.0
    low, high = utilization(target)
    ideal = flops / (target.ranks * target.rate)
    return ideal / high + reading, ideal / low + reading


def utilization(target: Target) -> Range:
    return CARD_UTILIZATION if target.device_type == "cuda" else CPU_UTILIZATION


def weight_traffic(plan: MemoryPlan, load_in: LoadIn, precision: str) -> float:
    """Return the bytes that are read and written to dequantize all frozen weights once, and to read the result."""
    word = compute_dtype(precision).itemsize
    return plan.parameters * {"int8": 1 + 2 * word, "nf4": 0.5 + 2 * word, "none": word}[load_in]
