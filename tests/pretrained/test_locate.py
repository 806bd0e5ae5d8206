"""Where base models are found, and which ones are refused."""

import importlib.util
import json
import re
import shutil
from pathlib import Path

import pytest
from transformers import MODEL_FOR_CAUSAL_LM_MAPPING

from onion_lightning.errors import OnionError
from onion_lightning.pretrained.locate import (
    CONV1D,
    architecture,
    load_config,
    load_tokenizer,
    locate,
    same_architecture,
    unavailable,
)


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
    with pytest.raises(OnionError, match=r"its tokenizer has no EOS token, with which an article ends; choose "):
        load_tokenizer(copy("tokenizer_config.json", eos_token=None))


def test_models_are_the_same_if_their_shapes_are(tiny_base, copy):
    saved = architecture(load_config(str(tiny_base)))
    assert same_architecture(str(tiny_base), saved)
    assert not same_architecture(copy("config.json", num_hidden_layers=1), saved)


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"model_type": "bert", "architectures": ["BertForMaskedLM"]}, "is an encoder-only model (bert)"),
        ({"model_type": "bert", "architectures": None}, "is an encoder-only model (bert)"),
        ({"model_type": "t5", "architectures": None}, "is a sequence-to-sequence model (t5)"),
        ({"model_type": "clip", "architectures": None}, "its model type clip is not a causal language model"),
        ({"model_type": "mamba", "num_attention_heads": None}, "its config.json has no num_attention_heads"),
        (
            {"model_type": "xlnet"},
            "cannot be loaded (The model xlnet is one of the few models that has no sequence length",
        ),
        ({"model_type": "unheard-of"}, "its model type unheard-of is unknown to transformers "),
        ({"hidden_size": "many"}, "cannot be loaded ("),
        (
            {"model_type": "own", "auto_map": {"AutoConfig": "own.OwnConfig"}},
            "requires code of its own, and remote code is never executed; choose a model that transformers supports.",
        ),
    ],
)
def test_an_unsuitable_model_is_refused_with_what_is_wrong(copy, values, says):
    name = copy("config.json", **values)
    with pytest.raises(OnionError) as error:
        load_config(name)
    message = str(error.value)
    assert message.startswith(f"--model.base_model {name}: ")
    assert says in message
    assert "Hub" not in message
    assert "\n" not in message


def test_a_config_that_is_no_json_is_refused(tiny_base, tmp_path):
    folder = shutil.copytree(tiny_base, tmp_path / "copy")
    (folder / "config.json").write_text("{")
    with pytest.raises(OnionError, match=r"cannot be loaded \(.*not a valid JSON file"):
        load_config(str(folder))


def test_a_package_that_is_missing_is_named():
    message = str(unavailable("some/model", ImportError("Loading requires `accelerate`")))
    assert "requires a package that is not installed (Loading requires `accelerate`); install it." in message


def test_a_tokenizer_with_more_tokens_than_embeddings_is_refused_before_weights_load(copy):
    name = copy("config.json", vocab_size=598)
    with pytest.raises(OnionError) as error:
        load_tokenizer(name)
    assert "its tokenizer has 2 tokens without an embedding (ids 598 to 599, such as " in str(error.value)
    assert "the model has 598); give the model that the tokenizer was made for" in str(error.value)


def test_every_causal_model_with_layers_of_type_conv1d_is_known():
    """Conv1D is imported from `pytorch_utils` by the models that are made of it."""
    found = set()
    for config in MODEL_FOR_CAUSAL_LM_MAPPING:
        module = config.__module__.replace(".configuration_", ".modeling_")
        spec = importlib.util.find_spec(module)
        if spec and re.search(r"pytorch_utils import .*\bConv1D\b", Path(spec.origin).read_text(encoding="utf-8")):
            found.add(config.model_type)
    assert found == set(CONV1D)
