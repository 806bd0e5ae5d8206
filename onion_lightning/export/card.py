"""Writes the model card of an export from what the run left: its flags, its corpus and the figures of `evaluate`."""

import json
from pathlib import Path
from typing import Any

import jinja2
from huggingface_hub import ModelCardData

from onion_lightning.data.prompt import TEMPLATE
from onion_lightning.export.licenses import find_license, license_note
from onion_lightning.export.recipes import HEADLINE, gguf_commands, llama_command, vllm_command, vllm_request
from onion_lightning.export.source import Source
from onion_lightning.pretrained.demo import WHEEL
from onion_lightning.training.run_folder import find_figures, read_json, read_run_config

__all__ = ["render_card"]

DEMO_ORIGIN = "HuggingFaceTB/SmolLM2-135M-Instruct"
SETTINGS = {  # of the adapters and the run, as the card names them
    "model.lora_rank": "LoRA rank",
    "model.lora_alpha": "LoRA alpha",
    "model.lora_dropout": "LoRA dropout",
    "model.target_modules": "adapted layers",
    "model.use_rslora": "rsLoRA",
    "model.use_dora": "DoRA",
    "model.init_lora_weights": "first values of A",
    "model.load_in": "base weights in training",
    "model.learning_rate": "peak learning rate",
    "model.weight_decay": "weight decay",
    "model.warmup_ratio": "warmup",
    "model.optimizer": "optimizer",
    "model.lora_plus_ratio": "learning rate of B by that of A",
    "model.neftune_alpha": "noise on embeddings",
    "data.global_batch_size": "effective batch",
    "data.max_length": "tokens per example, at most",
    "seed_everything": "seed",
}


def render_card(source: Source, merged: bool, has_chat_template: bool, folder: str, written: str | None = None) -> str:
    """Return the model card, Markdown with a YAML header.

    Args:
        source: what is exported.
        merged: whether the folder contains merged weights.
        has_chat_template: whether its tokenizer has a chat template.
        folder: the value of `--output`.
        written: type of the weights in model.gguf; None without one.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("onion_lightning.export", ""),
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=False,
    )
    run = source.checkpoint.parent if source.checkpoint.is_file() else None  # a folder of adapters has no run
    license_id = find_license(source.base_model)
    return (
        environment.get_template("card.md.jinja").render(
            source=source,
            header=header(source, license_id),
            merged=merged,
            has_chat_template=has_chat_template,
            demo_wheel=WHEEL if source.base_model == "demo" else None,
            demo_origin=DEMO_ORIGIN,
            settings=settings_table(source),
            data=None if run is None else describe_data(run),
            figures=find_figures(source.checkpoint, Path("evaluation/metrics.json")),
            memorized=find_figures(source.checkpoint, Path("memorization/memorize.json")),
            license=license_id,
            license_note=license_note(license_id),
            template=TEMPLATE,
            headline=HEADLINE,
            vllm_adapters=vllm_command(source, Path(folder).resolve().name),
            vllm_request=json.dumps(
                vllm_request(source, "merged" if merged else "onion"), ensure_ascii=False, indent=2
            ),
            gguf=gguf_commands(source, merged, written),
            gguf_type=written,
            llama_command=llama_command(source, merged),
            folder_name=Path(folder).resolve().name,
        )
        + "\n"
    )


def header(source: Source, license_id: str | None) -> str:
    """Return the YAML header. The Hub refuses a base model that is not a model ID, so a directory is left out (trl#1873)."""
    base_model = DEMO_ORIGIN if source.base_model == "demo" else None if source.is_local else source.base_path
    data = ModelCardData(
        base_model=base_model,
        base_model_relation="adapter" if base_model else None,
        library_name="peft",
        license=license_id,
        pipeline_tag="text-generation",
        tags=["lora", "onion_lightning", "satire"],
    )
    return data.to_yaml()


def settings_table(source: Source) -> dict[str, str]:
    values = source.flags | source.training
    return {title: plain(values[name]) for name, title in SETTINGS.items() if name in values}


def plain(value: Any) -> str:
    return ", ".join(value) if isinstance(value, list) else f"{value:g}" if isinstance(value, float) else str(value)


def describe_data(run: Path) -> dict[str, Any] | None:
    """Return the sources of a run's corpus, its rows by split and its tokens per row; None without a `corpus_report.json`.

    The name of a local file is given without its folder.
    """
    file = run / "corpus_report.json"
    if not file.is_file():
        return None
    report = read_json(file)
    given = (read_run_config(run).get("data") or {}).get("path") or ""
    paths = given if isinstance(given, list) else [given]
    return {"paths": list(map(without_folder, paths)), **report}


def without_folder(path: str) -> str:
    file, mark, part = path.partition("::")  # a query or a sheet
    return f"{Path(file).name}{mark}{part}" if Path(file).expanduser().exists() else path
