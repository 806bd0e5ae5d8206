"""A plan on the terminal."""

import re
from dataclasses import replace

import pytest

from onion_lightning.planning.memory import CUDA_CONTEXT
from onion_lightning.planning.report.cost import estimate_cost
from onion_lightning.planning.report.fitting import Remedy
from onion_lightning.planning.report.probe import Probe
from onion_lightning.planning.report.result import LargestBatch, TrainingPlan
from onion_lightning.planning.report.terminal import duration, interval, seconds, show_plan, size
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


def test_on_one_device_there_is_neither_a_second_copy_of_the_gradients_nor_communication(printed):
    text = printed(made(target=made_target(ranks=1)))
    assert "DDP" not in text
    assert "gradients per step" not in text


def test_assumptions_are_named(printed):
    text = " ".join(printed(made()).split())
    assert "Assumed: rows of 285 tokens." in text
    assert "Assumed: matrix products at 20% to 50% of the card's peak rate" in text
    assert "without loading, validation and samples" in text


def test_a_probe_shows_what_was_predicted_beside_what_was_measured(printed):
    line = next(line for line in printed(made(probe=PROBE)).splitlines() if "peak memory" in line)
    assert line.split()[-3:] == ["1.90", "2.00", "-5.0%"]


@pytest.mark.parametrize(
    ("value", "words"), [(0.5, "0 s"), (59, "59 s"), (600, "10 min"), (3 * 3600, "3 hours"), (86400 * 10, "10 days")]
)
def test_times_have_a_sensible_unit(value, words):
    assert duration(value) == words


def test_a_range_names_its_unit_once():
    assert interval((1.5, 3), seconds) == "1.5 to 3 s"
    assert interval((60, 7200), duration) == "60 s to 2 hours"


@pytest.mark.parametrize(
    ("count", "words"), [(5, "5 bytes"), (1500, "1.5 kB"), (50_300_000, "50.3 MB"), (7 * GB, "7 GB")]
)
def test_sizes_have_a_sensible_unit(count, words):
    assert size(count) == words
