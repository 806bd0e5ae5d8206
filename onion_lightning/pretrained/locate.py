"""Locates a base model (`demo`, a local directory, or a model ID on the Hugging Face Hub) and loads its config and tokenizer.

Remote code is never executed.
"""

from pathlib import Path
from typing import Any

from huggingface_hub.errors import StrictDataclassError
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


def load_config(base_model: str) -> PretrainedConfig:
    """Load a base model's config.

    Raises:
        OnionError: the model cannot be found, its config cannot be read, or it is not a causal language model.
    """
    source = locate(base_model)
    try:
        config = AutoConfig.from_pretrained(source, trust_remote_code=False)
    except LOAD_ERRORS as error:
        raise unavailable(base_model, error) from error
    if problem := unsuitable(config):
        raise OnionError(f"--model.base_model {base_model}: {problem}; choose a causal language model, such as Llama.")
    return config


def unsuitable(config: PretrainedConfig) -> str | None:
    """Return why adapters for headlines and articles cannot be trained on a model; None if they can."""
    names = config.architectures or []
    causal = any(word in name for name in names for word in ("CausalLM", "LMHead"))
    if config.is_encoder_decoder:
        return f"is a sequence-to-sequence model ({config.model_type})"
    if type(config) in MODEL_FOR_MASKED_LM_MAPPING and not causal:
        return f"is an encoder-only model ({config.model_type})"
    if type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING:
        return f"its model type {config.model_type} is not a causal language model in transformers"
    missing = [name for name in (*ARCHITECTURE, "max_position_embeddings") if getattr(config, name, None) is None]
    return f"its config.json has no {missing[0]}" if missing else None


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
        raise OnionError(f"--model.base_model {base_model}: its tokenizer has no EOS token; choose another model.")
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
