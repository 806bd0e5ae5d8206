"""Where base models are found, and which ones are refused."""

import json
import shutil

import pytest

from onion_lightning.errors import OnionError
from onion_lightning.pretrained.locate import architecture, load_config, load_tokenizer, locate, same_architecture


@pytest.fixture
def copy(tiny_base, tmp_path):
    """Copies the tiny model and changes one of its JSON files."""

    def change(name, **values):
        folder = shutil.copytree(tiny_base, tmp_path / "copy")
        settings = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps(settings | values))
        return str(folder)

    return change


def test_a_directory_is_used_as_it_is_and_any_other_name_is_a_model_id(tiny_base):
    assert locate(str(tiny_base)) == str(tiny_base)
    assert locate("someone/some-model") == "someone/some-model"


@pytest.mark.parametrize("name", ["./no_model", "~/no_model", "/no_model", "some/where/else"])
def test_a_path_that_does_not_exist_is_never_looked_up_on_the_hub(name):
    with pytest.raises(OnionError) as error:
        locate(name)
    assert str(error.value).startswith(f"--model.base_model {name}: no such directory; give the directory of a model")


def test_a_directory_without_a_config_is_refused(tmp_path):
    with pytest.raises(OnionError, match=r"the directory contains no config\.json; give the directory of a model\.$"):
        locate(str(tmp_path))


@pytest.mark.parametrize("load", [load_config, load_tokenizer])
def test_a_model_that_cannot_be_loaded_gives_a_one_sentence_error(load):
    with pytest.raises(OnionError) as error:
        load("someone/no-such-model")
    message = str(error.value)
    assert message.startswith("--model.base_model someone/no-such-model: is neither a local directory nor a model")
    assert message.endswith("your login (hf auth login).")
    assert "\n" not in message


def test_a_tokenizer_without_eos_is_refused(copy):
    with pytest.raises(OnionError, match=r"its tokenizer has no EOS token; choose another model\.$"):
        load_tokenizer(copy("tokenizer_config.json", eos_token=None))


def test_models_are_the_same_if_their_shapes_are(tiny_base, copy):
    saved = architecture(load_config(str(tiny_base)))
    assert same_architecture(str(tiny_base), saved)
    assert not same_architecture(copy("config.json", num_hidden_layers=1), saved)
