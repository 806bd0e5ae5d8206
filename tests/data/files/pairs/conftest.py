"""Rows in the formats of other tools, and a helper that writes them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.data.conftest import body

NAMES = "Egg Man Area Nation Report Study Local Mayor Woman Poll Archive Dog".split()
ROWS = {
    f"{name} {i} Wins, Says “{i}”{end * i}": body(i) for i, (name, end) in enumerate(zip(NAMES, "!?s" * 4, strict=True))
}


def user(text: Any) -> dict[str, Any]:
    return {"role": "user", "content": text}


def assistant(text: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": text}


SYSTEM = {"role": "system", "content": "You are a satirist."}
EARLIER = [user("Hello"), assistant("Good day.")]


def write_lines(file: Path, make: Callable[[str, str], Any], rows: dict[str, str] = ROWS) -> Path:
    """Write a JSON Lines file with what `make` returns for each headline and article."""
    file.parent.mkdir(exist_ok=True)
    file.write_text("".join(json.dumps(make(*row)) + "\n" for row in rows.items()))
    return file
