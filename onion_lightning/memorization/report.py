"""Renders the results of a memorization test: report.html, memorize.json and rows.jsonl."""

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from markupsafe import Markup

from onion_lightning.evaluation.report import COLORS, create_axes, render_page, to_svg
from onion_lightning.memorization.extraction import NEAR
from onion_lightning.memorization.membership import RESOLVED, Membership
from onion_lightning.memorization.result import SCORES, Extraction, Memorization, ProbedRow
from onion_lightning.memorization.tasks import SPAN, WAYS

__all__ = ["FILES", "Exposed", "exposed_rows", "extraction_table", "membership_table", "render", "report_files"]

FILES = ("report.html", "memorize.json", "rows.jsonl")
EXPOSED = 20  # articles in the table
TITLES = {
    "training": "Training",
    "once": "Once",
    "repeated": "Repeated",
    "held_out": "Held-out",
}
SCORE_TITLES = {
    "tuned": "Loss",
    "tuned_minus_base": "Loss, tuned minus base",
    "base": "Loss of the base model",
}
DECODING_TITLES = {"greedy": "greedy", "run": "as predict"}


class Exposed(NamedTuple):
    """An article in the table of the most exposed ones."""

    row: ProbedRow
    prefix: int
    decoding: str
    longest: int
    bleu: float
    written: str
    truth: str


def report_files(result: Memorization, rows: Sequence[ProbedRow], tokenizer: Any) -> dict[str, str]:
    """Return the contents of all files by name."""
    lines = (json.dumps(one.to_json(), ensure_ascii=False) + "\n" for one in rows)
    page = render(result, rows, exposed_rows(rows, tokenizer))
    contents = (page, json.dumps(result.to_json(), indent=2, ensure_ascii=False) + "\n", "".join(lines))
    return dict(zip(FILES, contents, strict=True))


def render(result: Memorization, rows: Sequence[ProbedRow], exposed: Sequence[Exposed]) -> str:
    headers, extraction = extraction_table(result)
    return render_page(
        "memorization/report.html.jinja",
        result=result,
        settings=result.settings,
        headers=headers,
        extraction=extraction,
        membership=membership_table(result),
        exposed=exposed,
        plot=plot_scores(rows),
        near=NEAR,
        span=SPAN,
        resolved=RESOLVED,
    )


def extraction_table(
    result: Memorization,
) -> tuple[list[tuple[str, str]], list[tuple[str, str, list[Extraction | None]]]]:
    """Return articles and system of the columns, and for each row of the table its title, a note and its figures.

    Of the base model there are no figures as `predict` decodes.
    """
    columns = list(dict.fromkeys((one.system, one.part) for one in result.extraction))
    found = {(one.system, one.part, one.decoding, one.prefix): one for one in result.extraction}
    rows = []
    for way in dict.fromkeys((decoding, prefix) for _, decoding, prefix in WAYS):
        title = f"Headline + {way[1]} tokens" if way[1] else "Headline"
        rows.append((title, DECODING_TITLES[way[0]], [found.get((*column, *way)) for column in columns]))
    return [(TITLES[part], system) for system, part in columns], rows


def membership_table(result: Memorization) -> list[tuple[str, str, Membership]]:
    """Return the title, a note and the figures of each row."""
    return [
        (SCORE_TITLES[score], TITLES[part], by[score]) for part, by in result.membership.items() for score in SCORES
    ]


def exposed_rows(rows: Sequence[ProbedRow], tokenizer: Any) -> list[Exposed]:
    """Return the training articles that the model gives away most, with the closest continuation."""
    found = []
    training = [one for one in rows if one.row.group != "held_out"]
    for one in sorted(training, key=lambda one: one.exposure, reverse=True)[:EXPOSED]:
        key = one.closest
        if key is None:  # too short to be continued
            found.append(Exposed(one, 0, "", 0, 0.0, "", ""))
            continue
        best, (_, decoding, prefix) = one.continuations[key], key
        texts = [tokenizer.decode(ids) for ids in (best.ids, one.row.body[prefix : prefix + SPAN])]
        found.append(Exposed(one, prefix, DECODING_TITLES[decoding], best.longest, best.bleu, *texts))
    return found


def plot_scores(rows: Sequence[ProbedRow]) -> Markup:
    """Plot how much each article gained by fine-tuning."""
    figure, axes = create_axes(1.5)
    groups = {"Held-out": ("held_out",), "Training": ("once", "repeated")}
    for at, (groups_in, color) in enumerate(zip(groups.values(), (COLORS["base"], COLORS["tuned"]), strict=True)):
        scores = [one.scores["tuned_minus_base"] for one in rows if one.row.group in groups_in]
        axes.plot(scores, np.full(len(scores), at), "|", color=color, markersize=12, alpha=0.6)
        axes.plot(np.median(scores), at, "o", color=color, markersize=8)
    axes.set_yticks(range(len(groups)), list(groups))
    axes.margins(y=0.4)
    axes.set_xlabel("loss per token, tuned minus base, in nats; dot: median")
    return to_svg(figure, "Loss per token, tuned minus base, of training and held-out articles")
