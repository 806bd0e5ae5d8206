"""LoRA adapters in the tiny Llama."""

import json
import shutil

import pytest
import torch
from peft.tuners.lora import LoraLayer

from onion_lightning.errors import OnionError
from onion_lightning.model.adapters.saved import check_adapters
from onion_lightning.model.adapters.switches import merged_adapters
from onion_lightning.model.base_model import load_model
from onion_lightning.model.frozen_linear import Int8Linear, Nf4Linear
from onion_lightning.model.module import OnionModule
from tests.conftest import adapters, batch, module


@pytest.mark.parametrize("load_in", ["int8", "nf4", "none"])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_only_float32_adapters_are_trainable_and_they_receive_gradients(tiny_base, load_in, checkpointing):
    made = module(tiny_base, load_in=load_in, gradient_checkpointing=checkpointing)
    trainable = {name: p for name, p in made.named_parameters() if p.requires_grad}
    assert len(trainable) == 2 * 2 * 2  # A and B, of q and v, in two layers
    assert all("lora_" in name and p.dtype == torch.float32 for name, p in trainable.items())
    quantized = {"int8": Int8Linear, "nf4": Nf4Linear, "none": torch.nn.Linear}
    assert all(
        isinstance(layer.base_layer, quantized[load_in]) for layer in made.modules() if isinstance(layer, LoraLayer)
    )
    made.loss_sum(batch(made)).backward()
    assert all(p.grad.abs().sum() > 0 for name, p in trainable.items() if "lora_B" in name)


def test_adapters_start_with_the_same_values_where_tensors_are_created_on_another_device(tiny_base, monkeypatch):
    """As in `configure_model`, which Lightning calls with the GPU as the device of new tensors."""
    expected = module(tiny_base)
    made = OnionModule(str(tiny_base), seed=expected.seed)
    cpu = torch.device("cpu")
    base = load_model(str(tiny_base), "int8", cpu, torch.float32)
    monkeypatch.setattr("onion_lightning.model.module.load_model", lambda *flags: base)
    with torch.device("meta"):
        made.load_base(cpu, "32-true")
    found = dict(made.named_parameters())
    trained = {name: p for name, p in expected.named_parameters() if p.requires_grad}
    assert trained
    assert all(torch.equal(found[name], value) for name, value in trained.items())


def test_target_modules_that_the_model_does_not_have_are_reported(tiny_base):
    layers = r"down_proj, gate_proj, k_proj, o_proj, q_proj, up_proj, v_proj\.$"
    with pytest.raises(OnionError, match=rf"c_attn.* has no such layers; give auto, all-linear, or some of {layers}"):
        module(tiny_base, target_modules=["c_attn"])


def test_a_checkpoint_with_adapters_of_another_rank_is_refused(tiny_base):
    made, other = module(tiny_base, lora_rank=4), module(tiny_base, lora_rank=8)
    checkpoint = {"state_dict": other.state_dict()}
    other.on_save_checkpoint(checkpoint)
    check_adapters(other, checkpoint)
    with pytest.raises(OnionError, match=r"--model\.lora_rank 4 .*; use the flags .*--model\.lora_rank 8 "):
        check_adapters(made, checkpoint)


def test_all_linear_and_auto_name_layers_of_the_model(tiny_base):
    attention, mlp = {"q_proj", "k_proj", "v_proj", "o_proj"}, {"gate_proj", "up_proj", "down_proj"}
    for shorthand, layers in (("all-linear", attention | mlp), ("auto", {"q_proj", "v_proj"})):
        made = module(tiny_base, load_in="nf4", target_modules=shorthand)
        found = {name.split(".")[-1] for name, layer in made.named_modules() if isinstance(layer, LoraLayer)}
        assert found == layers


@pytest.mark.parametrize("value", ["q_proj", "", [], [""]])
def test_a_layer_name_alone_is_not_a_list(value):
    with pytest.raises(OnionError, match=r"^--model\.target_modules .*: must be auto, all-linear, or a list "):
        OnionModule(target_modules=value)


@pytest.fixture(scope="session")
def tied_base(tiny_base, tmp_path_factory):
    """The tiny model with its output layer tied to the embeddings."""
    folder = shutil.copytree(tiny_base, tmp_path_factory.mktemp("tied") / "base")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"tie_word_embeddings": True}))
    return folder


@pytest.mark.parametrize("target", [["q_proj", "v_proj"], "all-linear"])
def test_merged_adapters_are_not_computed_and_weights_return_bit_for_bit(tiny_base, target):
    made = module(tiny_base, load_in="none", target_modules=target, lora_dropout=0.5).eval()
    layers = [layer for layer in made.modules() if isinstance(layer, LoraLayer)]
    computed = []
    for layer in layers:
        torch.nn.init.normal_(layer.lora_B["default"].weight, std=0.1)
        layer.lora_A["default"].register_forward_hook(lambda *call: computed.append(call))
    ids, before = torch.randint(3, 99, (2, 7)), {name: p.clone() for name, p in made.named_parameters()}
    with torch.no_grad():
        expected = made(ids)
        assert len(computed) == len(layers)
        with merged_adapters(made.model):
            torch.testing.assert_close(made(ids), expected)
        assert len(computed) == len(layers)
        with made.model.disable_adapter(), merged_adapters(made.model):
            base = made(ids)
        with pytest.raises(KeyError), merged_adapters(made.model):
            raise KeyError
        assert not torch.allclose(base, expected)
        assert torch.equal(made(ids), expected)
    assert all(torch.equal(before[name], p) for name, p in made.named_parameters())


@pytest.mark.parametrize("load_in", ["int8", "nf4"])
def test_adapters_are_not_merged_into_quantized_weights(tiny_base, load_in):
    made = module(tiny_base, load_in=load_in)
    before = {name: p.clone() for name, p in made.named_parameters()}
    with merged_adapters(made.model):
        assert all(torch.equal(before[name], p) for name, p in made.named_parameters())
        assert not any(layer.merged for layer in made.modules() if isinstance(layer, LoraLayer))


@pytest.mark.parametrize("load_in", ["int8", "nf4", "none"])
@pytest.mark.parametrize("target", [["lm_head"], ["embed_tokens"], ["embed_tokens", "lm_head"], "all-linear"])
def test_every_layer_trains_and_is_the_same_after_loading(tied_base, target, load_in):
    settings = {"load_in": load_in, "target_modules": target, "temperature": 0.0, "max_new_tokens": 8}
    made, other = (
        module(tied_base, gradient_checkpointing=checkpointing, **settings) for checkpointing in (True, False)
    )
    made.loss_sum(batch(made)).backward()
    trained = [parameter for parameter in made.parameters() if parameter.requires_grad]
    assert sum(bool(parameter.grad.abs().sum()) for parameter in trained) == len(trained) // 2  # B, which starts at 0
    untrained = made.write(["Egg Wins"], seed=0)
    torch.manual_seed(0)
    for parameter in trained:
        parameter.data += 0.5 * torch.randn_like(parameter)
    checkpoint = {"state_dict": made.state_dict()}
    made.on_save_checkpoint(checkpoint)
    other.on_load_checkpoint(checkpoint)
    keys = other.load_state_dict(checkpoint["state_dict"])
    assert not keys.missing_keys
    assert not keys.unexpected_keys
    assert other.write(["Egg Wins"], seed=0) == made.write(["Egg Wins"], seed=0) != untrained
    assert other.eval().loss_sum(batch(other)) == made.eval().loss_sum(batch(made))


@pytest.mark.parametrize("target", ["all-linear", '["embed_tokens", "lm_head"]'])
def test_a_run_with_other_layers_resumes_and_predicts(run, tied_base, tmp_path, target):
    config = tmp_path / "layers.yaml"
    config.write_text(f"model: {{target_modules: {target}}}\n")
    base = ("--model.base_model", str(tied_base))
    run("fit", "--trainer.max_steps", "2", "--config", str(config), *base)
    last = tmp_path / "run" / "last.ckpt"
    once = adapters(last)
    run("fit", "--trainer.max_steps", "1", "--model.target_modules", target, *base)
    run("fit", "--trainer.max_steps", "2", "--ckpt_path", "last", *base)
    assert all(torch.equal(once[name], value) for name, value in adapters(last).items())
    run("predict", "--ckpt_path", "last", "--data.headlines", '["A"]', *base)
