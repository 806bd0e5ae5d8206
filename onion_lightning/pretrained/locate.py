"""Locates a base model (`demo`, a local directory, or a model ID on the Hugging Face Hub) and loads its config and tokenizer.

Remote code is never executed.
"""

from pathlib import Path
from typing import Any

from transformers import AutoConfig, AutoTokenizer, PretrainedConfig, PreTrainedTokenizerBase

from onion_lightning.errors import OnionError, shorten
from onion_lightning.pretrained.demo import demo_directory

__all__ = ["architecture", "load_config", "load_tokenizer", "locate", "same_architecture", "unavailable"]

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
    """Return the error for a base model that `from_pretrained` could not load."""
    message = shorten(error)
    return OnionError(
        f"--model.base_model {base_model}: is neither a local directory nor a model that could be loaded from the Hugging"
        f" Face Hub ({message}); check the name, the network and, for gated models, your login (hf auth login)."
    )


def load_config(base_model: str) -> PretrainedConfig:
    """Load a base model's config.

    Raises:
        OnionError: the model cannot be found.
    """
    source = locate(base_model)
    try:
        return AutoConfig.from_pretrained(source, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise unavailable(base_model, error) from error


def architecture(config: PretrainedConfig) -> dict[str, Any]:
    """Return what a base model must have in common with the one its adapters were trained on: its shape, not its name."""
    return {name: getattr(config, name) for name in ARCHITECTURE}


def same_architecture(base_model: str, saved: dict[str, Any]) -> bool:
    """Whether a base model has the architecture saved in a checkpoint. Loads its config but no weights."""
    return architecture(load_config(base_model)) == saved


def load_tokenizer(base_model: str) -> PreTrainedTokenizerBase:
    """Load a base model's tokenizer. Its padding id is never used: batches are padded with 0 and masked by length.

    Raises:
        OnionError: the model cannot be found, or its tokenizer has no EOS token.
    """
    source = locate(base_model)
    try:
        tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise unavailable(base_model, error) from error
    if tokenizer.eos_token_id is None:
        raise OnionError(f"--model.base_model {base_model}: its tokenizer has no EOS token; choose another model.")
    return tokenizer
