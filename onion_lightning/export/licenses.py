"""Finds the license of a base model, and what it asks of those who share adapters or merged weights."""

from pathlib import Path

from huggingface_hub import metadata_load, try_to_load_from_cache

__all__ = ["find_license", "license_note"]

KNOWN = {"demo": "apache-2.0", "NousResearch/Llama-2-7b-hf": "llama2", "meta-llama/Llama-2-7b-hf": "llama2"}
NOTES = {
    "llama2": "Llama 2 is licensed under the LLAMA 2 Community License, Copyright (c) Meta Platforms, Inc. All Rights"
    " Reserved. Its terms apply to these adapters and to merged weights; share them with a copy of the license.",
}


def find_license(base_model: str) -> str | None:
    """Return the license identifier of a base model, from its model card; None if it is unknown.

    Args:
        base_model: demo, a directory or a model ID. The card of a model of the Hub is read from the local cache alone.
    """
    if base_model in KNOWN:
        return KNOWN[base_model]
    folder = Path(base_model).expanduser()
    card = folder / "README.md" if folder.is_dir() else try_to_load_from_cache(base_model, "README.md")
    if not isinstance(card, str | Path) or not Path(card).is_file():
        return None
    found = (metadata_load(card) or {}).get("license")
    return found if isinstance(found, str) else None


def license_note(identifier: str | None) -> str:
    """Return the notice that a license requires; empty if none is known."""
    return NOTES.get(identifier or "", "")
