"""Gradients do not depend on what the model did before, and a step that would train nothing stops the run."""

import bitsandbytes
import pytest
import torch

from onion_lightning.attention.phrase_attention import attend
from onion_lightning.errors import NoGradientError
from onion_lightning.model.module import OnionModule
from onion_lightning.model.optimization.optimizer_step import adapter_gradients, check_not_zero
from tests.conftest import adapters, batch, module

FORMATS = pytest.mark.parametrize("load_in", ["int8", "nf4", "none"])


def loss_and_gradients(made: OnionModule) -> dict[str, torch.Tensor]:
    made.train()
    made.zero_grad()
    torch.manual_seed(1)
    loss = made.loss_sum(batch(made))
    loss.backward()
    trained = {name: p for name, p in made.named_parameters() if p.requires_grad}
    assert all(p.grad is not None for p in trained.values())
    return {"loss": loss.detach()} | {name: p.grad.clone() for name, p in trained.items()}


def validate(made: OnionModule) -> None:
    made.eval()
    with torch.inference_mode():
        made.loss_sum(batch(made))


def sample(made: OnionModule) -> None:
    made.write(["Egg Wins"], seed=0, max_new_tokens=3)


def score_without_adapters(made: OnionModule) -> None:
    with made.model.disable_adapter():
        validate(made)
        sample(made)


def look_inside(made: OnionModule) -> None:
    attend(made.model, made.tokenizer, "The town council of Eggville met on Tuesday in Eggville.", "Tuesday", "council")


@FORMATS
@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("use", [validate, sample, score_without_adapters, look_inside])
def test_loss_and_gradients_are_the_same_before_and_after_other_uses_of_the_model(
    tiny_base, load_in, checkpointing, use
):
    made = module(tiny_base, load_in=load_in, gradient_checkpointing=checkpointing, lora_dropout=0.1)
    before = loss_and_gradients(made)
    assert sum(value.abs().sum() for name, value in before.items() if "lora_B" in name) > 0
    use(made)
    after = loss_and_gradients(made)
    assert all(torch.equal(after[name], value) for name, value in before.items())


@FORMATS
def test_a_run_with_a_sanity_check_trains_the_same_adapters_as_one_without(run, tmp_path, load_in):
    few = ("--trainer.max_steps", "2", "--model.load_in", load_in, "--samples.count", "1")
    for steps in ("0", "2"):
        folder = str(tmp_path / steps)
        run("fit", *few, "--trainer.num_sanity_val_steps", steps, "--checkpoint.dirpath", folder)
    one, other = (adapters(tmp_path / steps / "last.ckpt") for steps in ("0", "2"))
    assert any("lora_B" in name and value.abs().sum() > 0 for name, value in one.items())
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_4_bit_weights_are_not_packed_for_inference_where_the_cpu_would_allow_it(tiny_base, monkeypatch):
    """bitsandbytes does so in `eval()` mode on a CPU with AVX-512-BF16, in place, and has no backward pass for it."""
    monkeypatch.setattr(bitsandbytes.nn.modules, "has_avx512bf16", lambda: True)
    made = module(tiny_base, load_in="nf4")
    before = {name: p.clone() for name, p in made.named_parameters()}
    validate(made)
    score_without_adapters(made)
    assert all(torch.equal(before[name], p) for name, p in made.named_parameters())


class Trainer:
    global_step = 3


@pytest.mark.parametrize(
    ("lost", "says"), [(1, "1 of 8 adapter weights have no gradient"), (8, "8 of 8 adapter weights have no gradient")]
)
def test_a_step_in_which_adapters_have_no_gradient_is_refused(tiny_base, monkeypatch, lost, says):
    made = module(tiny_base)
    loss_and_gradients(made)
    monkeypatch.setattr(OnionModule, "trainer", Trainer())
    assert len(adapter_gradients(made)) == 8
    for parameter in [p for p in made.parameters() if p.requires_grad][:lost]:
        parameter.grad = None
    with pytest.raises(NoGradientError, match=f"--model.load_in int8: at optimizer step 4 {says}"):
        adapter_gradients(made)


def test_a_step_whose_gradients_are_all_zero_is_refused(tiny_base, monkeypatch):
    made = module(tiny_base)
    monkeypatch.setattr(OnionModule, "trainer", Trainer())
    check_not_zero(made, 1e-30)
    with pytest.raises(NoGradientError, match=r"--model\.load_in int8: at optimizer step 4 all gradients are zero"):
        check_not_zero(made, 0.0)


def test_an_adapter_that_loses_its_gradient_stops_the_run_and_no_checkpoint_is_overwritten(run, refused, tmp_path):
    run("fit", "--trainer.max_steps", "2")
    before = (tmp_path / "run" / "last.ckpt").read_bytes()
    lose = ("--trainer.callbacks+=tests.stopper.LoseGradient", "--trainer.callbacks.step=3")
    sentence = refused("fit", "--ckpt_path", "last", *lose)
    assert "at optimizer step 4 1 of 8 adapter weights have no gradient" in sentence
    assert (tmp_path / "run" / "last.ckpt").read_bytes() == before
