"""Preference pairs for tests."""

import json
from pathlib import Path

from onion_lightning.data.prompt import format_prompt
from tests.conftest import sample_rows


def some_pairs(count: int) -> list[dict[str, str]]:
    """Return pairs of short articles of different lengths, each for a headline of its own, as `serve` exports them."""
    pairs = []
    for number, row in enumerate(sample_rows()[:count]):
        words = row["Content"].split()
        chosen, rejected = words[: 8 + number * 5 % 11], words[30 : 40 + number * 7 % 13]
        prompt = format_prompt(row["Title"])
        pairs.append({"prompt": prompt, "chosen": " ".join(chosen), "rejected": " ".join(rejected)})
    return pairs


def write_pairs(file: Path, pairs: list) -> str:
    """Write pairs as JSON Lines, and return the path."""
    file.write_text("".join(json.dumps(pair, ensure_ascii=False) + "\n" for pair in pairs), encoding="utf-8")
    return str(file)
