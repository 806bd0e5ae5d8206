"""Renders the report of an evaluation: report.html, metrics.json and samples.jsonl."""

import io
import json
from collections.abc import Sequence
from itertools import cycle
from typing import Any, NamedTuple

import jinja2
import matplotlib
import matplotlib.figure
import numpy as np
from markupsafe import Markup

from onion_lightning.evaluation.bootstrap import PairedDifference
from onion_lightning.evaluation.evaluator import RANKED_TOKENS
from onion_lightning.evaluation.metrics import EvaluationMetrics
from onion_lightning.evaluation.samples import Sample
from onion_lightning.evaluation.tasks import BEST_OF
from onion_lightning.model.writing.copying import COPIED_WORDS

__all__ = [
    "COLORS",
    "FILES",
    "Memorized",
    "columns_of",
    "create_axes",
    "metric_table",
    "render",
    "render_page",
    "report_files",
    "summarize",
    "titles_of",
    "to_svg",
]

FILES = ("report.html", "metrics.json", "samples.jsonl")
TITLES = {"base": "Base", "few_shot": "Few-shot", "tuned": "Tuned", "real": "Real"}
COLORS = {"base": "#8a8f98", "few_shot": "#4d7ea8", "tuned": "#c8553d", "best_of": "#8e5ba6", "real": "#5b8c5a"}
MORE_COLORS = ("#b8860b", "#2a9d8f", "#6b5b95", "#7d5a3c")  # of other models
FOREGROUND = "#010203"  # replaced in the SVG by the text color of the page
METRICS = (  # key, title, note, format
    ("loss", "Loss per token", "nats; lower is better", "{:.3f}"),
    ("perplexity", "Perplexity", "lower is better", "{:.2f}"),
    ("bits_per_byte", "Bits per byte", "lower is better", "{:.3f}"),
    ("eos_rate", "Ended with EOS", "before the token limit", "{:.0%}"),
    ("cut_rate", "Cut at the token limit", "", "{:.0%}"),
    ("loop_rate", "Repetitive", "an 8-word sequence occurs twice", "{:.0%}"),
    ("words", "Words", "mean", "{:.0f}"),
    ("headline_recall", "Headline words reused", "content words only", "{:.0%}"),
    ("headline_top_1", "Headline identified", f"from the article’s first {RANKED_TOKENS} tokens", "{:.0%}"),
    ("headline_mrr", "Mean reciprocal rank", "of the headline", "{:.2f}"),
    ("copied_rate", "Copied from training data", f"{COPIED_WORDS}+ consecutive words", "{:.0%}"),
    ("seconds", "Seconds per article", "in a batch, on this machine", "{:.1f}"),
    ("dateline", "Dateline", "on the first line", "{:.0%}"),
    ("spokesperson", "Quoted spokesperson", "", "{:.0%}"),
    ("closing_turn", "Stock ending", "such as “at press time”", "{:.0%}"),
    ("words_per_sentence", "Words per sentence", "", "{:.1f}"),
    ("distinct_1", "Distinct 1-grams", "first 50 words", "{:.2f}"),
    ("distinct_2", "Distinct 2-grams", "first 50 words", "{:.2f}"),
    ("distinct_3", "Distinct 3-grams", "first 50 words", "{:.2f}"),
    ("style_distance", "Style distance", "from the real articles; 0 is identical", "{:.3f}"),
)


class Cell(NamedTuple):
    """A value and its interval as text; empty if the system has none."""

    value: str
    interval: str


class Memorized(NamedTuple):
    """The verdict of `memorize` on the same checkpoint, and the address of its page."""

    verdict: str
    page: str


class TableRow(NamedTuple):
    """A metric and its cells, in the order of `columns_of`."""

    key: str
    title: str
    note: str
    cells: list[Cell]


def report_files(
    metrics: EvaluationMetrics, samples: Sequence[Sample], memorized: Memorized | None = None
) -> dict[str, str]:
    """Return the contents of all files by name."""
    lines = (json.dumps(sample.to_json(), ensure_ascii=False) + "\n" for sample in samples)
    contents = (render(metrics, samples, memorized), json.dumps(metrics.to_json(), indent=2) + "\n", "".join(lines))
    return dict(zip(FILES, contents, strict=True))


def columns_of(metrics: EvaluationMetrics) -> list[str]:
    """Return the systems in their order in tables and plots."""
    return ["real", *(name for name in metrics.systems if name != "real")]


def titles_of(metrics: EvaluationMetrics) -> dict[str, str]:
    """Return the title of each system."""
    return TITLES | {BEST_OF: f"Best of {metrics.settings.best_of}"} | {name: name for name in metrics.settings.also}


def colors_of(metrics: EvaluationMetrics) -> dict[str, str]:
    """Return the color of each system."""
    return COLORS | dict(zip(metrics.settings.also, cycle(MORE_COLORS), strict=False))


def metric_table(metrics: EvaluationMetrics) -> list[TableRow]:
    """Format all metrics that a system has as a table."""
    table = []
    for key, title, note, spec in METRICS:
        cells = []
        for system in (metrics.systems[name] for name in columns_of(metrics)):
            value = spec.format(system.values[key]) if key in system.values else ""
            cells.append(Cell(value, " to ".join(map(spec.format, system.intervals.get(key, ())))))
        if any(cell.value for cell in cells):
            table.append(TableRow(key, title, note, cells))
    return table


def render(metrics: EvaluationMetrics, samples: Sequence[Sample], memorized: Memorized | None = None) -> str:
    return render_page(
        "evaluation/report.html.jinja",
        settings=metrics.settings,
        table=metric_table(metrics),
        samples=samples,
        columns=columns_of(metrics),
        titles=titles_of(metrics),
        colors=colors_of(metrics),
        summary=summarize(metrics),
        memorized=memorized,
        plots=[plot_losses(metrics), plot_lengths(metrics, samples), plot_style(metrics)],
    )


def render_page(template: str, **values: Any) -> str:
    """Render a page: a single file without external resources, in which all text from corpus and model is escaped."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("onion_lightning", ""),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(values)


def summarize(metrics: EvaluationMetrics) -> list[str]:
    """State each paired difference in a sentence."""
    sentences = []
    for key, name in (("tuned_minus_base", "the base model"), ("tuned_minus_few_shot", "few-shot prompting")):
        relation, numbers = relate(metrics.paired[key], "{:+.3f}", " nats per token")
        sentences.append(f"The loss of the tuned model is {relation} that of {name} ({numbers}).")
    for name in metrics.settings.also:
        relation, numbers = relate(metrics.paired[f"{name}_minus_tuned"], "{:+.3f}", " nats per token")
        sentences.append(f"The loss of {name} is {relation} that of the tuned model ({numbers}).")
    if pair := metrics.paired.get("best_of_minus_tuned"):
        relation, numbers = relate(pair, "{:+.2f}", "")
        sentences.append(
            f"The mean reciprocal rank of the headline for the best of {metrics.settings.best_of} articles is {relation} that"
            f" for one ({numbers})."
        )
    return sentences


def relate(pair: PairedDifference, spec: str, unit: str) -> tuple[str, str]:
    """Return in words how two systems differ, and the numbers."""
    low, high = pair.interval
    relation = "lower than" if high < 0 else "higher than" if low > 0 else "not clearly different from"
    ends = f"{spec.format(low)} to {spec.format(high)}"
    return relation, f"{spec.format(pair.difference)}{unit}, 95% interval {ends}"


def create_axes(height: float) -> tuple[matplotlib.figure.Figure, Any]:
    figure = matplotlib.figure.Figure(figsize=(4.2, height), layout="constrained")
    axes = figure.subplots()
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(FOREGROUND)
    axes.tick_params(colors=FOREGROUND, left=False, labelsize=9)
    axes.xaxis.label.set_color(FOREGROUND)
    axes.xaxis.label.set_fontsize(9)
    return figure, axes


def to_svg(figure: matplotlib.figure.Figure, label: str) -> Markup:
    """Convert a figure to inline SVG that uses the text color of the page."""
    stream = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "onion"}):
        figure.savefig(stream, format="svg", transparent=True, metadata={"Date": None})
    svg = stream.getvalue()
    svg = svg[svg.index("<svg") :].replace(FOREGROUND, "currentColor")
    return Markup(svg.replace("<svg", f'<svg role="img" aria-label="{label}"', 1))


def plot_losses(metrics: EvaluationMetrics) -> Markup:
    figure, axes = create_axes(1.7)
    names = [name for name in columns_of(metrics) if "loss" in metrics.systems[name].values][::-1]  # from the bottom up
    for at, name in enumerate(names):
        system = metrics.systems[name]
        axes.plot(
            system.intervals["loss"], [at, at], color=colors_of(metrics)[name], lw=3, alpha=0.5, solid_capstyle="round"
        )
        axes.plot(system.values["loss"], at, "o", color=colors_of(metrics)[name], markersize=8)
    axes.set_yticks(range(len(names)), [titles_of(metrics)[name] for name in names])
    axes.margins(y=0.3)
    axes.set_xlabel("loss in nats per token, with 95% intervals")
    return to_svg(figure, "Loss per token")


def plot_lengths(metrics: EvaluationMetrics, samples: Sequence[Sample]) -> Markup:
    names = columns_of(metrics)[::-1]
    figure, axes = create_axes(0.6 + 0.35 * len(names))
    for at, name in enumerate(names):
        words = [sample.systems[name].measures.words for sample in samples]
        axes.plot(words, np.full(len(words), at), "|", color=colors_of(metrics)[name], markersize=12, alpha=0.7)
        axes.plot(np.median(words), at, "o", color=colors_of(metrics)[name], markersize=8)
    axes.set_yticks(range(len(names)), [titles_of(metrics)[name] for name in names])
    axes.margins(y=0.2)
    axes.set_xlim(left=0)
    axes.set_xlabel("words per article; dot: median")
    return to_svg(figure, "Article length")


def plot_style(metrics: EvaluationMetrics) -> Markup:
    keys = ("distinct_3", "distinct_2", "distinct_1", "closing_turn", "spokesperson", "dateline")  # from the bottom up
    titles = {key: title for key, title, *_ in METRICS}
    figure, axes = create_axes(2.6)
    for name in columns_of(metrics):
        values = [metrics.systems[name].values[key] for key in keys]
        axes.plot(
            values, range(len(keys)), "o", color=colors_of(metrics)[name], label=titles_of(metrics)[name], alpha=0.85
        )
    axes.set_yticks(range(len(keys)), [titles[key] for key in keys])
    axes.set_xlim(-0.03, 1.03)
    axes.grid(axis="y", color="#88888844")
    axes.set_xlabel("share of articles, or of n-grams")
    figure.legend(loc="outside upper center", ncols=4, frameon=False, fontsize=9, labelcolor=FOREGROUND)
    return to_svg(figure, "Style measures")
