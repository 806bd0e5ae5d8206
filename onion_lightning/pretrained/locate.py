"""Locates a base model (`demo`, a local directory, or a model ID on the Hugging Face Hub) and loads its config and tokenizer.

Remote code is never executed.
"""

import re
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

from huggingface_hub.errors import GatedRepoError, StrictDataclassError
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_MASKED_LM_MAPPING,
    AutoConfig,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedTokenizerBase,
)

from onion_lightning.errors import OnionError, shorten
from onion_lightning.pretrained.demo import demo_directory

__all__ = ["LOAD_ERRORS", "architecture", "load_config", "load_tokenizer", "locate", "same_architecture", "unavailable"]

# What from_pretrained raises for files that are missing or wrong.
LOAD_ERRORS = (OSError, ValueError, ImportError, TypeError, KeyError, AttributeError, StrictDataclassError)

# Causal models whose layers are transformers' Conv1D, with transposed weights. Frozen layers, `plan` and merged weights are
# for linear layers.
CONV1D = ("gpt2", "openai-gpt")
ARCHITECTURE = ("model_type", "hidden_size", "num_hidden_layers", "num_attention_heads", "vocab_size")


def locate(base_model: str) -> str:
    """Return the argument of `from_pretrained` for a `--model.base_model`.

    Raises:
        OnionError: the path does not exist or is not the directory of a model.
    """
    if base_model == "demo":
        return str(demo_directory())
    path = Path(base_model).expanduser()
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise OnionError(
                f"--model.base_model {base_model}: the directory contains no config.json; give the directory of a model."
            )
        return str(path)
    if path.exists() or base_model.startswith((".", "/", "~")) or base_model.count("/") > 1:
        raise OnionError(
            f"--model.base_model {base_model}: no such directory; give the directory of a model, a model ID on the Hugging"
            " Face Hub, or demo."
        )
    return base_model


def unavailable(base_model: str, error: Exception) -> OnionError:
    """Return the error for a base model that `from_pretrained` could not load: what failed, and what to do."""
    message, flag = shorten(error), f"--model.base_model {base_model}"
    if any(isinstance(one, GatedRepoError) for one in causes(error)):
        return OnionError(
            f"{flag}: is a gated model, and the Hugging Face Hub did not find a login with access to it; accept its terms on"
            f" https://huggingface.co/{base_model} and log in (hf auth login)."
        )
    if found := re.search(r"model type `(.+?)` but Transformers does not recognize", str(error)):
        return OnionError(
            f"{flag}: its model type {found[1]} is unknown to transformers {version('transformers')}; choose another model,"
            " or a newer transformers."
        )
    if "trust_remote_code" in str(error):
        return OnionError(
            f"{flag}: requires code of its own, and remote code is never executed; choose a model that transformers supports."
        )
    if isinstance(error, ImportError):
        return OnionError(f"{flag}: requires a package that is not installed ({message}); install it.")
    if isinstance(error, OSError) and base_model != "demo" and not Path(base_model).expanduser().is_dir():
        return OnionError(
            f"{flag}: is neither a local directory nor a model that could be loaded from the Hugging Face Hub ({message});"
            " check the name, the network and, for gated models, your login (hf auth login)."
        )
    return OnionError(f"{flag}: cannot be loaded ({message}); choose another model, or download it again.")


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error, and those that it was raised from."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def load_config(base_model: str) -> PretrainedConfig:
    """Load a base model's config.

    Raises:
        OnionError: the model cannot be found, its config cannot be read, or it is not a causal language model.
    """
    source = locate(base_model)
    try:
        config = AutoConfig.from_pretrained(source, trust_remote_code=False)
    except (*LOAD_ERRORS, RuntimeError) as error:  # RuntimeError: layers differ in what is read for all of them
        raise unavailable(base_model, error) from error
    if problem := unsuitable(config):
        raise OnionError(f"--model.base_model {base_model}: {problem}; choose a causal language model, such as Llama.")
    return config


def unsuitable(config: PretrainedConfig) -> str | None:
    """Return why adapters for headlines and articles cannot be trained on a model; None if they can."""
    names, kind = config.architectures or [], config.model_type
    causal = any(word in name for name in names for word in ("CausalLM", "LMHead"))
    if config.is_encoder_decoder:
        return f"is a sequence-to-sequence model ({kind})"
    if type(config) in MODEL_FOR_MASKED_LM_MAPPING and not causal:
        return f"is an encoder-only model ({kind})"
    if getattr(config, "text_config", None) is not None and whole(config, "hidden_size") is None:
        return f"is a multimodal model ({kind})"
    if type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING:
        return f"its model type {kind} is not a causal language model in transformers"
    if kind in CONV1D:
        return f"its layers are of type Conv1D ({kind}), and only linear layers are adapted"
    if heads := [name for name in names if "Classification" in name or "QuestionAnswering" in name]:
        return f"is a classifier ({heads[0]})"
    missing = [name for name in (*ARCHITECTURE, "max_position_embeddings") if whole(config, name) in (None, -1)]
    return f"its config.json has no {missing[0]} for the whole model" if missing else None


def whole(config: PretrainedConfig, name: str) -> Any:
    """Return an entry of a config; None if there is none, or one for each layer."""
    try:
        return getattr(config, name, None)
    except RuntimeError:  # raised by transformers for an entry that differs between layers
        return None


def architecture(config: PretrainedConfig) -> dict[str, Any]:
    """Return what a base model must have in common with the one its adapters were trained on: its shape, not its name."""
    return {name: getattr(config, name) for name in ARCHITECTURE}


def same_architecture(base_model: str, saved: dict[str, Any]) -> bool:
    """Whether a base model has the architecture saved in a checkpoint. Loads its config but no weights."""
    return architecture(load_config(base_model)) == saved


def load_tokenizer(base_model: str) -> PreTrainedTokenizerBase:
    """Load a base model's tokenizer. Its padding id is never used: batches are padded with 0 and masked by length.

    Raises:
        OnionError: the model cannot be found, or its tokenizer has no EOS token or more tokens than the model.
    """
    source = locate(base_model)
    try:
        tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=False)
    except LOAD_ERRORS as error:
        raise unavailable(base_model, error) from error
    if tokenizer.eos_token_id is None:
        raise OnionError(
            f"--model.base_model {base_model}: its tokenizer has no EOS token, with which an article ends; choose another"
            " model, or name one of its tokens as eos_token in tokenizer_config.json."
        )
    check_ids(base_model, tokenizer, load_config(base_model).vocab_size)
    return tokenizer


def check_ids(base_model: str, tokenizer: PreTrainedTokenizerBase, embeddings: int) -> None:
    """Check that each token has an embedding. The embeddings are frozen, so none are added.

    Raises:
        OnionError: a token has none.
    """
    beyond = sorted((number, token) for token, number in tokenizer.get_vocab().items() if number >= embeddings)
    if beyond:
        (first, token), (last, _) = beyond[0], beyond[-1]
        ids = f"id {first}" if first == last else f"ids {first} to {last}"
        raise OnionError(
            f"--model.base_model {base_model}: its tokenizer has {len(beyond)} tokens without an embedding ({ids}, such as"
            f" {token!r}; the model has {embeddings}); give the model that the tokenizer was made for, or remove them."
        )
