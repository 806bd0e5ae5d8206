"""Predicted memory is kept in the cache folder."""

import json

import pytest

from onion_lightning.planning import remembered
from onion_lightning.planning.memory import predict_memory
from onion_lightning.planning.remembered import recall_memory
from onion_lightning.pretrained.locate import load_config

FLAGS = {
    "load_in": "int8", "precision": "32-true", "lora_rank": 4, "target_modules": ["q_proj"],
    "gradient_checkpointing": True, "rows": 2, "length": 40, "device_type": "cpu",
}  # fmt: skip


@pytest.fixture
def recall(tiny_base, tmp_path, monkeypatch):
    """Returns a function that recalls the prediction for the tiny model, and how often it was made."""
    made = []
    monkeypatch.setenv("ONION_LIGHTNING_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(
        remembered, "predict_memory", lambda *words, **flags: (made.append(1), predict_memory(*words, **flags))[1]
    )
    return lambda **changes: (recall_memory(load_config(str(tiny_base)), **FLAGS | changes), len(made))


@pytest.mark.parametrize("shares", [1, 2])
def test_what_was_predicted_before_is_read_and_is_the_same(recall, tiny_base, shares):
    expected = predict_memory(load_config(str(tiny_base)), **FLAGS, ranks=2, shares=shares)
    assert recall(ranks=2, shares=shares) == recall(ranks=2, shares=shares) == (expected, 1)


def test_another_config_flag_version_or_source_file_is_predicted_anew(recall, tiny_base, monkeypatch):
    recall()
    assert recall(rows=3)[1] == 2
    config = load_config(str(tiny_base))
    config.num_hidden_layers += 1
    assert recall_memory(config, **FLAGS).linear > recall()[0].linear
    before = recall()[1]
    monkeypatch.setattr(remembered, "version", lambda package: "0")
    assert recall()[1] == before + 1
    monkeypatch.setattr(remembered, "source_files", lambda: [("model/loss.py", 1, 2)])
    assert recall()[1] == before + 2


def test_a_base_model_that_was_moved_is_the_same(recall, tiny_base, tmp_path):
    config = load_config(str(tiny_base))
    config.name_or_path = str(tmp_path)
    assert recall_memory(config, **FLAGS) == recall()[0]
    assert recall()[1] == 1


@pytest.mark.parametrize("text", ['{"linear": 1', "[]", "{}", '{"shared": {}}', None])
def test_a_file_that_is_damaged_or_cannot_be_replaced_stops_nothing(recall, tmp_path, text):
    plan, _ = recall()
    [file] = (tmp_path / "cache" / "memory").iterdir()
    assert json.loads(file.read_text())["linear"] == plan.linear
    file.unlink()
    if text is None:
        file.mkdir()
    else:
        file.write_text(text)
    assert recall() == (plan, 2)
    assert list(file.parent.iterdir()) == [file]


def test_a_cache_that_cannot_be_written_stops_nothing(recall, tmp_path):
    (tmp_path / "cache").touch()  # not a folder
    assert recall()[1] == 1
    assert recall()[1] == 2
