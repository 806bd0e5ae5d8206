"""An exported folder: its prompt template, and its adapters beside those of a checkpoint."""

import pytest
import torch
from safetensors.torch import load_file, save_file

from onion_lightning.errors import OnionError
from onion_lightning.verification.exported import PROMPT_FILE, check_path, count_changed, read_template


def test_a_template_that_is_missing_or_has_no_place_for_the_headline_is_refused(tmp_path):
    with pytest.raises(OnionError, match=f"its {PROMPT_FILE} cannot be read"):
        read_template(tmp_path)
    (tmp_path / PROMPT_FILE).write_text("Write an article")
    with pytest.raises(OnionError, match=r"must contain \{headline\} once"):
        read_template(tmp_path)


def test_a_folder_that_export_did_not_write_is_refused(tmp_path):
    with pytest.raises(OnionError, match=r"contains no adapter_config\.json; give a folder that export wrote"):
        check_path(str(tmp_path))


def test_each_adapter_weight_that_was_changed_is_counted(exported, checkpoint):
    folder = exported()
    file = folder / "adapter_model.safetensors"
    assert count_changed(folder, str(checkpoint)) == 0
    weights = load_file(file)
    name = min(weights)
    weights[name].view(-1)[:3] += 1
    save_file(weights, file)
    assert count_changed(folder, str(checkpoint)) == 3
    everything = sum(value.numel() for value in weights.values())
    save_file({f"{key}.x": value for key, value in weights.items()}, file)
    assert count_changed(folder, str(checkpoint)) == everything
    save_file(weights | {name: torch.zeros(3)}, file)
    assert count_changed(folder, str(checkpoint)) == 3
    file.write_bytes(b"x")
    with pytest.raises(OnionError, match="is damaged"):
        count_changed(folder, str(checkpoint))
