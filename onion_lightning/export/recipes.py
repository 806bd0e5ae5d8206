"""How other programs load an export: the commands of vLLM and llama.cpp, and a `Modelfile` for Ollama.

llama.cpp's converter and server were run on exports. vLLM and Ollama were not: their recipes follow the documentation of vLLM
(features/lora) and Ollama (modelfile, import).
"""

import json
import shlex
from typing import Any

from onion_lightning.data.prompt import TEMPLATE, format_prompt
from onion_lightning.export.source import Source

__all__ = ["HEADLINE", "MODELFILE", "gguf_commands", "llama_command", "modelfile", "vllm_command", "vllm_request"]

HEADLINE = "Area Man Declares War On Tuesday"
MODELFILE = "Modelfile"
VLLM_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)  # what --max-lora-rank accepts; 16 is its default


def vllm_command(source: Source, folder: str) -> str | None:
    """Return the command that serves base and adapters with vLLM; None for adapters that vLLM cannot load.

    Args:
        source: what is exported.
        folder: the exported folder, as the command names it.
    """
    rank = next((rank for rank in VLLM_RANKS if rank >= source.skeleton.lora.r), None)
    if (
        rank is None
        or source.skeleton.lora.use_dora
        or not source.layers.isdisjoint((source.skeleton.embeddings, source.skeleton.head))
    ):
        return None
    words = ["vllm", "serve", source.base_path, "--enable-lora", "--max-lora-rank", str(rank)]
    return shlex.join([*words, "--lora-modules", f"onion={folder}"])


def vllm_request(source: Source, model: str) -> dict[str, Any]:
    """Return the body of a request to `/v1/completions`: the raw prompt, the stop token and the decoding flags."""
    decoding = source.decoding
    return {
        "model": model,
        "prompt": format_prompt(HEADLINE),
        "max_tokens": decoding.max_new_tokens,
        "temperature": decoding.temperature,
        "top_p": decoding.top_p,
        "top_k": -1,
        "repetition_penalty": decoding.repetition_penalty,
        "stop_token_ids": [source.tokenizer.eos_token_id],
    }


def gguf_commands(source: Source, merged: bool, written: str | None = None) -> list[str]:
    """Return the commands of llama.cpp that write the files named in the `Modelfile`, inside the exported folder.

    The first says if `merged` must be exported before. If model.gguf was `written`, there are none.
    """
    if written is not None:
        return []
    whole = "python llama.cpp/convert_hf_to_gguf.py {} --outtype {} --outfile {}"
    if merged or needs_merge(source):
        first = [] if merged else ["# export again with --merge true: llama.cpp would compute these adapters otherwise"]
        return [*first, whole.format("merged", "q8_0", "model.gguf")]
    base = shlex.quote(source.base_path) if source.is_local else f"{source.base_path} --remote"
    adapters = "python llama.cpp/convert_lora_to_gguf.py . --outfile adapters.gguf"
    based = f" --base {shlex.quote(source.base_path)}" if source.is_local else ""
    return [whole.format(base, "q8_0", "model.gguf"), adapters + based]


def needs_merge(source: Source) -> bool:
    """Whether llama.cpp would compute the adapters otherwise: it scales by alpha / rank, and knows no norms of DoRA."""
    return bool(source.skeleton.lora.use_dora or source.skeleton.lora.use_rslora)


def llama_command(source: Source, merged: bool) -> str:
    """Return the command of llama.cpp's server, with the decoding flags as its defaults and without its other samplers."""
    decoding = source.decoding
    words = ["llama-server", "--model", "model.gguf", "--temp", decoding.temperature, "--top-p", decoding.top_p]
    words += [] if merged or needs_merge(source) else ["--lora", "adapters.gguf"]
    words += ["--top-k", 0, "--min-p", 0, "--repeat-penalty", decoding.repetition_penalty, "--repeat-last-n", -1]
    return shlex.join([*map(str, words), "--predict", str(decoding.max_new_tokens)])


def modelfile(source: Source, merged: bool, written: str | None = None) -> str:
    """Return a `Modelfile` for Ollama, which reads GGUF files that llama.cpp writes.

    Args:
        source: what is exported.
        merged: whether the folder contains merged weights.
        written: type of the weights in model.gguf; None without one.
    """
    decoding, context = source.decoding, source.skeleton.config.get_text_config().max_position_embeddings
    parameters = {
        "temperature": decoding.temperature,
        "top_p": decoding.top_p,
        "top_k": 0,
        "repeat_penalty": decoding.repetition_penalty,
        "repeat_last_n": -1,
        "num_predict": decoding.max_new_tokens,
        "num_ctx": min(context, 4096),
        "stop": json.dumps(source.tokenizer.eos_token, ensure_ascii=False),
    }
    lines = [
        "# llama.cpp writes the files, in this folder:"
        if written is None
        else f"# llama.cpp wrote model.gguf: {written}",
        *(f"#   {line}" for line in gguf_commands(source, merged, written)),
    ]
    lines += ["# then: ollama create onion -f Modelfile", "FROM ./model.gguf"]
    lines += [] if merged or needs_merge(source) else ["ADAPTER ./adapters.gguf"]
    lines += ['TEMPLATE """' + TEMPLATE.replace("{headline}", "{{ .Prompt }}") + '"""']
    return "\n".join([*lines, *(f"PARAMETER {name} {value}" for name, value in parameters.items())]) + "\n"
