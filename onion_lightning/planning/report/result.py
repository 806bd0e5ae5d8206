"""A plan: everything that the command prints, computed from the flags without weights."""

import json
from dataclasses import asdict, dataclass, replace
from functools import cache
from typing import Any

from transformers import PretrainedConfig

from onion_lightning.data.module import OnionDataModule
from onion_lightning.model.module import OnionModule
from onion_lightning.model.sharding.layers import check_ranks
from onion_lightning.planning.memory import CUDA_CONTEXT, MemoryPlan, flags_of
from onion_lightning.planning.out_of_memory import wider_shard
from onion_lightning.planning.remembered import recall_memory
from onion_lightning.planning.report.cards import CARDS
from onion_lightning.planning.report.cost import Cost, estimate_cost, flops_of, step_seconds
from onion_lightning.planning.report.fitting import Predict, Remedy, Setup, batch_sizes, find_remedies, largest
from onion_lightning.planning.report.probe import Probe, run_probe
from onion_lightning.planning.report.target import SPARE, Target, choose_target
from onion_lightning.planning.report.workload import Workload, measure_workload
from onion_lightning.pretrained.known import known_config
from onion_lightning.pretrained.locate import load_config
from onion_lightning.training.session import Session, TrainerFlags

__all__ = ["MARK", "LargestBatch", "TrainingPlan", "gather_plan"]

MARK = "onion_lightning plan"


@dataclass(frozen=True)
class LargestBatch:
    """The largest `--data.batch_size` that fits, None if none does, and its predicted peak in bytes."""

    batch_size: int | None
    peak: int | None


@dataclass(frozen=True)
class TrainingPlan:
    """What a run needs.

    Attributes:
        settings: the flags that determine it.
        target: the devices.
        memory: of each device for the largest micro-batch, without and with gradient checkpointing.
        checkpointing: which of the two the flags ask for.
        work: rows and tokens.
        cost: time, money, checkpoints, communication.
        fits: whether the memory suffices; None if the device is unknown.
        remedies: flags with which it does, if it does not, cheapest first.
        cards: names of the cards that it fits, if the card is unknown or too small.
        largest_batch: only if it was asked for and the device is known.
        probe: only if it was asked for.
    """

    settings: dict[str, Any]
    target: Target
    memory: dict[bool, MemoryPlan]
    checkpointing: bool
    work: Workload
    cost: Cost
    fits: bool | None
    remedies: list[Remedy]
    cards: list[str]
    largest_batch: LargestBatch | None
    probe: Probe | None

    @property
    def chosen(self) -> MemoryPlan:
        """The memory with the flags as they are."""
        return self.memory[self.checkpointing]

    def to_json(self) -> str:
        """Return the content of plan.json; memory in bytes, time in seconds."""
        with_name = {False: "without_checkpointing", True: "with_checkpointing"}
        content = {
            "written_by": MARK,
            "settings": self.settings,
            "target": asdict(self.target),
            "memory": {with_name[on]: asdict(plan) | {"peak": plan.total} for on, plan in self.memory.items()},
            "context": CUDA_CONTEXT,
            "spare": SPARE,
            "fits": self.fits,
            "remedies": [asdict(remedy) for remedy in self.remedies],
            "cards": self.cards,
            "work": asdict(self.work),
            "cost": asdict(self.cost),
            "largest_batch": None if self.largest_batch is None else asdict(self.largest_batch),
            "probe": None if self.probe is None else asdict(self.probe),
        }
        return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def gather_plan(
    session: Session,
    module: OnionModule,
    data: OnionDataModule,
    gpu: str | None,
    network: str | None,
    price_per_hour: float | None,
    probe: bool,
    find_batch_size: bool,
) -> TrainingPlan:
    """Predict what a run needs. Reads the corpus if it is on this machine; loads weights only for the probe.

    Args:
        session: has the Trainer's flags, and the device of this machine.
        module: has the model's flags.
        data: has the data's flags.
        gpu: name of the card; by default that of this machine, or its CPU.
        network: rate of the network between nodes.
        price_per_hour: of one device.
        probe: whether to train three steps on this machine.
        find_batch_size: whether to look for the largest micro-batch that fits.

    Raises:
        OnionError: the base model's config or the corpus cannot be read, there is no such card, or a flag is out of range.
    """
    target = choose_target(gpu, network, session.flags, session.device)
    config = known_config(module.base_model) or load_config(module.base_model)
    work = measure_workload(data, config, session.flags, target.ranks)
    predict = predictor(config, module, target, len(data.roles))
    first = Setup(
        work.micro_rows // len(data.roles), module.gradient_checkpointing, module.load_in, work.longest, module.shard
    )
    setup = replace(first, shard_more=wider_shard(module.shard, target.ranks, target.nodes))
    memory = {on: predict(replace(setup, checkpointing=on)) for on in (False, True)}
    chosen = memory[setup.checkpointing]
    sizes = batch_sizes(data.global_batch_size, target.ranks)
    usable = target.usable
    fits = None if usable is None else chosen.total <= usable
    return TrainingPlan(
        settings=settings_of(module, data),
        target=target,
        memory=memory,
        checkpointing=setup.checkpointing,
        work=work,
        cost=estimate_cost(chosen, module.load_in, setup.checkpointing, work, target, price_per_hour),
        fits=fits,
        remedies=find_remedies(setup, sizes, predict, usable) if usable is not None and not fits else [],
        cards=[] if fits or target.device_type == "cpu" else fitting_cards(chosen.total),
        largest_batch=largest_batch(setup, sizes, predict, usable) if find_batch_size and usable is not None else None,
        probe=probe_here(session, module, config, work) if probe else None,
    )


def predictor(config: PretrainedConfig, module: OnionModule, target: Target, articles: int = 1) -> Predict:
    """Return a function that predicts the memory of a setup, each of them once; `batch_size` counts rows of `articles`."""

    @cache
    def predict(setup: Setup) -> MemoryPlan:
        changed = {"load_in": setup.load_in, "gradient_checkpointing": setup.checkpointing}
        return recall_memory(
            config,
            **flags_of(module) | changed,
            precision=target.precision,
            rows=articles * setup.batch_size,
            length=setup.length,
            ranks=target.ranks,
            shares=check_ranks(setup.shard, target.ranks, target.nodes) if setup.shard else 1,
            device_type=target.device_type,
        )

    return predict


def largest_batch(setup: Setup, sizes: list[int], predict: Predict, usable: int) -> LargestBatch:
    def peak(size: int) -> int:
        return predict(replace(setup, batch_size=size)).total

    found = largest(sizes, lambda size: peak(size) <= usable)
    return LargestBatch(found, None if found is None else peak(found))


def fitting_cards(peak: int) -> list[str]:
    """Return the names of the cards whose memory suffices, the smallest first."""
    cards = [card for card in CARDS if peak + CUDA_CONTEXT <= (1 - SPARE) * card.gigabytes * 1e9]
    return [card.name for card in sorted(cards, key=lambda card: card.gigabytes)]


def probe_here(session: Session, module: OnionModule, config: PretrainedConfig, work: Workload) -> Probe:
    """Train a micro-batch on this machine, and predict the same."""
    precision = session.flags.precision if session.flags.precision == "32-true" else session.precision
    flags = TrainerFlags("cpu" if session.device.type == "cpu" else "auto", precision)
    here = choose_target(None, None, flags, session.device)
    checkpointing, load_in = module.gradient_checkpointing, module.load_in
    plan = predictor(config, module, here)(Setup(work.micro_rows, checkpointing, load_in, work.longest))
    full = replace(
        work, row_tokens=work.longest, square_tokens=work.longest**2, global_batch=work.micro_rows, accumulate=1
    )
    seconds = step_seconds(flops_of(plan, full, full.global_batch), plan, load_in, checkpointing, full, here)
    return run_probe(module, session.device, here, plan, seconds, (work.micro_rows, work.longest))


def settings_of(module: OnionModule, data: OnionDataModule) -> dict[str, Any]:
    model = ("base_model", "load_in", "lora_rank", "target_modules", "gradient_checkpointing", "shard")
    rows = ("path", "max_length", "batch_size", "global_batch_size")
    return {name: getattr(module, name) for name in model} | {name: getattr(data, name) for name in rows}
