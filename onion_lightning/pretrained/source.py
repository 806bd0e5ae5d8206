"""Locates a base model (`demo`, a local directory, or a hub id) and reads its config and tokenizer.

No remote code is run.
"""

from pathlib import Path
from typing import Any

from transformers import AutoConfig, AutoTokenizer, PretrainedConfig, PreTrainedTokenizerBase

from onion_lightning.errors import OnionError
from onion_lightning.pretrained.demo import demo_directory

__all__ = ["architecture", "load_config", "load_tokenizer", "locate", "same_architecture", "unavailable"]

ARCHITECTURE = ("model_type", "hidden_size", "num_hidden_layers", "num_attention_heads", "vocab_size")


def locate(base_model: str) -> str:
    """What `from_pretrained` takes for a `--model.base_model`."""
    if base_model == "demo":
        return str(demo_directory())
    path = Path(base_model).expanduser()
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise OnionError(
                f"--model.base_model {base_model}: the directory has no config.json; give a model's directory."
            )
        return str(path)
    if path.exists() or base_model.startswith((".", "/", "~")) or base_model.count("/") > 1:
        raise OnionError(
            f"--model.base_model {base_model}: no such directory; give a model's directory, a hub id or demo."
        )
    return base_model


def unavailable(base_model: str, error: Exception) -> OnionError:
    message = " ".join(str(error).split())[:160]
    return OnionError(
        f"--model.base_model {base_model}: neither a directory here nor a model that the Hugging Face hub gave"
        f" ({message}); check the name, the network and, for gated models, the login (hf auth login)."
    )


def load_config(base_model: str) -> PretrainedConfig:
    """The model's config.

    Raises:
        OnionError: there is no such model.
    """
    source = locate(base_model)
    try:
        return AutoConfig.from_pretrained(source, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise unavailable(base_model, error) from error


def architecture(config: PretrainedConfig) -> dict[str, Any]:
    """What adapters must match: the shape of the base model, not its name."""
    return {name: getattr(config, name) for name in ARCHITECTURE}


def same_architecture(base_model: str, saved: dict[str, Any]) -> bool:
    """Whether a base model has the shape that a checkpoint was made for. Reads its config, no weights."""
    return architecture(load_config(base_model)) == saved


def load_tokenizer(base_model: str) -> PreTrainedTokenizerBase:
    """The model's tokenizer. Its padding id is never used: batches are padded with 0 and masked by length.

    Raises:
        OnionError: there is none, or it has no EOS token.
    """
    source = locate(base_model)
    try:
        tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise unavailable(base_model, error) from error
    if tokenizer.eos_token_id is None:
        raise OnionError(f"--model.base_model {base_model}: its tokenizer has no EOS token; take another model.")
    return tokenizer
