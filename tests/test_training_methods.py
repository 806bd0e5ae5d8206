"""Every other kind of adapter, optimizer and noise: trains, resumes exactly, and computes the same after an export."""

import json

import pytest
import torch
from peft import PeftModel

from onion_lightning.cli.main import main
from onion_lightning.model.module import OnionModule
from tests.conftest import adapters, batch, curve, module
from tests.export.conftest import copy_base, logits, plain, trained

METHODS = {
    "rslora": ("--model.use_rslora", "true"),
    "dora": ("--model.use_dora", "true"),
    "gaussian": ("--model.init_lora_weights", "gaussian"),
    "lora_plus": ("--model.lora_plus_ratio", "4"),
    "neftune": ("--model.neftune_alpha", "5"),
    "adamw_8bit": ("--model.optimizer", "adamw_8bit", "--model.lora_rank", "64"),  # 64 x 64 values and more: 8 bit
}
IDS = torch.randint(3, 99, (2, 9), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("method", METHODS)
def test_a_run_that_is_stopped_and_resumed_ends_bit_for_bit_like_an_uninterrupted_one(run, flags, tmp_path, method):
    """With dropout, 8 bit and accumulation. The flag is not given again."""
    run("fit", *METHODS[method], "--checkpoint.dirpath", str(tmp_path / "whole"))
    stop = ("--trainer.callbacks+=tests.stopper.StopAt", "--trainer.callbacks.step=3")
    assert main(flags("fit", *METHODS[method], *stop)) == 130
    run("fit", "--ckpt_path", "last")
    whole, resumed = (torch.load(tmp_path / name / "last.ckpt", weights_only=True) for name in ("whole", "run"))
    assert whole["global_step"] == resumed["global_step"] == 10
    assert all(torch.equal(value, resumed["state_dict"][name]) for name, value in whole["state_dict"].items())
    states = [found["optimizer_states"][0]["state"] for found in (whole, resumed)]
    torch.testing.assert_close(*states, rtol=0, atol=0)
    assert curve(tmp_path / "run") == curve(tmp_path / "whole")


@pytest.mark.parametrize("method", METHODS)
def test_a_method_trains_other_adapters_than_the_default_and_the_loss_falls(run, tmp_path, method):
    run("fit", *METHODS[method][2:], "--checkpoint.dirpath", str(tmp_path / "default"))
    run("fit", *METHODS[method])
    losses = list(curve(tmp_path / "run").values())
    assert sum(losses[-3:]) < sum(losses[:3])
    one, other = (adapters(tmp_path / name / "last.ckpt") for name in ("default", "run"))
    assert any(not torch.equal(value, other[name]) for name, value in one.items())


@pytest.mark.parametrize(
    ("first", "second", "saved"),
    [
        (METHODS["adamw_8bit"], ("--model.optimizer", "adamw"), "adamw_8bit"),
        (METHODS["lora_plus"], ("--model.lora_plus_ratio", "1"), "4.0"),
        ((), ("--model.lora_plus_ratio", "4"), "1.0"),
    ],
)
def test_a_resume_with_an_optimizer_whose_state_is_another_is_refused(run, refused, tmp_path, first, second, saved):
    run("fit", *first, "--trainer.max_steps", "2", "--samples.count", "0")
    before = (tmp_path / "run" / "last.ckpt").read_bytes()
    line = refused("fit", *second, "--ckpt_path", "last", "--trainer.max_steps", "4")
    assert line.startswith(f"error: {second[0]} ")
    assert f"has the optimizer state of {second[0]} {saved}; give that value" in line
    assert (tmp_path / "run" / "last.ckpt").read_bytes() == before


def test_lora_plus_gives_b_a_multiple_of_the_learning_rate_of_a_at_each_step(run, tmp_path):
    run("fit", "--model.lora_plus_ratio", "4", "--trainer.max_steps", "4")
    saved = torch.load(tmp_path / "run" / "last.ckpt", weights_only=True)
    first, second = saved["optimizer_states"][0]["param_groups"]
    assert first["initial_lr"] == 0.01
    assert second["initial_lr"] == 0.04
    assert len(first["params"]) == len(second["params"]) == 4


def test_the_state_of_8_bit_adamw_is_in_8_bit_where_a_weight_is_large_enough(run, tmp_path):
    run("fit", *METHODS["adamw_8bit"], "--trainer.max_steps", "2")
    saved = torch.load(tmp_path / "run" / "last.ckpt", weights_only=True)
    states = [one["__bnb_optimizer_quant_state__"] for one in saved["optimizer_states"][0]["state"].values()]
    large = [state for state in states if state["state1"].numel() >= 4096]
    assert len(large) == 6  # those of v_proj's B have 32 x 64 values
    assert all(state["state1"].dtype == state["state2"].dtype == torch.uint8 for state in large)
    assert all(state["state1"].dtype == torch.float32 for state in states if state["state1"].numel() < 4096)


@pytest.mark.parametrize("optimizer", ["paged_adamw", "paged_adamw_8bit"])
def test_a_paged_optimizer_is_refused_on_a_cpu_before_the_model_is_loaded(refused, tmp_path, optimizer):
    line = refused("fit", "--model.optimizer", optimizer)
    assert line.startswith(f"error: --model.optimizer {optimizer}: moves its state between a GPU and the CPU")
    assert line.endswith(f"give {optimizer.removeprefix('paged_')}.")
    assert not (tmp_path / "run" / "last.ckpt").exists()


@pytest.mark.parametrize("packed", [True, False])
def test_noise_on_embeddings_is_bounded_row_by_row_and_absent_outside_of_training(tiny_base, packed):
    made, clean = module(tiny_base, neftune_alpha=5.0), module(tiny_base)
    if not packed:
        for one in (made, clean):
            one.language_model.set_attn_implementation("eager")
    found = []
    for one in (made, clean):
        one.language_model.get_decoder().layers[0].register_forward_pre_hook(
            lambda layer, inputs, found=found: found.append(inputs[0].detach())
        )
        one.loss_sum(batch(one))
    noise, lengths = found[0] - found[1], batch(made)["row_lengths"]
    rows = noise[0].split(lengths) if packed else [row[:length] for row, length in zip(noise, lengths, strict=True)]
    for row, length in zip(rows, lengths, strict=True):
        bound = 5 / (length * 64) ** 0.5
        assert bound * 0.9 < float(row.abs().max()) <= bound * 1.0001
        assert abs(float(row.mean())) < bound * 0.1
    assert made.eval().loss_sum(batch(made)) == clean.eval().loss_sum(batch(clean))
    assert not made.language_model.get_input_embeddings()._forward_hooks


@pytest.mark.parametrize("kind", [{"use_rslora": True}, {"use_dora": True}], ids=str)
@pytest.mark.parametrize("target", [["q_proj", "v_proj"], "all-linear", ["lm_head", "o_proj"]], ids=str)
def test_exported_adapters_and_merged_weights_compute_the_same_without_our_code(run, tiny_base, tmp_path, kind, target):
    base = copy_base(tiny_base, tmp_path / "base", {})
    made = trained(base, tmp_path / "a.ckpt", target_modules=target, **kind)
    words = ("--ckpt_path", str(tmp_path / "a.ckpt"), "--output", str(tmp_path / "out"), "--merge", "true")
    run("export", "--model.base_model", str(base), *words)
    expected = logits(made.language_model, IDS)
    adapted = PeftModel.from_pretrained(plain(base), tmp_path / "out").eval()
    torch.testing.assert_close(logits(adapted, IDS), expected, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(logits(plain(tmp_path / "out" / "merged"), IDS), expected, atol=1e-3, rtol=1e-3)
    verify = ("--path", str(tmp_path / "out"), "--ckpt_path", str(tmp_path / "a.ckpt"), "--count", "2")
    run("verify", *verify, "--model.base_model", str(base), "--model.load_in", "none", "--model.max_new_tokens", "4")
    config = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    assert {name: config[name] for name in kind} == kind


@pytest.mark.parametrize("kind", [{"use_rslora": True}, {"use_dora": True}], ids=str)
def test_a_folder_of_peft_is_a_checkpoint_and_a_start(run, tiny_base, tmp_path, kind):
    made = module(tiny_base, load_in="none", **kind)
    torch.manual_seed(1)
    for parameter in made.parameters():
        if parameter.requires_grad:
            parameter.data += 0.1 * torch.randn_like(parameter)
    made.model.save_pretrained(tmp_path / "peft")
    same = ("--model.base_model", str(tiny_base), "--model.load_in", "none")
    run("validate", *same, "--ckpt_path", str(tmp_path / "peft"))
    few = ("--trainer.max_steps", "1", "--samples.count", "0")  # the learning rate of the first step is 0
    run("fit", *same, "--model.adapter", str(tmp_path / "peft"), *few)
    saved = torch.load(tmp_path / "run" / "last.ckpt", weights_only=True)
    expected = {name: p for name, p in made.named_parameters() if p.requires_grad}
    assert saved["state_dict"].keys() == expected.keys()
    assert all(torch.equal(value, expected[name]) for name, value in saved["state_dict"].items())
    assert {name: saved["onion_lightning"]["flags"][f"model.{name}"] for name in kind} == kind


def test_a_checkpoint_without_the_newer_flags_is_loaded_with_their_defaults(run, tmp_path):
    run("fit", "--trainer.max_steps", "2", "--samples.count", "0")
    file = tmp_path / "run" / "last.ckpt"
    saved = torch.load(file, weights_only=True)
    for name in ("use_rslora", "use_dora", "init_lora_weights"):
        del saved["onion_lightning"]["flags"][f"model.{name}"], saved[OnionModule.CHECKPOINT_HYPER_PARAMS_KEY][name]
    for name in ("optimizer", "lora_plus_ratio", "neftune_alpha"):
        del saved["onion_lightning"]["training"][f"model.{name}"]
        del saved[OnionModule.CHECKPOINT_HYPER_PARAMS_KEY][name]
    torch.save(saved, file)
    run("fit", "--ckpt_path", "last", "--trainer.max_steps", "3")
    assert OnionModule.load_from_checkpoint(file).use_dora is False


def test_dora_and_lora_do_not_load_each_other(refused, run, tmp_path):
    run("fit", "--model.use_dora", "true", "--trainer.max_steps", "1", "--samples.count", "0")
    line = refused("fit", "--model.use_dora", "false", "--ckpt_path", "last", "--trainer.max_steps", "2")
    assert "--model.use_dora False" in line
    assert "was trained with True; give that value" in line


def test_early_stopping_stops_a_resumed_run_where_it_stops_an_uninterrupted_one(run, flags, tmp_path):
    """Two validations without an improvement by 100 nats: after the third epoch of five steps."""
    early = ("--trainer.callbacks+=lightning.pytorch.callbacks.EarlyStopping", "--trainer.callbacks.monitor=val/loss")
    early += ("--trainer.callbacks.patience=2", "--trainer.callbacks.min_delta=100", "--trainer.max_epochs", "6")
    run("fit", *early, "--checkpoint.dirpath", str(tmp_path / "whole"))
    stop = ("--trainer.callbacks+=tests.stopper.StopAt", "--trainer.callbacks.step=11")
    assert main(flags("fit", *early, *stop)) == 130
    run("fit", *early, "--ckpt_path", "last")
    whole, resumed = (torch.load(tmp_path / name / "last.ckpt", weights_only=True) for name in ("whole", "run"))
    assert whole["global_step"] == resumed["global_step"] == 15
    assert all(torch.equal(value, resumed["state_dict"][name]) for name, value in whole["state_dict"].items())
