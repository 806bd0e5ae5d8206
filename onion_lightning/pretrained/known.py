"""The shapes of the Llama-2 models, so that a run on one of them can be planned without a network."""

import re

from transformers import LlamaConfig

__all__ = ["known_config"]

NAME = re.compile(r"(?:NousResearch|meta-llama)/Llama-2-(7b|13b|70b)(?:-chat)?(?:-hf)?", re.IGNORECASE)
# hidden size, size of the MLP, layers, heads, key-value heads: the config.json of each model, and Touvron et al. 2023
SHAPES = {
    "7b": (4096, 11008, 32, 32, 32),
    "13b": (5120, 13824, 40, 40, 40),
    "70b": (8192, 28672, 80, 64, 8),
}


def known_config(base_model: str) -> LlamaConfig | None:
    """Return the config of a Llama-2 model on the Hub by its ID, without reading it; None for any other base model."""
    found = NAME.fullmatch(base_model)
    if found is None:
        return None
    hidden, mlp, layers, heads, groups = SHAPES[found[1].lower()]
    return LlamaConfig(
        vocab_size=32000,
        hidden_size=hidden,
        intermediate_size=mlp,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=groups,
        max_position_embeddings=4096,
        rms_norm_eps=1e-5,
        name_or_path=base_model,
    )
