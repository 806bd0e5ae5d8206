"""The Trainer with `evaluate` and `attend` beside Lightning's own commands."""

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import wandb
from rich.console import Console

from onion_lightning.attention.page import render_attention
from onion_lightning.attention.phrase_attention import attend
from onion_lightning.attention.plot import plot_attention
from onion_lightning.data.module import OnionDataModule
from onion_lightning.data.prompt import format_prompt
from onion_lightning.errors import OnionError, reason
from onion_lightning.evaluation.command import evaluate as run_evaluation
from onion_lightning.model.article_writer import show_article
from onion_lightning.model.module import OnionModule
from onion_lightning.output_folder import check_folder, write_folder
from onion_lightning.training.checkpoint_io import read_checkpoint
from onion_lightning.training.wandb_logger import CarefulWandbLogger

__all__ = ["OnionTrainer"]

ATTENTION_FILES = ("attention.html", "attention.json", "attention.png")


class OnionTrainer(pl.Trainer):
    """Lightning's Trainer, and `evaluate` and `attend`."""

    evaluate = run_evaluation

    def attend(
        self,
        model: OnionModule,
        datamodule: OnionDataModule,
        query: str,
        key: str,
        text: str | None = None,
        text_file: str | None = None,
        headline: str | None = None,
        ckpt_path: str | None = None,
        output: str = "attention",
        overwrite: bool = False,
    ) -> None:
        """Shows how much the tokens of one phrase attend to those of an earlier one, in each layer and head.

        Runs on one device that this machine has, whatever the config says.

        Args:
            model: base model, and the adapters of the checkpoint.
            datamodule: not used.
            query: the phrase that attends; phrase#2 is its second occurrence.
            key: the earlier phrase that is attended to.
            text: to look into.
            text_file: the same, from a file.
            headline: the model writes the article for it first; the text is both.
            ckpt_path: the adapters: a file, last or best. Without it the base model alone is shown.
            output: folder of attention.html, attention.json and attention.png.
            overwrite: replace an earlier answer in that folder.
        """
        from onion_lightning.attention.terminal import show_attention

        given = read_text(text, text_file, headline)
        folder = check_folder(output, ATTENTION_FILES, overwrite)
        model.trainer = self
        model.configure_model()
        model.eval()
        if ckpt_path is not None:
            checkpoint = read_checkpoint(Path(ckpt_path))
            model.on_load_checkpoint(checkpoint)
            model.load_state_dict(checkpoint["state_dict"])
        prompt = ""
        if headline is not None:
            prompt, given = format_prompt(headline), model.write_one(headline)
            if not given:
                raise OnionError(
                    "--headline: the model wrote nothing for it; give another --seed_everything, or --text."
                )
            show_article(Console(stderr=True), headline, given)  # so that phrases can be chosen from it
        # Adapters that were never trained change nothing: without a checkpoint the base is shown alone.
        looked_at = model.language_model if ckpt_path is None else model.model
        answer = attend(looked_at, model.tokenizer, given, query, key, prompt)
        files = (render_attention(answer), answer.json(), plot_attention(answer))
        write_folder(folder, dict(zip(ATTENTION_FILES, files, strict=True)))
        tell_wandb_of_attention(self.loggers, folder)
        show_attention(answer, folder)


def tell_wandb_of_attention(loggers: list[Any], folder: Path) -> None:
    page, picture = (
        wandb.Html(str(folder / ATTENTION_FILES[0]), inject=False),
        wandb.Image(str(folder / ATTENTION_FILES[2])),
    )
    for logger in loggers:
        if isinstance(logger, CarefulWandbLogger):
            logger.log_media({"attention/page": page, "attention/picture": picture})


def read_text(text: str | None, text_file: str | None, headline: str | None) -> str:
    """The text that one of the three flags gives; empty where the model is to write it.

    Raises:
        OnionError: none or several are given, or the file cannot be read.
    """
    given = {"--text": text, "--text_file": text_file, "--headline": headline}
    flags = [flag for flag, value in given.items() if value is not None]
    if len(flags) != 1:
        found = f"{' and '.join(flags)} are given" if flags else "none is given"
        raise OnionError(f"--text, --text_file or --headline: give one of them ({found}).")
    found = text or headline or ""
    if text_file is not None:
        try:
            found = Path(text_file).expanduser().read_text(encoding="utf-8").removeprefix("\ufeff").rstrip("\n")
        except UnicodeDecodeError as error:
            raise OnionError(f"--text_file {text_file}: is not UTF-8; save it as UTF-8.") from error
        except (OSError, RuntimeError) as error:  # RuntimeError: ~ of a user that there is not
            raise OnionError(f"--text_file {text_file}: cannot be read ({reason(error)}); give a text file.") from error
    if not found.strip():
        raise OnionError(f"{flags[0]}: is empty; give the text, or the headline to write an article for.")
    if any("\ud800" <= character <= "\udfff" for character in found):  # what a terminal's other encoding leaves
        raise OnionError(f"{flags[0]}: holds bytes that are not UTF-8; set the terminal to UTF-8, or give a file.")
    return "" if headline is not None else found
