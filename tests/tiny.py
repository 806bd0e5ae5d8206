"""The sample corpus, and a tiny Llama with a tiny SentencePiece tokenizer, also for benchmarks."""

import csv
import io
import json
from pathlib import Path

import sentencepiece
import torch
from transformers import LlamaConfig, LlamaForCausalLM

SAMPLE = Path(__file__).parent.parent / "onion_lightning" / "data" / "sample" / "onion_sample.csv"


def sample_rows() -> list[dict[str, str]]:
    with SAMPLE.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def save_tiny_base(folder: Path) -> None:
    """Save a Llama of two layers with random weights, and a SentencePiece tokenizer of 600 pieces, as a directory."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(row["Content"] for row in sample_rows()),
        model_writer=model,
        vocab_size=600,
        byte_fallback=True,
        character_coverage=0.98,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        pad_id=-1,
        minloglevel=2,
    )
    (folder / "tokenizer.model").write_bytes(model.getvalue())
    tokenizer = {"tokenizer_class": "LlamaTokenizer", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer | {"legacy": False, "add_bos_token": True}))
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=600,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        initializer_range=0.2,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
