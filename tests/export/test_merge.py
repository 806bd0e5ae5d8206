"""Merged weights: equal to peft's own, loaded by plain transformers, with little memory, and never half written."""

import json
import os
import subprocess
import sys

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer, GenerationConfig

from onion_lightning.errors import Interrupted
from onion_lightning.export import command
from tests.export.conftest import copy_base, logits, plain, trained

IDS = torch.randint(3, 99, (2, 9), generator=torch.Generator().manual_seed(0))


@pytest.fixture
def merge(run, tiny_base, tmp_path):
    """Return a function that saves a base model, trains adapters on it, merges them, and returns base and folder."""

    def make(target="all-linear", config=None, **more):
        base = copy_base(tiny_base, tmp_path / "base", config or {}, **more)
        trained(base, tmp_path / "a.ckpt", target_modules=target)
        words = ("--ckpt_path", str(tmp_path / "a.ckpt"), "--output", str(tmp_path / "out"), "--merge", "true")
        run("export", "--model.base_model", str(base), *words)
        return base, tmp_path / "out"

    return make


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("shard", ["1GB", "100KB"])
def test_merged_weights_are_those_of_peft_in_float32_rounded_once_to_the_dtype_of_the_base(merge, dtype, shard):
    base, out = merge(dtype=dtype, shard=shard)
    exact = PeftModel.from_pretrained(plain(base, dtype=torch.float32), out).merge_and_unload()
    merged = plain(out / "merged")
    assert merged.dtype == getattr(torch, dtype)
    assert len(list((out / "merged").glob("*.safetensors"))) == len(list(base.glob("*.safetensors")))
    expected = exact.state_dict()
    assert merged.state_dict().keys() == expected.keys()
    tolerance = {"float32": 1e-6, "bfloat16": 2**-8, "float16": 2**-11}[dtype]
    for name, weight in merged.state_dict().items():
        torch.testing.assert_close(weight.float(), expected[name], rtol=tolerance, atol=1e-6)


def test_a_merged_model_computes_what_base_and_adapters_compute(merge):
    base, out = merge()
    model = PeftModel.from_pretrained(plain(base), out).eval()
    torch.testing.assert_close(logits(plain(out / "merged"), IDS), logits(model, IDS), atol=1e-4, rtol=1e-4)


TIED = [["q_proj"], ["lm_head"], ["embed_tokens"], ["embed_tokens", "lm_head", "q_proj"]]


@pytest.mark.parametrize("target", TIED, ids=str)
@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.filterwarnings("ignore:.*a tied layer is part of the adapter.*")
def test_tied_embeddings_that_are_adapted_become_two_weights(merge, target, tied):
    base, out = merge(target, {"tie_word_embeddings": tied})
    model = PeftModel.from_pretrained(plain(base), out).eval()
    merged = plain(out / "merged")
    torch.testing.assert_close(logits(merged, IDS), logits(model, IDS), atol=1e-4, rtol=1e-4)
    assert merged.config.tie_word_embeddings == (tied and target == ["q_proj"])


def test_the_merged_folder_has_the_decoding_flags_and_the_tokenizer(run, merge, tmp_path):
    base, out = merge(["q_proj"])
    found = GenerationConfig.from_pretrained(out / "merged")
    assert (found.do_sample, found.temperature, found.top_p, found.top_k) == (True, 0.8, 0.95, 0)
    assert (found.max_new_tokens, found.repetition_penalty, found.eos_token_id, found.pad_token_id) == (12, 1.1, 2, 0)
    tokenizer = AutoTokenizer.from_pretrained(out / "merged")
    text = tokenizer("### Headline: Egg Wins\n### Article:\n", return_tensors="pt")
    assert plain(out / "merged").generate(**text).shape[1] <= text.input_ids.shape[1] + 12
    words = ("--ckpt_path", str(tmp_path / "a.ckpt"), "--output", str(out), "--merge", "true", "--overwrite", "true")
    run("export", "--model.base_model", str(base), *words, "--model.temperature", "0")
    assert not GenerationConfig.from_pretrained(out / "merged").do_sample


def test_a_model_of_the_hub_is_read_from_the_cache(shell, tiny_base, tmp_path):
    """As huggingface_hub lays it out, with several files."""
    snapshot = tmp_path / "cache" / "models--eggs--tiny" / "snapshots" / ("0" * 40)
    copy_base(tiny_base, snapshot, {}, "bfloat16", "100KB")
    refs = tmp_path / "cache" / "models--eggs--tiny" / "refs"
    refs.mkdir()
    (refs / "main").write_text("0" * 40)
    trained(snapshot, tmp_path / "a.ckpt")
    line = ["export", "--model.base_model", "eggs/tiny", "--ckpt_path", str(tmp_path / "a.ckpt"), "--merge", "true"]
    done = shell([*line, "--output", str(tmp_path / "out")], HF_HUB_CACHE=str(tmp_path / "cache"))
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "out" / "adapter_config.json").read_text())["base_model_name_or_path"] == "eggs/tiny"
    exact = PeftModel.from_pretrained(plain(snapshot, dtype=torch.float32), tmp_path / "out")
    found = logits(plain(tmp_path / "out" / "merged", dtype=torch.float32), IDS)
    torch.testing.assert_close(found, logits(exact, IDS), atol=0.3, rtol=0.05)
    missing = snapshot / sorted(file.name for file in snapshot.glob("*.safetensors"))[-1]
    missing.unlink()
    done = shell([*line, "--output", str(tmp_path / "other")], HF_HUB_CACHE=str(tmp_path / "cache"))
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "--model.base_model eggs/tiny: " in done.stderr
    assert not (tmp_path / "other").exists()


def test_a_quantized_base_model_is_refused(refused, tiny_base, tmp_path):
    base = copy_base(tiny_base, tmp_path / "base", {})
    trained(base, tmp_path / "a.ckpt")
    config = json.loads((base / "config.json").read_text())
    changed = {"quantization_config": {"quant_method": "bitsandbytes", "load_in_8bit": True}}
    (base / "config.json").write_text(json.dumps(config | changed))
    words = ("--ckpt_path", str(tmp_path / "a.ckpt"), "--output", str(tmp_path / "out"), "--merge", "true")
    words += ("--model.base_model", str(base))
    assert f"--merge true: {base} is quantized in its files" in refused("export", *words)
    (base / "config.json").write_text(json.dumps(config))
    weights = load_file(base / "model.safetensors")
    name = "model.layers.1.self_attn.v_proj.weight"
    save_file(weights | {name: weights[name].to(torch.int8)}, base / "model.safetensors", {"format": "pt"})
    assert "has weights of type torch.int8" in refused("export", *words)
    del weights[name]
    save_file(weights, base / "model.safetensors", {"format": "pt"})
    assert "have no weight for the adapted layer model.layers.1.self_attn.v_proj" in refused("export", *words)
    (base / "model.safetensors").write_bytes((base / "model.safetensors").read_bytes()[:5000])
    assert "model.safetensors is damaged" in refused("export", *words)
    assert not (tmp_path / "out").exists()


def test_values_that_float16_cannot_represent_are_refused(refused, tiny_base, tmp_path):
    base = copy_base(tiny_base, tmp_path / "base", {}, "float16")
    made = trained(base, tmp_path / "a.ckpt")
    checkpoint = torch.load(tmp_path / "a.ckpt", weights_only=True)
    for weight in checkpoint["state_dict"].values():
        weight *= 1e4
    torch.save(checkpoint, tmp_path / "a.ckpt")
    assert made.lora_rank == 8
    words = ("--ckpt_path", str(tmp_path / "a.ckpt"), "--output", str(tmp_path / "out"), "--merge", "true")
    assert "has values that torch.float16 cannot represent" in refused(
        "export", "--model.base_model", str(base), *words
    )


@pytest.mark.parametrize("error", [Interrupted(15), OSError(28, "No space left on device")])
def test_an_interrupted_merge_leaves_the_earlier_export_as_it_was(flags, merge, tmp_path, monkeypatch, error):
    from onion_lightning.cli.main import main

    base, out = merge(shard="100KB")
    before = {file: file.read_bytes() for file in out.rglob("*") if file.is_file()}
    saved = []

    def fail(tensors, file):
        saved.append(file)
        if len(saved) == 3:
            raise error
        file.write_bytes(b"half")

    monkeypatch.setattr("onion_lightning.export.merge.save_weights", fail)
    words = ("--ckpt_path", str(tmp_path / "a.ckpt"), "--output", str(out), "--merge", "true", "--overwrite", "true")
    assert main(flags("export", "--model.base_model", str(base), *words)) == (
        143 if isinstance(error, Interrupted) else 1
    )
    assert len(saved) == 3
    assert {file: file.read_bytes() for file in out.rglob("*") if file.is_file()} == before
    assert command.MERGED == "merged"


MEASURE = """
import sys
from pathlib import Path
from onion_lightning.export.merge import merge_weights
from onion_lightning.export.source import read_source
from onion_lightning.model.module import OnionModule
from tests.benchmarks.process_memory import peak_so_far, status

base, checkpoint, folder = sys.argv[1:]
source = read_source(OnionModule(base_model=base, target_modules="all-linear", lora_rank=2), checkpoint)
Path(folder).mkdir()
merge_weights(source, Path(folder))  # the first product allocates what the library needs
before = status("VmRSS")
peak_so_far()
merge_weights(source, Path(folder))
print(status("VmHWM") - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_memory_of_a_merge_is_that_of_one_file_and_not_of_the_model(tiny_base, tmp_path):
    size = {"hidden_size": 512, "intermediate_size": 4096, "num_hidden_layers": 16, "num_attention_heads": 8}
    base = copy_base(tiny_base, tmp_path / "base", size, "bfloat16", "16MB")
    trained(base, tmp_path / "a.ckpt", target_modules="all-linear", lora_rank=2)
    files = [file.stat().st_size for file in base.glob("*.safetensors")]
    assert len(files) >= 14
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, str(base), str(tmp_path / "a.ckpt"), str(tmp_path / "out")],
        capture_output=True, text=True, check=False,
        env=os.environ | {"MALLOC_MMAP_THRESHOLD_": "1000000"},  # otherwise glibc keeps freed blocks of a few MB
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    largest_weight = 512 * 4096 * 4  # in float32, of which there are three: weight, adapter and sum
    assert int(done.stdout) < 2 * max(files) + 3 * largest_weight + 10e6 < sum(files) / 2
