"""The `export` command: writes adapters, and on request merged weights, as folders that other programs load."""

import json
from collections.abc import Mapping
from pathlib import Path

from transformers import GenerationConfig

from onion_lightning.data.module import OnionDataModule
from onion_lightning.data.prompt import TEMPLATE
from onion_lightning.errors import OnionError
from onion_lightning.export.card import render_card
from onion_lightning.export.gguf import Conversion, convert, find_conversion
from onion_lightning.export.merge import merge_weights, save_weights
from onion_lightning.export.prompts import find_chat_template
from onion_lightning.export.push import check_repository, push_folder
from onion_lightning.export.recipes import MODELFILE, modelfile
from onion_lightning.export.source import Source, read_source
from onion_lightning.messages import tell
from onion_lightning.model.module import OnionModule
from onion_lightning.output_folder import check_folder, replacing
from onion_lightning.pretrained.adapter_folder import ADAPTER_CONFIG, ADAPTER_WEIGHTS, SETTINGS
from onion_lightning.training.session import Session
from onion_lightning.training.wandb_logger import CarefulWandbLogger
from onion_lightning.verification.command import verify_folder
from onion_lightning.verification.exported import CARD, GGUF, MERGED, PROMPT_FILE, count_changed
from onion_lightning.verification.result import VERIFIED

__all__ = ["FILES", "MERGED", "run_export"]

TOKENIZER = (
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
)
MODELS = {MERGED: "merged weights", GGUF: f"a {GGUF}"}  # whole models, as errors name them
FILES = (ADAPTER_CONFIG, ADAPTER_WEIGHTS, SETTINGS, PROMPT_FILE, MODELFILE, CARD, VERIFIED, *TOKENIZER)


def run_export(
    session: Session,
    model: OnionModule,
    datamodule: OnionDataModule,
    ckpt_path: str | None = None,
    output: str = "exported",
    merge: bool = False,
    gguf: str | None = None,
    llama_cpp: str | None = None,
    verify: bool = False,
    push: str | None = None,
    overwrite: bool = False,
) -> None:
    """Write the adapters of a checkpoint as a folder for peft, vLLM, llama.cpp and Ollama, with a model card.

    Runs on the CPU, and loads no weights of the base model, except with --merge true (one file after the other) and --verify
    true.

    Args:
        session: provides the loggers; W&B gets the adapters as an artifact.
        model: base model, adapters, and the decoding flags, which are the run's by default.
        datamodule: held-out articles for --verify true.
        ckpt_path: checkpoint to export (required): a file, last, best, or a folder of adapters.
        output: folder for the adapters, tokenizer, prompt template, model card and Modelfile.
        merge: write the base model with the adapters merged into its 16-bit weights, to the folder merged/ in it.
        gguf: also convert the merged weights to model.gguf, with weights of this type (f32, f16, bf16, q8_0; others such as
            q4_k_m if --llama_cpp contains a built llama-quantize). Needs --merge true.
        llama_cpp: folder of llama.cpp's source code, whose convert_hf_to_gguf.py writes it.
        verify: compare the folder with the checkpoint, as the command verify does; it is not pushed if they differ.
        push: repository on the Hugging Face Hub (USER/NAME) to upload the folder to; lists the files if there is no token.
        overwrite: also replace an earlier export of other adapters in the output folder, or one with merged weights or
            model.gguf by one without.

    Raises:
        OnionError: a flag is invalid, or base model and checkpoint cannot be read or do not match.
    """
    if ckpt_path is None:
        raise OnionError("--ckpt_path: export needs the checkpoint of a fine-tuned model; give a file, last or best.")
    if push is not None:
        check_repository(push)
    folder = check_folder(output, (*FILES, GGUF), overwrite=True, folders=(MERGED,))
    if check_earlier(folder, output) and not overwrite:
        check_repeated(folder, output, ckpt_path, {MERGED: merge, GGUF: gguf is not None})
    conversion = find_conversion(gguf, llama_cpp, merge)
    source = read_source(model, ckpt_path)
    with replacing(folder, (*FILES, *MODELS)) as part:
        write_export(source, part, output, merge, conversion)
    written = [f"merged weights to {folder / MERGED}"] * merge + [f"{gguf} to {folder / GGUF}"] * (gguf is not None)
    tell(", and ".join([f"Exported {source.checkpoint} to {folder}", *written]) + ".")
    if verify:
        verify_folder(session, model, datamodule, folder, ckpt_path)
    for logger in session.loggers:
        if isinstance(logger, CarefulWandbLogger):
            logger.log_files("exported", folder, FILES)
    if push is not None:
        warn_local_base(source, push)
        push_folder(folder, push, (*FILES, *MODELS))


def check_earlier(folder: Path, output: str) -> bool:
    """Return whether a folder has an earlier export. A README.md, a tokenizer, ... that are not those of one are refused."""
    found = [name for name in (*FILES, *MODELS) if (folder / name).exists()]
    if found and SETTINGS not in found:
        raise OnionError(
            f"--output {output}: its {found[0]} is not that of an earlier export, which would have written {SETTINGS}; give"
            " another folder."
        )
    return bool(found)


def check_repeated(folder: Path, output: str, ckpt_path: str, again: Mapping[str, bool]) -> None:
    """Refuse to replace an export that may be the only copy of its adapters, or whose whole models took long to write."""
    missing = [name for name, written in again.items() if (folder / name).exists() and not written]
    lost = f"{MODELS[missing[0]]}, which this one would lack" if missing else ""
    try:
        if count_changed(folder, ckpt_path):
            lost = "other adapters"
    except OnionError:  # the checkpoint was read before
        lost = "damaged adapters"
    if lost:
        raise OnionError(
            f"--output {output}: contains an earlier export with {lost}; give another folder, or set --overwrite true."
        )


def write_export(source: Source, part: Path, output: str, merge: bool, conversion: Conversion | None) -> None:
    """Write all files of an export to an empty folder."""
    kind = None if conversion is None else conversion.kind
    chat_template = find_chat_template(source.tokenizer)
    source.tokenizer.chat_template = chat_template
    write_adapters(source, part)
    source.tokenizer.save_pretrained(part)
    texts = {
        PROMPT_FILE: TEMPLATE,
        MODELFILE: modelfile(source, merge, kind),
        CARD: render_card(source, merge, chat_template is not None, output, kind),
        SETTINGS: json.dumps(source.settings() | {"merged": merge}, indent=2, ensure_ascii=False) + "\n",
    }
    for name, text in texts.items():
        (part / name).write_text(text, encoding="utf-8")
    if merge:
        (part / MERGED).mkdir()
        source.tokenizer.save_pretrained(part / MERGED)
        generation_config(source).save_pretrained(part / MERGED)
        merge_weights(source, part / MERGED)
    if conversion is not None:
        convert(conversion, part / MERGED, part / GGUF)


def write_adapters(source: Source, part: Path) -> None:
    """Write `adapter_config.json`, through peft, and `adapter_model.safetensors`."""
    lora = source.skeleton.lora
    lora.base_model_name_or_path, lora.inference_mode = source.base_path, True
    if isinstance(lora.target_modules, set):
        lora.target_modules = sorted(lora.target_modules)  # otherwise in another order each time
    lora.save_pretrained(str(part))
    save_weights(source.weights, part / ADAPTER_WEIGHTS)


def generation_config(source: Source) -> GenerationConfig:
    """Return the decoding flags as the defaults of `generate`."""
    decoding, tokenizer = source.decoding, source.tokenizer
    sampling = {"do_sample": True, "temperature": decoding.temperature, "top_p": decoding.top_p, "top_k": 0}
    return GenerationConfig(
        **(sampling if decoding.temperature > 0 else {"do_sample": False}),
        repetition_penalty=decoding.repetition_penalty,
        max_new_tokens=decoding.max_new_tokens,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=0,  # as in training, where it is masked by length
    )


def warn_local_base(source: Source, push: str) -> None:
    if source.is_local and source.base_model != "demo":
        tell(
            f"--push {push}: the base model is a directory of this machine ({source.base_path}), which others lack; if it is"
            " on the Hub, give its model ID to --model.base_model."
        )
