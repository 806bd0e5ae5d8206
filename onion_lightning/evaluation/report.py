"""The report of an evaluation: report.html, metrics.json and samples.jsonl in a folder of their own."""

import io
import json
from collections.abc import Sequence
from typing import Any

import jinja2
import matplotlib
import matplotlib.figure
import numpy as np
from markupsafe import Markup

from onion_lightning.evaluation.evaluator import OPENING, SYSTEMS
from onion_lightning.evaluation.metrics import COPIED

__all__ = ["FILES", "TITLES", "list_figures", "render", "report_files"]

FILES = ("report.html", "metrics.json", "samples.jsonl")
TITLES = {"base": "Base", "few_shot": "Few-shot", "tuned": "Tuned", "real": "Real"}
COLOURS = {"base": "#8a8f98", "few_shot": "#4d7ea8", "tuned": "#c8553d", "real": "#5b8c5a"}
FOREGROUND = "#010203"  # becomes the page's own text colour
ROWS = (
    ("loss", "Loss per token", "nats; lower is better", "{:.3f}"),
    ("perplexity", "Perplexity", "lower is better", "{:.2f}"),
    ("bits_per_byte", "Bits per byte", "lower is better", "{:.3f}"),
    ("eos_rate", "Ended by itself", "closed with EOS", "{:.0%}"),
    ("cut_rate", "Cut at the limit", "", "{:.0%}"),
    ("loop_rate", "Loops", "eight words come twice", "{:.0%}"),
    ("words", "Words", "mean", "{:.0f}"),
    ("headline_recall", "Headline taken up", "of its content words", "{:.0%}"),
    ("headline_top_1", "Headline recovered", f"first of all, from {OPENING} tokens", "{:.0%}"),
    ("headline_mrr", "Mean reciprocal rank", "of its own headline", "{:.2f}"),
    ("copied_rate", "Copied", f"{COPIED} words or more from training", "{:.0%}"),
    ("dateline", "Dateline", "in the first line", "{:.0%}"),
    ("spokesperson", "Quoted spokesperson", "", "{:.0%}"),
    ("closing_turn", "Closing turn", "“at press time”", "{:.0%}"),
    ("words_per_sentence", "Words per sentence", "", "{:.1f}"),
    ("distinct_1", "Distinct 1-grams", "first 50 words", "{:.2f}"),
    ("distinct_2", "Distinct 2-grams", "", "{:.2f}"),
    ("distinct_3", "Distinct 3-grams", "", "{:.2f}"),
    ("style_distance", "Distance from the real style", "0 is the same", "{:.3f}"),
)


def report_files(metrics: dict[str, Any], samples: Sequence[dict[str, Any]]) -> dict[str, str]:
    """The names and contents of a report."""
    lines = (json.dumps(sample, ensure_ascii=False) + "\n" for sample in samples)
    contents = (render(metrics, samples), json.dumps(metrics, indent=2) + "\n", "".join(lines))
    return dict(zip(FILES, contents, strict=True))


def list_figures(metrics: dict[str, Any]) -> list[dict[str, Any]]:
    """The table of figures: for each metric its name, and for each system its value and interval as text."""
    listed = []
    for key, title, note, spec in ROWS:
        cells = []
        for system in ("real", *SYSTEMS):
            value, ends = (metrics[kind][system].get(key) for kind in ("systems", "intervals"))
            text = "" if value is None else spec.format(value)
            cells.append({"value": text, "interval": " to ".join(map(spec.format, ends)) if ends else ""})
        listed.append({"key": key, "title": title, "note": note, "cells": cells})
    return listed


def render(metrics: dict[str, Any], samples: Sequence[dict[str, Any]]) -> str:
    """The page: one file that asks for nothing else. Whatever comes from a corpus or a model is escaped."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("onion_lightning.evaluation", ""),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html.jinja").render(
        metrics=metrics,
        figures=list_figures(metrics),
        samples=samples,
        titles=TITLES,
        colours=COLOURS,
        copied=COPIED,
        verdict=verdict(metrics),
        plots=[plot_losses(metrics), plot_lengths(samples), plot_style(metrics)],
    )


def verdict(metrics: dict[str, Any]) -> list[str]:
    """What the paired differences say, in a sentence each."""
    said = []
    for other, name in (("base", "the base model"), ("few_shot", "few-shot prompting")):
        paired = metrics["paired"][f"tuned_minus_{other}"]
        low, high = paired["interval"]
        word = "lower" if high < 0 else "higher" if low > 0 else "not clearly different"
        figures = f"{paired['difference']:+.3f} nats per token, 95% interval {low:+.3f} to {high:+.3f}"
        said.append(
            f"The tuned model's loss is {word} than that of {name} ({figures})."
            if high < 0 or low > 0
            else f"The tuned model's loss is {word} from that of {name} ({figures})."
        )
    return said


def draw(figure: matplotlib.figure.Figure, title: str) -> Markup:
    """A figure as inline SVG in the page's own text colour."""
    stream = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "onion"}):
        figure.savefig(stream, format="svg", transparent=True, metadata={"Date": None})
    svg = stream.getvalue()
    svg = svg[svg.index("<svg") :].replace(FOREGROUND, "currentColor")
    return Markup(svg.replace("<svg", f'<svg role="img" aria-label="{title}"', 1))


def axes(width: float, height: float) -> tuple[matplotlib.figure.Figure, Any]:
    figure = matplotlib.figure.Figure(figsize=(width, height), layout="constrained")
    axis = figure.subplots()
    axis.spines[["top", "right", "left"]].set_visible(False)
    axis.spines["bottom"].set_color(FOREGROUND)
    axis.tick_params(colors=FOREGROUND, left=False, labelsize=9)
    axis.xaxis.label.set_color(FOREGROUND)
    axis.xaxis.label.set_fontsize(9)
    return figure, axis


def plot_losses(metrics: dict[str, Any]) -> Markup:
    figure, axis = axes(5, 1.9)
    for at, name in enumerate(reversed(SYSTEMS)):
        value, (low, high) = metrics["systems"][name]["loss"], metrics["intervals"][name]["loss"]
        axis.plot([low, high], [at, at], color=COLOURS[name], linewidth=3, alpha=0.5, solid_capstyle="round")
        axis.plot(value, at, "o", color=COLOURS[name], markersize=8)
    axis.set_yticks(range(len(SYSTEMS)), [TITLES[name] for name in reversed(SYSTEMS)])
    axis.margins(y=0.3)
    axis.set_xlabel("loss per token of the real articles, in nats, with 95% intervals")
    return draw(figure, "Loss per token")


def plot_lengths(samples: Sequence[dict[str, Any]]) -> Markup:
    figure, axis = axes(5, 2.2)
    names = (*reversed(SYSTEMS), "real")
    for at, name in enumerate(names):
        words = [sample["systems"][name]["words"] for sample in samples]
        axis.plot(words, np.full(len(words), at), "|", color=COLOURS[name], markersize=12, alpha=0.7)
        axis.plot(np.median(words), at, "o", color=COLOURS[name], markersize=8)
    axis.set_yticks(range(len(names)), [TITLES[name] for name in names])
    axis.margins(y=0.2)
    axis.set_xlim(left=0)
    axis.set_xlabel("words of an article; the dot is the median")
    return draw(figure, "Lengths")


def plot_style(metrics: dict[str, Any]) -> Markup:
    shares = ("dateline", "spokesperson", "closing_turn", "distinct_1", "distinct_2", "distinct_3")
    figure, axis = axes(5, 2.8)
    for name in (*SYSTEMS, "real"):
        values = [metrics["systems"][name][key] for key in reversed(shares)]
        axis.plot(values, range(len(shares)), "o", color=COLOURS[name], label=TITLES[name], alpha=0.85)
    axis.set_yticks(range(len(shares)), [key.replace("_", " ") for key in reversed(shares)])
    axis.set_xlim(-0.03, 1.03)
    axis.grid(axis="y", color="#88888844")
    axis.set_xlabel("share of articles; of n-grams for distinct")
    figure.legend(loc="outside upper center", ncols=4, frameon=False, fontsize=9, labelcolor=FOREGROUND)
    return draw(figure, "Style card")
