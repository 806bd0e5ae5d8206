"""The Trainer with `evaluate` beside Lightning's own commands."""

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from rich import box
from rich.console import Console
from rich.table import Table

from onion_lightning.copying import CopyIndex
from onion_lightning.data import OnionDataModule
from onion_lightning.errors import OnionError
from onion_lightning.evaluation import DEFAULT_N, SYSTEMS, Evaluation, EvaluationData
from onion_lightning.figures import compare, describe
from onion_lightning.loggers import CarefulWandbLogger
from onion_lightning.model import OnionModule
from onion_lightning.report import TITLES, check_folder, list_figures, write_report

__all__ = ["OnionTrainer"]

SHOWN = (
    "loss",
    "perplexity",
    "bits_per_byte",
    "eos_rate",
    "loop_rate",
    "headline_top_1",
    "copied_rate",
    "style_distance",
)


class OnionTrainer(pl.Trainer):
    """Lightning's Trainer, and `evaluate`."""

    def evaluate(
        self,
        model: OnionModule,
        datamodule: OnionDataModule,
        ckpt_path: str | None = None,
        shots: int = 3,
        n: int | None = None,
        batch_size: int = 8,
        output: str = "evaluation",
        overwrite: bool = False,
    ) -> None:
        """Compares the base model, few-shot prompting and the fine-tuned model on held-out headlines.

        Args:
            model: the adapters are those of the checkpoint.
            datamodule: its test split gives the headlines, its training split the examples.
            ckpt_path: the adapters: a file, last or best.
            shots: training examples before each prompt of few-shot.
            n: test headlines; by default 32, or as many as there are.
            batch_size: headlines written at a time.
            output: folder of report.html, metrics.json and samples.jsonl.
            overwrite: replace an earlier report in that folder.
        """
        folder = Path(output).expanduser()
        check(ckpt_path, shots, n, batch_size)
        check_folder(folder, overwrite)
        data = EvaluationData(datamodule, shots, n, batch_size, model.decoding.max_new_tokens)
        evaluation = Evaluation(model, data)
        self.predict(evaluation, datamodule=data, ckpt_path=ckpt_path, return_predictions=False)
        if self.is_global_zero:
            self.conclude(evaluation, folder, settings(model, data, str(ckpt_path)))

    def conclude(self, evaluation: Evaluation, folder: Path, known: dict[str, Any]) -> None:
        """Take the figures, write the report, tell W&B and the user."""
        data = evaluation.data.data
        train = data.texts["train"]
        index = CopyIndex(train["headline"], train["article"])
        samples = describe(evaluation.records, evaluation.data.rows, evaluation.onion.tokenizer, index)
        metrics = {"settings": known} | compare(samples, data.seed)
        write_report(folder, metrics, samples)
        tell_wandb(self.loggers, metrics, samples)
        show(metrics, folder)


def check(ckpt_path: str | None, shots: int, n: int | None, batch_size: int) -> None:
    if ckpt_path is None:
        raise OnionError(
            "--ckpt_path: evaluate needs a checkpoint to compare with; give --ckpt_path FILE, last or best."
        )
    for flag, value, least in (("shots", shots, 0), ("n", n, 2), ("batch_size", batch_size, 1)):
        if value is not None and value < least:
            raise OnionError(f"--{flag} {value}: must be at least {least}.")


def settings(model: OnionModule, data: EvaluationData, checkpoint: str) -> dict[str, Any]:
    """What the figures were taken with."""
    decoding = model.one_article
    return {
        "headlines": len(data.rows),
        "n": data.n,
        "shots": data.shots,
        "shots_least": min(row.shot_count for row in data.rows),
        "base_model": model.base_model,
        "load_in": model.load_in,
        "checkpoint": checkpoint,
        "seed": model.seed,
        "corpus": data.data.path,
        "batch_size": data.batch_size,
        "max_new_tokens": decoding.max_new_tokens,
        "temperature": decoding.temperature,
        "top_p": decoding.top_p,
        "repetition_penalty": decoding.repetition_penalty,
    }


def tell_wandb(loggers: list[Any], metrics: dict[str, Any], samples: list[dict[str, Any]]) -> None:
    columns = ["headline", *SYSTEMS, "real"]
    rows = [[one["headline"], *(one["systems"][name]["article"] for name in columns[1:])] for one in samples]
    for logger in loggers:
        if isinstance(logger, CarefulWandbLogger):
            figures = {f"evaluation/{s}/{k}": v for s, card in metrics["systems"].items() for k, v in card.items()}
            figures |= {f"evaluation/{name}": pair["difference"] for name, pair in metrics["paired"].items()}
            logger.log_summary(figures)
            logger.log_table("evaluation", columns=columns, data=rows)


def show(metrics: dict[str, Any], folder: Path) -> None:
    """The main figures on the terminal, and where the rest is."""
    table = Table("", *(TITLES[name] for name in ("real", *SYSTEMS)), box=box.SIMPLE_HEAD)
    for column in table.columns[1:]:
        column.justify = "right"
    for row in list_figures(metrics):
        if row["key"] in SHOWN:
            table.add_row(row["title"], *(cell["value"] for cell in row["cells"]))
    console = Console(stderr=True)
    console.print(table)
    for other, name in (("base", "base"), ("few_shot", "few-shot")):
        pair = metrics["paired"][f"tuned_minus_{other}"]
        low, high = pair["interval"]
        line = f"  loss, tuned minus {name}: {pair['difference']:+.3f} (95% interval {low:+.3f} to {high:+.3f})"
        console.print(line, highlight=False)
    if metrics["settings"]["headlines"] < DEFAULT_N and metrics["settings"]["n"] is None:
        console.print(f"  the test split has {metrics['settings']['headlines']} headlines, fewer than --n {DEFAULT_N}")
    least, asked = metrics["settings"]["shots_least"], metrics["settings"]["shots"]
    if least < asked:
        console.print(f"  few-shot: of --shots {asked}, only {least} fit the context for some headlines")
    console.print(f"\nReport: {folder / 'report.html'}", highlight=False, soft_wrap=True)
