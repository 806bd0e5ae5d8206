"""Base models that cannot be fine-tuned here: each command refuses them in one sentence, and writes nothing."""

import json
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub.utils import get_session
from transformers import (
    BertConfig,
    BertForMaskedLM,
    Gemma3Config,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForSequenceClassification,
    LlavaConfig,
    OpenAIGPTConfig,
    PretrainedConfig,
    PreTrainedTokenizerFast,
    T5Config,
    T5ForConditionalGeneration,
    XLNetConfig,
)

from onion_lightning.errors import OnionError
from onion_lightning.pretrained.locate import load_config
from tests.attention.conftest import KEY, QUERY, TEXT
from tests.export.conftest import trained
from tests.families import SHAPE, build_family, byte_level_bpe

GPT = {"vocab_size": 600, "n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 512}
T5 = {"vocab_size": 600, "d_model": 64, "d_kv": 16, "d_ff": 128, "num_layers": 2, "num_heads": 4}
BERT = {key: value for key, value in SHAPE.items() if key != "num_key_value_heads"}
# a model or a config, and words of the sentence
UNSUITABLE: dict[str, tuple[Callable[[], Any], str]] = {
    "gpt2": (lambda: GPT2LMHeadModel(GPT2Config(**GPT)), "its layers are of type Conv1D (gpt2)"),
    "openai-gpt": (lambda: OpenAIGPTConfig(**GPT), "its layers are of type Conv1D (openai-gpt)"),
    "no eos": (lambda: build_family("llama", bos_token_id=None, eos_token_id=None), "its tokenizer has no EOS token"),
    "t5": (lambda: T5ForConditionalGeneration(T5Config(**T5)), "is a sequence-to-sequence model (t5)"),
    "bert": (lambda: BertForMaskedLM(BertConfig(**BERT)), "is an encoder-only model (bert)"),
    "classifier": (
        lambda: LlamaForSequenceClassification(LlamaConfig(**SHAPE)),
        "is a classifier (LlamaForSequenceClassification)",
    ),
    "gemma3": (lambda: Gemma3Config(text_config=SHAPE | {"head_dim": 16}), "is a multimodal model (gemma3)"),
    "llava": (lambda: LlavaConfig(text_config=LlamaConfig(**SHAPE)), "is a multimodal model (llava)"),
    "xlnet": (
        lambda: XLNetConfig(vocab_size=600),
        "its config.json has no max_position_embeddings for the whole model",
    ),
    "unknown": (lambda: Unknown(), "its model type imaginary is unknown to transformers "),
}


class Unknown(PretrainedConfig):
    model_type = "imaginary"


@pytest.fixture(scope="module")
def bases(tmp_path_factory) -> dict[str, Path]:
    folders = {name: tmp_path_factory.mktemp(name) for name in UNSUITABLE}
    for name, folder in folders.items():
        eos = None if name == "no eos" else "<eos>"
        tokenizer = PreTrainedTokenizerFast(tokenizer_object=byte_level_bpe(("<eos>",)), eos_token=eos)
        tokenizer.save_pretrained(folder)
        UNSUITABLE[name][0]().save_pretrained(folder)
    return folders


@pytest.fixture(scope="module")
def checkpoint(tiny_base, tmp_path_factory) -> Path:
    """A checkpoint of the tiny Llama."""
    file = tmp_path_factory.mktemp("trained") / "last.ckpt"
    trained(tiny_base, file)
    return file


@pytest.fixture(params=["fit", "predict", "predict a checkpoint", "plan", "preview", "attend", "export", "verify"])
def rejected(request, refused, run, checkpoint, tmp_path, caplog) -> Callable[[str], str]:
    """Returns a function that runs a command with a base model, and returns the sentence with which it is refused."""
    with_checkpoint = ("--ckpt_path", str(checkpoint))
    more = {
        "fit": ("--trainer.max_steps", "1", "--model.target_modules", "auto"),
        "predict": ("--data.headlines", "Egg Wins"),
        "predict a checkpoint": ("--data.headlines", "Egg Wins", *with_checkpoint),
        "preview": ("--rows", "2", "--output", str(tmp_path / "p")),
        "attend": ("--text", TEXT, "--query", QUERY, "--key", KEY, "--output", str(tmp_path / "a"), *with_checkpoint),
        "export": ("--output", str(tmp_path / "x"), *with_checkpoint),
        "verify": ("--path", str(tmp_path / "good"), *with_checkpoint),
    }
    if request.param == "verify":
        run("export", *with_checkpoint, "--output", str(tmp_path / "good"))

    def command(base: str) -> str:
        before = sorted(tmp_path.rglob("*"))
        caplog.clear()
        sentence = refused(request.param.split()[0], "--model.base_model", base, *more.get(request.param, ()))
        assert sorted(tmp_path.rglob("*")) == before
        assert not any("oading" in record.message or "Loaded" in record.message for record in caplog.records)
        return sentence

    return command


@pytest.mark.parametrize("name", UNSUITABLE)
def test_a_model_that_cannot_work_is_refused_before_anything_is_loaded_or_written(rejected, bases, name):
    sentence = rejected(str(bases[name]))
    assert sentence.startswith(f"error: --model.base_model {bases[name]}: {UNSUITABLE[name][1]}")
    assert "; choose " in sentence


@pytest.fixture
def hub(monkeypatch) -> Callable[[int, str], None]:
    """Returns a function that has the Hub answer every request with an error."""
    client = type(get_session())
    library = sys.modules[client.__module__.partition(".")[0]]  # httpx, or its successor

    def answer(status: int, error: str) -> None:
        headers = {"X-Error-Code": error}
        respond = lambda self, request, **more: library.Response(status, headers=headers, request=request)  # noqa: E731
        monkeypatch.setattr(client, "send", respond)

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    return answer


@pytest.mark.parametrize("status", [401, 403])
def test_a_gated_model_without_a_login_names_its_page_and_how_to_log_in(rejected, hub, status):
    hub(status, "GatedRepo")
    assert rejected("someone/gated") == (
        "error: --model.base_model someone/gated: is a gated model, and the Hugging Face Hub did not find a login with access"
        " to it; accept its terms on https://huggingface.co/someone/gated and log in (hf auth login)."
    )


def test_a_model_that_the_hub_does_not_have_is_not_called_gated(rejected, hub):
    hub(401, "RepoNotFound")
    sentence = rejected("someone/no-such-model")
    assert "is neither a local directory nor a model that could be loaded from the Hugging Face Hub" in sentence
    assert "is a gated model" not in sentence


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("max_position_embeddings", "its config.json has no max_position_embeddings for the whole model; choose "),
        ("num_attention_heads", "cannot be loaded ('num_attention_heads' is a per-layer attribute"),  # by transformers
    ],
)
def test_a_model_whose_layers_differ_is_refused(tiny_base, tmp_path, name, says):
    folder = shutil.copytree(tiny_base, tmp_path / "copy")
    config = json.loads((folder / "config.json").read_text()) | {"per_layer_config": {"0": {name: 2}}}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(OnionError, match=re.escape(says)):
        load_config(str(folder))
