"""The frozen base model: formats that are refused, and 8 bit."""

import pickle
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from onion_lightning.errors import OnionError
from onion_lightning.model.base_model import load_model
from tests.conftest import batch, module
from tests.training.test_checkpoint_io import Malicious


def test_8_bit_layers_give_a_row_the_same_loss_in_training_and_evaluation(tiny_base):
    made = module(tiny_base)
    micro = batch(made)
    with torch.no_grad():
        training = made.loss_sum(micro)
        made.eval()
        assert not any(m.training for m in made.modules() if isinstance(m, torch.nn.Dropout))
        assert made.loss_sum(micro) == training


def test_a_model_that_is_only_pickled_is_refused_and_not_opened(refused, tiny_base, tmp_path, monkeypatch):
    monkeypatch.setenv("ONION_TEST_TRAP", str(tmp_path / "trap"))
    folder = tmp_path / "pickled"
    folder.mkdir()
    for file in tiny_base.iterdir():
        if file.suffix != ".safetensors":
            (folder / file.name).write_bytes(file.read_bytes())
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Malicious()))
    assert "safetensors" in refused("fit", "--model.base_model", str(folder))
    assert not (tmp_path / "trap").exists()


def test_weights_that_are_missing_or_have_another_shape_are_refused(tiny_base, tmp_path):
    weights = load_file(tiny_base / "model.safetensors")
    name = "model.layers.1.mlp.up_proj.weight"
    less = {key: value for key, value in weights.items() if key != name}
    missing, shapes = f"1 of its weights are missing, such as {name}", "do not have the shapes of its config.json"
    for changed, says in ((less, missing), (weights | {name: torch.ones(2, 2)}, shapes)):
        folder = shutil.copytree(tiny_base, tmp_path / "changed", dirs_exist_ok=True)
        save_file(changed, folder / "model.safetensors", {"format": "pt"})
        with pytest.raises(OnionError, match=says):
            load_model(str(folder), "none", torch.device("cpu"), torch.float32)
