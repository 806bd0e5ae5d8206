"""The commands for vLLM and llama.cpp, and the Modelfile, have the prompt, the stop token and the decoding flags."""

import json
import re
import shlex

import pytest

from onion_lightning.export.recipes import gguf_commands, llama_command, modelfile, vllm_command, vllm_request
from onion_lightning.export.source import read_source
from onion_lightning.model.module import OnionModule
from tests.export.conftest import trained


@pytest.fixture
def source(tiny_base, tmp_path):
    """Return a function that reads a checkpoint with other flags."""

    def read(**flags):
        trained(tiny_base, tmp_path / "a.ckpt", **flags)
        return read_source(OnionModule(base_model=str(tiny_base), **flags), str(tmp_path / "a.ckpt"))

    return read


@pytest.mark.parametrize(("rank", "most"), [(1, "1"), (4, "8"), (8, "8"), (17, "32"), (257, "320")])
def test_vllm_gets_the_smallest_rank_that_it_accepts_and_that_suffices(source, tiny_base, rank, most):
    words = shlex.split(vllm_command(source(lora_rank=rank), "out"))
    assert words[:4] == ["vllm", "serve", str(tiny_base), "--enable-lora"]
    assert words[words.index("--max-lora-rank") + 1] == most
    assert words[words.index("--lora-modules") + 1] == "onion=out"


def test_adapters_that_vllm_cannot_load_have_no_command(source):
    assert vllm_command(source(target_modules=["lm_head"]), "out") is None
    assert vllm_command(source(lora_rank=600), "out") is None
    assert vllm_command(source(use_dora=True), "out") is None
    assert vllm_command(source(use_rslora=True), "out") is not None


def test_the_request_has_the_raw_prompt_the_stop_token_and_the_decoding_flags(source):
    request = vllm_request(source(temperature=0.5, max_new_tokens=7), "onion")
    assert request["prompt"] == "### Headline: Area Man Declares War On Tuesday\n### Article:\n"
    assert request["stop_token_ids"] == [2]
    assert (request["temperature"], request["top_p"], request["max_tokens"]) == (0.5, 0.95, 7)


def test_the_card_contains_the_request_as_valid_json_in_a_shell_command(exported):
    text = (exported() / "README.md").read_text()
    [line] = re.findall(r"curl .*?\}'", text, re.DOTALL)
    words = shlex.split(line)
    assert json.loads(words[words.index("-d") + 1])["model"] == "onion"


def test_the_modelfile_has_the_prompt_and_the_decoding_flags(source):
    text = modelfile(source(temperature=0.5), merged=True)
    assert 'TEMPLATE """### Headline: {{ .Prompt }}\n### Article:\n"""' in text
    lines = text.splitlines()
    for line in (
        "FROM ./model.gguf",
        "PARAMETER temperature 0.5",
        "PARAMETER repeat_last_n -1",
        'PARAMETER stop "</s>"',
    ):
        assert line in lines
    assert "PARAMETER num_ctx 512" in lines
    assert "ADAPTER ./adapters.gguf" not in lines
    assert "ADAPTER ./adapters.gguf" in modelfile(source(), merged=False).splitlines()


def test_the_server_of_llama_cpp_has_the_decoding_flags_and_none_of_its_other_samplers(source):
    words = shlex.split(llama_command(source(temperature=0.5, repetition_penalty=1.2), merged=True))
    assert words[:3] == ["llama-server", "--model", "model.gguf"]
    flags = dict(zip(words[1::2], words[2::2], strict=True))
    assert (flags["--temp"], flags["--repeat-penalty"], flags["--repeat-last-n"]) == ("0.5", "1.2", "-1")
    assert flags["--top-k"] == flags["--min-p"] == "0"
    assert "--lora" not in flags
    assert "--lora adapters.gguf" in llama_command(source(), merged=False)


def test_llama_cpp_converts_the_merged_folder_or_base_and_adapters(source, tiny_base):
    [merged] = gguf_commands(source(), merged=True)
    assert shlex.split(merged)[1:] == [
        "llama.cpp/convert_hf_to_gguf.py", "merged", "--outtype", "q8_0", "--outfile", "model.gguf",
    ]  # fmt: skip
    base, adapters = gguf_commands(source(), merged=False)
    assert str(tiny_base) in base
    assert f"--base {tiny_base}" in adapters


@pytest.mark.parametrize("kind", [{"use_dora": True}, {"use_rslora": True}], ids=str)
def test_llama_cpp_gets_merged_weights_of_adapters_that_it_would_compute_otherwise(source, kind):
    """It scales by alpha / rank, and refuses the norms of DoRA."""
    first, command = gguf_commands(source(**kind), merged=False)
    assert "--merge true" in first
    assert command == gguf_commands(source(**kind), merged=True)[0]
    assert "ADAPTER" not in modelfile(source(**kind), merged=False)
