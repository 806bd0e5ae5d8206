"""Renders a result as `attention.html`: one offline file with controls for system, layer, head and query token."""

import base64
import hashlib
import html
import importlib.resources
import zlib
from typing import Any

import jinja2
import numpy as np

from onion_lightning.attention.effects.result import Effect
from onion_lightning.attention.effects.words import finding, notes
from onion_lightning.attention.result import AttentionResult
from onion_lightning.attention.statistics import round_values

__all__ = ["MAX_VALUES", "page_data", "render_iframe", "render_page"]

SCRIPTS = ("effects.js", "attention.js")  # the second calls functions of the first
MAX_VALUES = 3_000_000  # attention values that a page contains at most, one byte each before compression


def render_page(result: AttentionResult) -> str:
    """Return the page as one HTML file.

    The text is data to the page's script, which never parses it as markup, and the content security policy forbids every
    request.
    """
    files = importlib.resources.files("onion_lightning.attention")
    script = "\n".join(files.joinpath(name).read_text(encoding="utf-8") for name in SCRIPTS)
    environment = jinja2.Environment(loader=jinja2.PackageLoader("onion_lightning.attention", ""), autoescape=True)
    return environment.get_template("attention.html.jinja").render(
        result=result,
        script=script,
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        data=page_data(result),
    )


def render_iframe(result: AttentionResult) -> str:
    """Return the page inside a sandboxed iframe, for a notebook."""
    page = html.escape(render_page(result), quote=True)
    style = "width: 100%; height: 52rem; border: 0"
    return f'<iframe title="Attention" sandbox="allow-scripts" style="{style}" srcdoc="{page}"></iframe>'


def page_data(result: AttentionResult) -> dict[str, Any]:
    """Return the data of the page's script. `maps` is system, row, source, token; see `pack_system`."""
    maps = result.maps[result.primary]
    layers, heads, width = maps.mean.shape
    kept = kept_heads(result)
    packed = np.concatenate([pack_system(result, name, kept).ravel() for name in result.maps])
    return {
        "pieces": text_pieces(result),
        "query": [result.query.first, result.query.stop],
        "key": [result.key.first, result.key.stop],
        "systems": list(result.maps),
        "layers": layers,
        "heads": heads,
        "width": width,
        "rows": 1 if maps.per_token is None else 1 + maps.per_token.shape[2],
        "kept_heads": [layer * heads + head for layer, head in kept],
        "best_head": list(result.ranking[0]),
        "statistics": {
            name: {"heads": result.heads[name].to_json(), "rollout": result.rollout[name].to_json()}
            for name in result.maps
        },
        "rollout_scale": {name: [list(pair) for pair in rollout_scale(result, name)] for name in result.maps},
        "effects": {name: page_effects(result, name) for name in result.effects},
        "maps": base64.b64encode(zlib.compress(packed.tobytes(), 9)).decode(),
    }


def page_effects(result: AttentionResult, name: str) -> dict[str, Any]:
    """Return what the page shows of a system's effects."""
    effects = result.effects[name]
    return {
        "finding": finding(effects, result.query.text, result.key.text),
        "notes": list(notes(effects, len(result.controls))),
        "heads": round_values(effects.heads),
        "windows": [[window.first, window.last, *curve_point(window.effect.query)] for window in effects.windows],
        "gradient": round_values(effects.gradient_times_input),
    }


def curve_point(effect: Effect) -> list[float | None]:
    """Return an effect, and the mean and standard deviation of its controls, with six significant digits."""
    values: list[float | None] = round_values(np.array([effect.value, effect.mean, effect.std], dtype=float))
    return values


def kept_heads(result: AttentionResult) -> list[tuple[int, int]]:
    """Return the highest-ranked heads for whose attention maps the page has room, sorted by layer and head."""
    layers, _, width = result.maps[result.primary].mean.shape
    room = MAX_VALUES // (len(result.maps) * width) - layers - 2
    return sorted(result.ranking[: max(room, 0)])


def pack_system(result: AttentionResult, system: str, kept: list[tuple[int, int]]) -> np.ndarray:
    """Return a system's attention as bytes (rows, sources, tokens).

    The rows are the whole query and, if they were kept, each of its tokens. The sources are the rollout, the mean of all
    heads, the mean of each layer's heads, and the kept heads. A share is stored as 255 times its square root, which
    resolves a share of 1% to 0.04 percentage points. Rollout shares, which are thousands of times smaller, are stored
    relative to the largest one other than the first token's.
    """
    maps = result.maps[system]
    rows = [(maps.rollout.mean(0), maps.mean)]
    if maps.per_token is not None:
        rows += [(maps.rollout[i], maps.per_token[:, :, i]) for i in range(maps.per_token.shape[2])]
    layers, heads = [layer for layer, _ in kept], [head for _, head in kept]
    packed = []
    for (rollout, attention), (_, largest) in zip(rows, rollout_scale(result, system), strict=True):
        layer_means = attention.mean(1)  # (layers, tokens)
        parts = [rollout[None] / largest, layer_means.mean(0)[None], layer_means, attention[layers, heads]]
        packed.append(np.concatenate([part.numpy() for part in parts]))
    return np.rint(255 * np.sqrt(np.clip(np.stack(packed), 0, 1))).astype(np.uint8)


def rollout_scale(result: AttentionResult, system: str) -> list[tuple[float, float]]:
    """Return, for each row, the rollout share of the first token and the largest share of any other."""
    maps = result.maps[system]
    rows = [maps.rollout.mean(0)] + (list(maps.rollout) if maps.per_token is not None else [])
    return [(float(row[0]), float(row[1:].max()) or 1.0) for row in rows]


def text_pieces(result: AttentionResult) -> list[list[str]]:
    """Return, for each token, the characters before it that belong to no token, and its own text."""
    pieces, end = [], 0
    for token, text in zip(result.tokens, result.token_texts, strict=True):
        pieces.append([result.text[end : max(token.start, end)], text])
        end = max(end, token.end)
    return pieces
