"""A plan on the terminal."""

import re
from dataclasses import replace

import pytest

from onion_lightning.planning.memory import CUDA_CONTEXT, SharedLayers
from onion_lightning.planning.report.communication import Link, read_network
from onion_lightning.planning.report.cost import estimate_cost
from onion_lightning.planning.report.fitting import Remedy
from onion_lightning.planning.report.probe import Probe
from onion_lightning.planning.report.result import LargestBatch, TrainingPlan
from onion_lightning.planning.report.terminal import duration, interval, percent, seconds, show_plan, size
from tests.planning.report.plans import made_plan, made_target, made_work

GB = 10**9


def made(**changes) -> TrainingPlan:
    sizes = {"linear": 7 * GB, "embeddings": GB, "adapters": GB, "gradients": GB, "buckets": GB, "optimizer": 2 * GB}
    sizes |= {"activations": 4 * GB, "logits": GB, "workspace": 3 * GB, "step": GB}
    without = made_plan(**sizes)
    work, target = made_work(assumptions=("rows of 285 tokens",)), made_target()
    plan = {
        "settings": {"base_model": "NousResearch/Llama-2-7b-hf", "load_in": "int8"},
        "target": target,
        "memory": {False: without, True: replace(without, activations=GB // 10)},
        "checkpointing": False,
        "work": work,
        "cost": estimate_cost(without, "int8", False, work, target, 2.5),
        "fits": True,
        "remedies": [],
        "cards": [],
        "largest_batch": None,
        "probe": None,
    }
    return TrainingPlan(**plan | changes)


@pytest.fixture
def printed(capsys, monkeypatch):
    def show(plan: TrainingPlan, width: int = 100) -> str:
        monkeypatch.setenv("COLUMNS", str(width))
        show_plan(plan, None)
        return capsys.readouterr().err

    return show


REMEDY = Remedy({"--data.batch_size": 1, "--model.gradient_checkpointing": True}, 9 * GB, "a third more time; more")
PROBE = Probe("the CPU (2 threads)", "32-true", 2, 384, [3.0, 1.0, 1.1], (0.9, 1.8), 2 * GB, 19 * GB // 10)


@pytest.mark.parametrize("width", [80, 120])
def test_everything_is_shown_within_the_width_of_the_terminal(printed, width):
    plan = made(fits=False, remedies=[REMEDY], cards=["A100 80GB"] * 9, largest_batch=LargestBatch(4, GB), probe=PROBE)
    text = printed(plan, width)
    assert max(map(len, text.splitlines())) <= min(width, 100)
    for words in (
        "2 × A100 80GB in 16-mixed",
        "tokens per step",
        "It does not fit",
        "--data.batch_size 4",
        "and 3 more",
    ):
        assert words in " ".join(text.split())
    assert "…" not in text


def test_the_parts_of_the_memory_add_up_to_the_peak(printed):
    """What is in parentheses is not needed at the peak."""
    text = printed(made())
    for column in (0, 1):
        rows = [line for line in text.splitlines() if re.search(r"\d\.\d\d\)? +\(?\d", line)]
        cells = {
            line[:30].strip(): line[30:].split()[column]
            for line in rows[: [r.split()[0] for r in rows].index("peak") + 1]
        }
        peak = cells.pop("peak")
        counted = sum(float(cell) for cell in cells.values() if not cell.startswith("("))
        assert counted == pytest.approx(float(peak), abs=0.02)
        assert "(1.00)" in cells.values()


def test_the_peak_is_set_against_the_memory_of_the_card(printed):
    peak = (7 + 1 + 1 + 1 + 1 + 2 + 4 + 3) + CUDA_CONTEXT / GB
    assert f"{peak / 80:.0%}" in next(line for line in printed(made()).splitlines() if "of 80 GB" in line)


def communicating(**target) -> TrainingPlan:
    made_for = made_target(**target)
    return made(target=made_for, cost=estimate_cost(made().chosen, "int8", False, made_work(), made_for, None))


def test_on_one_device_there_is_neither_a_second_copy_of_the_gradients_nor_communication(printed):
    text = printed(communicating(ranks=1))
    assert "DDP" not in text
    assert "gradients per step" not in text
    assert "communication per step" not in text


def rows_of(text: str) -> dict[str, list[str]]:
    """Return the cells of the table of communication by their row."""
    lines = [re.split(r"\s{2,}", line.strip()) for line in text[text.index("communication per step") :].splitlines()]
    return {name: cells for name, *cells in lines[: lines.index([""])]}


def test_communication_has_a_column_for_each_kind_of_link_and_a_row_for_the_network(printed):
    """By hand: of a gigabyte in 40 buckets, a ring sends 31/16, over 56 hops in nodes; the first and, with PCIe, the last
    bucket are so small that they take the trees, with 14 hops."""
    text = printed(communicating(ranks=32, nodes=4, network=Link("1 GB/s", 1e9, 1e-6)))
    assert rows_of(text) == {
        "communication per step": ["NVLink", "PCIe"],
        "─" * 59: [],
        "each device sends": ["1.94 GB", "1.94 GB"],
        "within a node of 8": ["17 ms", "93.2 ms"],
        "between 4 nodes, 1 GB/s": ["1.9 s", "1.9 s"],
        "together": ["2 s", "2 s"],
        "share of a step": ["46.6% to 51.3%", "47.5% to 52.2%"],
    }
    assert "Communication is counted as if none of it overlapped" in text
    assert "latency" not in text


def test_sharded_layers_have_their_memory_and_what_is_gathered_in_a_step(printed):
    """By hand, over NVLink: 160 gathers of 7/8 of 0.1 GB take 58.3 ms, and their 1120 hops 4.5 ms; over PCIe, 583 ms and
    6.4 ms."""
    shared, target = SharedLayers(8, 40, 4 * GB, 3 * GB // 10), made_target(ranks=8)
    memory = replace(made().chosen, shared=shared)
    cost = estimate_cost(memory, "int8", False, made_work(), target, None)
    text = printed(made(target=target, cost=cost, memory=dict.fromkeys((False, True), memory)))
    cells = {line[:30].strip(): line.split()[-1] for line in text.splitlines() if line.strip()}
    assert cells["8-bit base weights, a share"] == "8.00"
    assert cells["gathered layers"] == "0.30"
    assert re.search(r"weights per step +14 GB +to each device, in 160 all-gathers", text)
    rows = rows_of(text)
    assert rows["each device receives"] == ["14 GB", "14 GB"]
    gradients = rows_of(printed(communicating(ranks=8)))["time"]
    assert [gradients, rows["time"]] == [["9.64 ms", "76.3 ms"], ["72.5 ms", "0.67 s"]]
    assert max(map(len, text.splitlines())) <= 100


def test_in_one_node_communication_has_its_time_and_its_share(printed):
    text = printed(communicating(ranks=8))
    assert list(rows_of(text))[2:] == ["each device sends", "time", "share of a step"]
    assert "Assumed: NVLink at 240 GB/s and PCIe at 24 GB/s" in " ".join(text.split())


def test_between_nodes_of_one_device_there_is_the_network_only(printed):
    text = printed(communicating(ranks=4, nodes=4, network=read_network("25 Gbit/s"), rate=None))
    assert list(rows_of(text))[2:] == ["each device sends", "between 4 nodes, 25 Gbit/s", "share of a step"]
    assert rows_of(text)["share of a step"] == ["unknown"]
    assert "a latency of 14 µs between nodes" in " ".join(text.split())
    assert "NVLink" not in text


def test_without_a_network_several_nodes_are_asked_for_one(printed):
    text = printed(communicating(ranks=32, nodes=4))
    assert "communication per step" not in text
    assert 'Give --network, such as "25 Gbit/s", to see' in text


def test_assumptions_are_named(printed):
    text = " ".join(printed(made()).split())
    assert "Assumed: rows of 285 tokens." in text
    assert "Assumed: matrix products at 20% to 50% of the card's peak rate" in text
    assert "without loading, validation, samples and communication" in text


def test_a_probe_shows_what_was_predicted_beside_what_was_measured(printed):
    line = next(line for line in printed(made(probe=PROBE)).splitlines() if "peak memory" in line)
    assert line.split()[-3:] == ["1.90", "2.00", "-5.0%"]


@pytest.mark.parametrize(
    ("value", "words"), [(0.5, "0 s"), (59, "59 s"), (600, "10 min"), (3 * 3600, "3 hours"), (86400 * 10, "10 days")]
)
def test_times_have_a_sensible_unit(value, words):
    assert duration(value) == words


def test_a_share_that_rounds_to_nothing_is_shown_as_small():
    assert [percent(value) for value in (0.0, 0.0004, 0.0006, 0.123)] == ["<0.1%", "<0.1%", "0.1%", "12.3%"]


def test_a_range_names_its_unit_once():
    assert interval((1.5, 3), seconds) == "1.5 to 3 s"
    assert interval((60, 7200), duration) == "60 s to 2 hours"


@pytest.mark.parametrize(
    ("value", "words"), [(1.5e-5, "0.015 ms"), (0.0106, "10.6 ms"), (0.19, "0.19 s"), (12.3, "12 s")]
)
def test_a_tenth_of_a_second_or_less_is_in_milliseconds(value, words):
    assert seconds(value) == words


@pytest.mark.parametrize(
    ("count", "words"), [(5, "5 bytes"), (1500, "1.5 kB"), (50_300_000, "50.3 MB"), (7 * GB, "7 GB")]
)
def test_sizes_have_a_sensible_unit(count, words):
    assert size(count) == words
