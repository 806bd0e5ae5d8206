"""`attention.html`: one file that works offline, in which layer, head, system and token are chosen."""

import base64
import hashlib
import importlib.resources
import zlib
from typing import Any

import jinja2
import numpy as np

from onion_lightning.attention.phrase_attention import ROOM, AttentionAnswer, rounded

__all__ = ["render_attention"]


def render_attention(answer: AttentionAnswer) -> str:
    """The page. Its text is data to its script, which never makes markup of it; it may ask for nothing.

    Attention is packed as 255 times its square root, so a share of 1% is told to 0.04 points; rollout, which is thousands
    of times less, relative to its largest share but the first token's. Where all heads would take
    too much room, those that rank last are left out of the text's colours; their figures stay.
    """
    script = importlib.resources.files("onion_lightning.attention").joinpath("attention.js").read_text(encoding="utf-8")
    environment = jinja2.Environment(loader=jinja2.PackageLoader("onion_lightning.attention", ""), autoescape=True)
    return environment.get_template("attention.html.jinja").render(
        answer=answer,
        script=script,
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        data=page_data(answer),
        gaps=len(answer.controls),
    )


def page_data(answer: AttentionAnswer) -> dict[str, Any]:
    """What the script reads. `maps` is system, row, source, token; see `sources`."""
    layers, heads, width = next(iter(answer.maps.values())).phrase.shape
    room = ROOM // (len(answer.maps) * width) - layers - 2
    kept = sorted(answer.ranking[:room])
    packed = np.concatenate([sources(answer, name, kept).ravel() for name in answer.maps])
    return {
        "pieces": pieces(answer),
        "query": [answer.query.first, answer.query.stop],
        "key": [answer.key.first, answer.key.stop],
        "systems": list(answer.maps),
        "layers": layers,
        "heads": heads,
        "width": width,
        "rows": 1 if next(iter(answer.maps.values())).each is None else 1 + answer.query.stop - answer.query.first,
        "kept": [layer * heads + head for layer, head in kept],
        "best": list(answer.ranking[0]),
        "figures": {
            name: {
                kind: {key: rounded(value) for key, value in figures[name]._asdict().items()}
                for kind, figures in (("heads", answer.heads), ("rollout", answer.rollout))
            }
            for name in answer.maps
        },
        "rollout": {name: [list(ends) for ends in rollout_ends(answer, name)] for name in answer.maps},
        "maps": base64.b64encode(zlib.compress(packed.tobytes(), 9)).decode(),
    }


def sources(answer: AttentionAnswer, system: str, kept: list[tuple[int, int]]) -> np.ndarray:
    """A system's attention as bytes (rows, sources, tokens).

    The rows are the phrase and, where they were kept, each of its tokens. The sources are the rollout, the mean of all
    heads, the mean of each layer's heads, and the kept heads.
    """
    maps = answer.maps[system]
    rows = [(maps.rollout.mean(0), maps.phrase)]
    if maps.each is not None:
        rows += [(maps.rollout[at], maps.each[:, :, at]) for at in range(maps.each.shape[2])]
    layers, heads = [at for at, _ in kept], [at for _, at in kept]
    made = []
    for (rollout, row), (_, most) in zip(
        rows, rollout_ends(answer, system), strict=True
    ):  # row: (layers, heads, tokens)
        means = row.mean(1)
        parts = [rollout[None] / most, means.mean(0)[None], means, row[layers, heads]]
        made.append(np.concatenate([part.numpy() for part in parts]))
    return np.rint(255 * np.sqrt(np.clip(np.stack(made), 0, 1))).astype(np.uint8)


def rollout_ends(answer: AttentionAnswer, system: str) -> list[tuple[float, float]]:
    """For each row the first token's share of its rollout, and the largest of the others'."""
    maps = answer.maps[system]
    rows = [maps.rollout.mean(0)] + (list(maps.rollout) if maps.each is not None else [])
    return [(float(row[0]), float(row[1:].max()) or 1.0) for row in rows]


def pieces(answer: AttentionAnswer) -> list[list[str]]:
    """For each token the characters before it that no token has, and its own."""
    found, done = [], 0
    for token, word in zip(answer.tokens, answer.words, strict=True):
        found.append([answer.text[done : max(token.start, done)], word])
        done = max(done, token.end)
    return found
