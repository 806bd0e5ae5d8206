"""Prints a plan on the terminal."""

from collections.abc import Callable, Iterator
from pathlib import Path

from rich import box
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from onion_lightning.messages import stderr_console
from onion_lightning.planning.memory import CUDA_CONTEXT, MemoryPlan
from onion_lightning.planning.report.communication import NETWORK_LATENCY, NVLINK, PCIE, Communication, Range
from onion_lightning.planning.report.probe import Probe
from onion_lightning.planning.report.result import TrainingPlan
from onion_lightning.planning.report.target import SPARE
from onion_lightning.planning.start_line import WEIGHTS

__all__ = ["show_plan"]

WIDTH = 100  # columns
SHOWN_CARDS = 6


def show_plan(plan: TrainingPlan, file: Path | None) -> None:
    """Print memory, work and cost, whether the run fits, what was assumed, and the path of plan.json if it was written."""
    console = stderr_console()
    width = min(console.width, WIDTH)
    console.print(Text(f"  {title(plan)}", "bold"), width=width)
    for table in tables(plan):
        console.print(table, width=width, highlight=False)
    console.print(Padding(verdict(plan), (0, 0, 0, 2), expand=False), width=width, highlight=False)
    if plan.remedies:
        console.print(remedy_table(plan), width=width, highlight=False)
    for line in findings(plan):
        console.print(Padding(line, (0, 0, 0, 2), expand=False), width=width, highlight=False)
    for sentence in assumptions(plan):
        console.print(Padding(Text(sentence, "dim"), (0, 0, 0, 2), expand=False), width=width, highlight=False)
    if file is not None:
        console.print(f"  Plan: {file}", highlight=False, markup=False, soft_wrap=True)


def title(plan: TrainingPlan) -> str:
    return f"{plan.settings['base_model']} on {plan.target.describe()} in {plan.target.precision}"


def tables(plan: TrainingPlan) -> Iterator[Table]:
    yield memory_table(plan)
    yield work_table(plan)
    if plan.cost.communication:
        yield communication_table(plan)
    if plan.probe is not None:
        yield probe_table(plan.probe)


def make_table(*titles: str) -> Table:
    """Return an empty table; all columns but the first are aligned to the right."""
    table = Table(*titles, box=box.SIMPLE_HEAD)
    for column in table.columns[1:]:
        column.justify = "right"
    return table


def memory_table(plan: TrainingPlan) -> Table:
    """Return the parts of the memory without and with gradient checkpointing; what is not in the peak is in parentheses."""
    each = "memory, GB" if plan.target.ranks == 1 else "memory of each device, GB"
    now = "as configured"
    table = make_table(each, "without checkpointing", "with checkpointing")
    table.add_row("", *(Text(now if on == plan.checkpointing else "", "dim") for on in (False, True)))
    columns = [parts(plan.memory[on], plan) for on in (False, True)]
    for name in columns[0]:
        table.add_row(name, *(column[name] for column in columns))
    table.add_section()
    peaks = [plan.memory[on].total + CUDA_CONTEXT for on in (False, True)]
    table.add_row("peak", *(gigabytes(peak) for peak in peaks), style="bold")
    if plan.target.memory is not None:
        of = f"of {plan.target.memory / 1e9:,.3g} GB"
        table.add_row(of, *(f"{peak / plan.target.memory:.0%}" for peak in peaks))
    return table


def parts(memory: MemoryPlan, plan: TrainingPlan) -> dict[str, str]:
    """Return the size of each part by its name. Those in parentheses are not needed at the peak."""
    decoder = memory.workspace + memory.gathered
    step = memory.step > memory.activations + max(memory.logits, decoder)
    share = "" if memory.shared is None else ", a share"
    shown = {
        f"{WEIGHTS[plan.settings['load_in']]} base weights{share}": gigabytes(memory.weights),
        "adapters": gigabytes(memory.adapters),
        "gradients": gigabytes(memory.gradients),
        "gradients, DDP's copy": gigabytes(memory.buckets),
        "optimizer state": gigabytes(memory.optimizer),
        "activations": in_peak(memory.activations, not step),
        "logits and loss": in_peak(memory.logits, not step and memory.logits >= decoder),
        "dequantized and recomputed": in_peak(memory.workspace, not step and decoder >= memory.logits),
        "gathered layers": in_peak(memory.gathered, not step and decoder >= memory.logits),
        "optimizer step": in_peak(memory.step, step),
        context_name(plan): gigabytes(CUDA_CONTEXT),
    }
    if memory.shared is None:
        del shown["gathered layers"]
    if plan.target.ranks == 1:
        del shown["gradients, DDP's copy"]
    return shown


def context_name(plan: TrainingPlan) -> str:
    return "CUDA context (assumed)" if plan.target.device_type == "cuda" else "libraries (assumed)"


def in_peak(count: int, counts: bool) -> str:
    return gigabytes(count) if counts else f"({gigabytes(count)})"


def work_table(plan: TrainingPlan) -> Table:
    table = make_table("work", "")
    table.add_column("", style="dim")
    for name, value, note in work_rows(plan):
        table.add_row(name, value, note)
    return table


def work_rows(plan: TrainingPlan) -> Iterator[tuple[str, str, str]]:
    """Yield the name, the value and a note of each figure."""
    memory, work, cost = plan.chosen, plan.work, plan.cost
    share = f"{memory.trainable:,} ({memory.trainable / memory.parameters:.2%}) are trained"
    yield "parameters", f"{memory.parameters:,}", share
    rows = f"{work.global_batch} rows of {work.row_tokens:,.0f} on average"
    yield "tokens per step", f"{work.step_tokens:,.0f}", rows
    yield (
        "micro-batch",
        f"{work.micro_rows} × {work.longest:,}",
        f"rows × longest row; {work.accumulate} per step and device",
    )
    if work.rows is not None and work.epoch_tokens is not None:
        yield (
            "tokens per epoch",
            f"{work.epoch_tokens:,.0f}",
            f"{work.rows:,} training rows, {work.epoch_steps:,} steps",
        )
    yield "FLOPs per step", f"{cost.step_flops:.2e}", "on all devices" if plan.target.ranks > 1 else ""
    if cost.step_seconds is not None:
        yield "time of a step", interval(cost.step_seconds, seconds), utilization(plan)
    if cost.seconds is not None:
        yield "time of the run", interval(cost.seconds, duration), f"{work.steps:,} steps"
    if cost.money is not None:
        yield "cost of the run", interval(cost.money, "{:,.2f}".format), f"{plan.target.ranks} × the price of an hour"
    yield "last.ckpt", size(cost.checkpoint), "adapters and optimizer state"
    if plan.target.ranks > 1:
        yield "gradients per step", size(cost.exchanged), "added up over all devices"
    if (gathers := cost.gathers) is not None:
        note = f"to each device, in {gathers.count:,} all-gathers"
        yield "weights per step", size(gathers.received), note


def utilization(plan: TrainingPlan) -> str:
    low, high = plan.cost.utilization
    assert plan.target.rate is not None
    rate = f"{plan.target.rate / 1e12:,.3g} TFLOP/s" + (", measured" if plan.target.measured else "")
    return f"at {low:.0%} to {high:.0%} of {rate}"


def communication_table(plan: TrainingPlan) -> Table:
    """Return what a step communicates, with a column for each kind of link in a node."""
    ways, target, gathers = plan.cost.communication, plan.target, plan.cost.gathers
    table = make_table("communication per step", *(one.link for one in ways))
    within = f"within a node of {target.devices}" if target.nodes > 1 else "time"
    rows: dict[str, Callable[[Communication], str]] = {"each device sends": lambda one: size(one.sent)}
    if gathers is not None:
        rows["each device receives"] = lambda _: size(gathers.received)
    if ways[0].link:
        rows[within] = lambda one: seconds(one.within)
    if target.network is not None:
        rows[f"between {target.nodes} nodes, {target.network.name}"] = lambda one: seconds(one.between)
    if ways[0].link and target.network is not None:
        rows["together"] = lambda one: seconds(one.seconds)
    rows["share of a step"] = lambda one: "unknown" if one.share is None else interval(one.share, percent)
    for name, cell in rows.items():
        table.add_row(name, *map(cell, ways))
    return table


def probe_table(probe: Probe) -> Table:
    table = make_table(f"{probe.rows} × {probe.length} tokens on {probe.device}", "predicted", "measured", "difference")
    if probe.peak is None:
        table.add_row("peak memory, GB", gigabytes(probe.predicted_peak), "unknown", "")
    else:
        difference = f"{probe.predicted_peak / probe.peak - 1:+.1%}"
        table.add_row("peak memory, GB", gigabytes(probe.predicted_peak), gigabytes(probe.peak), difference)
    predicted = "unknown" if probe.predicted_seconds is None else interval(probe.predicted_seconds, seconds)
    first, *later = probe.seconds
    table.add_row("time of a step", predicted, seconds(min(later)), f"the first one {seconds(first)}")
    return table


def verdict(plan: TrainingPlan) -> Text:
    """Return whether the run fits."""
    if plan.fits is None:
        return Text("The card is unknown. Give --gpu to see whether the run fits.", "yellow")
    if plan.fits:
        return Text(f"It fits, and {SPARE:.0%} or more of the memory stays free.", "green")
    text = Text(f"It does not fit: {SPARE:.0%} of the memory must stay free.", "red")
    return text.append(
        " With these flags it does, cheapest first:" if plan.remedies else " No flags make it fit.", "default"
    )


def findings(plan: TrainingPlan) -> Iterator[Text]:
    """Yield the cards that the run fits, and the largest micro-batch if it was asked for."""
    if plan.cards:
        more = f" and {len(plan.cards) - SHOWN_CARDS} more" if len(plan.cards) > SHOWN_CARDS else ""
        yield Text(f"As configured, it fits {', '.join(plan.cards[:SHOWN_CARDS])}{more}.")
    if (found := plan.largest_batch) is not None:
        if found.batch_size is None or found.peak is None:
            yield Text("No --data.batch_size fits.")
        else:
            peak = gigabytes(found.peak + CUDA_CONTEXT)
            yield Text(f"The largest micro-batch that fits: --data.batch_size {found.batch_size} (peak {peak} GB).")


def remedy_table(plan: TrainingPlan) -> Table:
    table = Table("flags", "peak, GB", "price", box=box.SIMPLE_HEAD)
    table.columns[0].no_wrap, table.columns[1].justify = True, "right"
    for remedy in plan.remedies:
        table.add_row("\n".join(remedy.words()), gigabytes(remedy.peak + CUDA_CONTEXT), Text(remedy.price, "dim"))
    return table


def assumptions(plan: TrainingPlan) -> Iterator[str]:
    """Yield what was assumed, and what was left out."""
    assumed = list(plan.work.assumptions)
    if plan.target.one_assumed:
        assumed.append("one such card; give --trainer.devices for more")
    if plan.cost.step_seconds is not None and not plan.target.measured:
        low, high = plan.cost.utilization
        assumed.append(
            f"matrix products at {low:.0%} to {high:.0%} of the card's peak rate; only an H100 has been measured"
        )
    if any(one.link for one in plan.cost.communication):
        links = (f"{one.name} at {one.bandwidth / 1e9:g} GB/s" for one in (NVLINK, PCIE))
        assumed.append(f"{' and '.join(links)}, if the cards have them, as NCCL rates those of an A100; not measured")
    if plan.target.network is not None and plan.target.network.latency == NETWORK_LATENCY:
        assumed.append(f"a latency of {1e6 * NETWORK_LATENCY:g} µs between nodes; --network can name another")
    for line in assumed:
        yield f"Assumed: {line}."
    if plan.cost.communication:
        yield "Communication is counted as if none of it overlapped with computation."
    elif plan.target.nodes > 1:
        yield 'Give --network, such as "25 Gbit/s", to see what communication between the nodes takes.'
    if plan.cost.seconds is not None:
        yield "Time and cost are without loading, validation, samples and communication."
    yield "The peak is that of the largest micro-batch; in parentheses: not needed at the same time."


def gigabytes(count: int) -> str:
    return "<0.01" if 0 < count < 5e6 else f"{count / 1e9:,.2f}"


def size(count: int) -> str:
    for unit, bytes_ in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= bytes_:
            return f"{count / bytes_:.3g} {unit}"
    return f"{count} bytes"


def interval(ends: Range, form: Callable[[float], str]) -> str:
    """Return a range in words; the unit of both ends once, if it is the same."""
    low, high = (form(end) for end in ends)
    number, _, unit = low.partition(" ")
    return f"{number} to {high}" if unit and high.endswith(f" {unit}") else f"{low} to {high}"


def percent(value: float) -> str:
    return "<0.1%" if value < 5e-4 else f"{value:.1%}"


def seconds(value: float) -> str:
    if value < 0.1:
        return f"{1000 * value:.3g} ms"
    return f"{value:.2g} s" if value < 10 else f"{value:,.0f} s"


def duration(value: float) -> str:
    """Return a time with a sensible unit."""
    for unit, length in (("days", 86400), ("hours", 3600), ("min", 60)):
        if value >= 2 * length:
            return f"{value / length:.2g} {unit}" if value < 100 * length else f"{value / length:,.0f} {unit}"
    return f"{value:.0f} s"
