"""A GGUF file of the merged weights is a form of the export: the same, or named where it differs."""

import json
from pathlib import Path

import gguf
import numpy as np
import pytest
import sentencepiece
from transformers import AutoModelForCausalLM

from onion_lightning.cli.main import main

LAYERS, HEADS, KEY_HEADS = 2, 4, 2
SHORT = ("--model.max_new_tokens", "6", "--model.load_in", "none")


def rotate_as_llama_cpp(weight: np.ndarray, heads: int) -> np.ndarray:
    """Return the rows of a projection of queries or keys in the order that llama.cpp's rotary embedding takes them in."""
    halves = weight.reshape(heads, 2, -1, weight.shape[1])
    return np.ascontiguousarray(halves.swapaxes(1, 2).reshape(weight.shape))


def write_gguf(base: Path, folder: Path, kind: str, change: float = 0.0) -> None:
    """Write a merged tiny Llama and its SentencePiece tokenizer as llama.cpp's converter does.

    Args:
        base: folder of the base model, with its tokenizer.
        folder: of the export.
        kind: F32 or Q8_0, of matrices.
        change: that is added to the last norm.
    """
    merged = folder / "merged"
    writer = gguf.GGUFWriter(folder / "model.gguf", "llama")
    config = json.loads((merged / "config.json").read_text())
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KEY_HEADS)
    writer.add_rope_dimension_count(config["hidden_size"] // HEADS)
    writer.add_rope_freq_base(10000.0)
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_vocab_size(config["vocab_size"])
    pieces = sentencepiece.SentencePieceProcessor(model_file=str(base / "tokenizer.model"))
    ids = range(pieces.vocab_size())
    writer.add_tokenizer_model("llama")
    writer.add_token_list([pieces.id_to_piece(one) for one in ids])
    writer.add_token_scores([pieces.get_score(one) for one in ids])
    types = [2 if pieces.is_unknown(i) else 3 if pieces.is_control(i) else 6 if pieces.is_byte(i) else 1 for i in ids]
    writer.add_token_types(types)
    writer.add_bos_token_id(pieces.bos_id())
    writer.add_eos_token_id(pieces.eos_id())
    writer.add_unk_token_id(pieces.unk_id())
    writer.add_add_bos_token(True)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, LAYERS)
    for name, tensor in AutoModelForCausalLM.from_pretrained(merged).state_dict().items():
        value = tensor.float().numpy()
        heads = {"q_proj": HEADS, "k_proj": KEY_HEADS}.get(name.split(".")[-2])
        value = value if heads is None else rotate_as_llama_cpp(value, heads)
        value = value + change if name == "model.norm.weight" else value
        written = gguf.GGMLQuantizationType[kind] if value.ndim == 2 else gguf.GGMLQuantizationType.F32
        packed = gguf.quantize(value, written) if kind != "F32" and value.ndim == 2 else value
        writer.add_tensor(names.get_name(name, try_suffixes=(".weight",)), packed, raw_dtype=written)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.fixture
def verify(flags, checkpoint, tmp_path, capsys):
    """Returns a function that runs the command, and returns its exit status, the figures by form, and the last line."""

    def command(*more):
        capsys.readouterr()
        words = (*more, "--path", str(tmp_path / "exported"), "--ckpt_path", str(checkpoint), "--count", "3")
        status = main(flags("verify", *words, *SHORT))
        figures = json.loads((tmp_path / "exported" / "verify.json").read_text(encoding="utf-8"))["forms"]
        return status, {one["form"]: one for one in figures}, capsys.readouterr().err.strip().splitlines()[-1]

    return command


@pytest.mark.parametrize(("kind", "tolerance"), [("F32", 1e-5), ("Q8_0", 0.2)])
def test_a_gguf_file_of_the_merged_weights_is_the_same_model(exported, verify, tiny_base, kind, tolerance):
    """Within rounding to 8 bit in blocks of 32, which a model with random weights magnifies."""
    folder = exported("--merge", "true")
    write_gguf(tiny_base, folder, kind)
    status, forms, _ = verify("--tolerance", str(tolerance))
    assert list(forms) == ["adapters", "merged", "model.gguf"]
    found = forms["model.gguf"]
    assert found["same_prompts"] == found["same_articles"] == 3
    assert status == 0
    assert (found["mean"] > 1e-3) == (kind == "Q8_0")


@pytest.mark.parametrize("progress", ["lines", "none"])
def test_a_log_file_gets_a_line_or_none_and_no_bar_while_a_gguf_file_is_read(
    exported, flags, shell, checkpoint, tiny_base, progress
):
    folder = exported("--merge", "true")
    write_gguf(tiny_base, folder, "F32")
    words = flags("verify", "--path", str(folder), "--ckpt_path", str(checkpoint), "--count", "3", *SHORT)
    words.remove("--trainer.enable_progress_bar")
    words[words.index("false")] = f"--progress={progress}"
    done = shell(words)
    assert done.returncode == 0, done.stderr
    text = done.stderr
    assert (" loading model.gguf\n" in text) == (progress == "lines")
    assert "Converting" not in text
    assert "it/s" not in text


def test_a_gguf_file_with_other_weights_is_named(exported, verify, tiny_base):
    folder = exported("--merge", "true")
    write_gguf(tiny_base, folder, "F32", change=0.5)
    status, forms, line = verify()
    assert status == 1
    assert forms["merged"]["stage"] is None
    assert forms["model.gguf"]["stage"] == "weights"
    assert "the form 'model.gguf' differs" in line


def test_the_gguf_file_of_the_base_model_beside_adapters_is_not_taken_for_the_merged_one(exported, verify):
    folder = exported()
    for name in ("model.gguf", "adapters.gguf"):
        (folder / name).write_bytes(b"GGUF")
    status, forms, _ = verify()
    assert (status, list(forms)) == (0, ["adapters"])


def test_a_damaged_gguf_file_is_refused(exported, flags, checkpoint, capsys):
    folder = exported("--merge", "true")
    (folder / "model.gguf").write_bytes(b"GGUF and no more")
    words = ("--path", str(folder), "--ckpt_path", str(checkpoint), "--count", "3", "--model.load_in", "none")
    assert main(flags("verify", *words)) == 1
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert line.startswith(f"error: --path {folder}: its model.gguf cannot be loaded (")
