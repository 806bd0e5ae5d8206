"""Three real optimizer steps on this machine."""

import pytest
import torch

from onion_lightning import process_memory
from onion_lightning.model.module import OnionModule
from onion_lightning.planning.report import probe
from onion_lightning.planning.report.probe import LIBRARIES, run_probe
from tests.planning.report.plans import made_plan, made_target

CPU = torch.device("cpu")


def probed(tiny_base, **flags):
    module = OnionModule(str(tiny_base), seed=1, **flags)
    target = made_target(name="the CPU", device_type="cpu", precision="32-true", ranks=1)
    return module, run_probe(module, CPU, target, made_plan(), (0.1, 0.2), (2, 30))


@pytest.mark.parametrize("load_in", ["int8", "nf4", "none"])
def test_three_steps_train_the_adapters_and_are_timed(tiny_base, load_in):
    module, found = probed(tiny_base, load_in=load_in, learning_rate=0.01)
    moved = [one for name, one in module.named_parameters() if "lora_B" in name]
    assert moved
    assert all(one.abs().max() > 0.005 for one in moved)  # they start at zero
    assert (len(found.seconds), found.rows, found.length) == (3, 2, 30)
    assert min(found.seconds) > 0
    assert found.predicted_peak == made_plan().total + LIBRARIES


def test_the_peak_is_how_much_the_process_grew(tiny_base, monkeypatch):
    """A step that allocates 300 MB more is seen."""
    step = probe.train_step

    def larger(*args: object) -> None:
        wasted = torch.ones(75_000_000)
        step(*args)
        del wasted

    _, before = probed(tiny_base)
    monkeypatch.setattr(probe, "train_step", larger)
    _, after = probed(tiny_base)
    assert 0 <= before.peak < 200_000_000
    assert after.peak - before.peak == pytest.approx(300_000_000, rel=0.2)


def test_where_the_system_does_not_report_memory_only_time_is_measured(tiny_base, monkeypatch, tmp_path):
    monkeypatch.setattr(process_memory, "STATUS", tmp_path / "none")
    assert probed(tiny_base)[1].peak is None
