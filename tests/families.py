"""Tiny random models of five families of causal language models, each with a tokenizer that treats special tokens its way."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Phi3Config,
    Phi3ForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from tests.tiny import sample_rows

__all__ = ["FAMILIES", "SHAPE", "Family", "build_family", "byte_level_bpe", "save_family"]

VOCABULARY = 600
SHAPE = {
    "vocab_size": VOCABULARY,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "initializer_range": 0.2,
}


class Family(NamedTuple):
    """A family of models.

    Attributes:
        model: class of its models.
        config: class of their configs.
        more: of the config, beside the shape.
        special: names of its special tokens; the first ones of its vocabulary.
        bos: token that its tokenizer puts before a text; None if it puts none.
        eos: token that ends a text.
        auto: layers that `--model.target_modules auto` adapts.
        all_linear: layers that `all-linear` adapts.
    """

    model: type[PreTrainedModel]
    config: Any
    more: dict[str, Any]
    special: tuple[str, ...]
    bos: str | None
    eos: str
    auto: set[str]
    all_linear: set[str]


QUERY_VALUE = {"q_proj", "v_proj"}
SEPARATE = {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
SENTENCEPIECE = ("<unk>", "<s>", "</s>")
FAMILIES = {
    "llama": Family(LlamaForCausalLM, LlamaConfig, {}, SENTENCEPIECE, "<s>", "</s>", QUERY_VALUE, SEPARATE),
    "mistral": Family(
        MistralForCausalLM,
        MistralConfig,
        {"sliding_window": 64},
        (*SENTENCEPIECE, "[INST]", "[/INST]"),
        "<s>",
        "</s>",
        QUERY_VALUE,
        SEPARATE,
    ),
    "qwen3": Family(
        Qwen3ForCausalLM,
        Qwen3Config,
        {"head_dim": 16, "tie_word_embeddings": True},
        ("<|endoftext|>", "<|im_start|>", "<|im_end|>"),
        None,
        "<|endoftext|>",
        QUERY_VALUE,
        SEPARATE,
    ),
    "gemma3": Family(
        Gemma3ForCausalLM,
        Gemma3TextConfig,
        {"head_dim": 16, "sliding_window": 64, "layer_types": ["sliding_attention", "full_attention"]},
        ("<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>", "<end_of_turn>"),
        "<bos>",
        "<eos>",
        QUERY_VALUE,
        SEPARATE,
    ),
    "phi3": Family(
        Phi3ForCausalLM,
        Phi3Config,
        {},
        (*SENTENCEPIECE, "<|endoftext|>", "<|user|>", "<|end|>", "<|assistant|>"),
        None,
        "<|endoftext|>",
        {"qkv_proj"},
        {"qkv_proj", "o_proj", "gate_up_proj", "down_proj"},
    ),
}


def save_family(name: str, folder: Path) -> None:
    """Save a model of two layers with random weights, and its tokenizer, as a directory."""
    family = FAMILIES[name]
    tokenizer = make_tokenizer(family, byte_level=name == "qwen3")
    tokenizer.save_pretrained(folder)
    ids = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id, "pad_token_id": 0}
    build_family(name, **ids).save_pretrained(folder)


def build_family(name: str, **more: Any) -> PreTrainedModel:
    """Return a model of two layers with random weights, always the same, and more in its config."""
    family = FAMILIES[name]
    torch.manual_seed(0)
    return family.model(family.config(**SHAPE | family.more | more))


def texts() -> Iterator[str]:
    return (row["Content"] for row in sample_rows())


def make_tokenizer(family: Family, byte_level: bool) -> PreTrainedTokenizerFast:
    """Return a tokenizer in bytes, as that of Qwen, or in characters with bytes for unknown ones, as SentencePiece's."""
    tokenizer = byte_level_bpe(family.special) if byte_level else sentencepiece_bpe(family.special)
    if family.bos is not None:
        number = tokenizer.token_to_id(family.bos)
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{family.bos} $A", special_tokens=[(family.bos, number)]
        )
    bos = family.bos or ("<s>" if "<s>" in family.special else None)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=bos, eos_token=family.eos)


def byte_level_bpe(special: tuple[str, ...]) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, special_tokens=list(special), initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(texts(), trainer)
    return tokenizer


def sentencepiece_bpe(special: tuple[str, ...]) -> Tokenizer:
    steps = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    trained = Tokenizer(models.BPE())
    trained.normalizer = steps
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY - 256 - len(special), limit_alphabet=100, max_token_length=16, show_progress=False
    )
    trained.train_from_iterator(texts(), trainer)
    learned = json.loads(trained.to_str())["model"]
    pieces = [*special, *(f"<0x{number:02X}>" for number in range(256)), *learned["vocab"]]
    vocabulary = {piece: number for number, piece in enumerate(dict.fromkeys(pieces))}
    merges = [tuple(pair) for pair in learned["merges"]]
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    tokenizer.normalizer = steps
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.add_special_tokens(list(special))
    return tokenizer
