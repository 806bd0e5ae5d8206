"""The `attend` command: measures attention in a text and writes attention.html, attention.json and attention.png."""

from collections.abc import Sequence
from pathlib import Path

from lightning.pytorch.loggers import Logger
from rich.console import Console

from onion_lightning.attention.effects.experiment import EffectSettings
from onion_lightning.attention.page import render_page
from onion_lightning.attention.phrase_attention import attend
from onion_lightning.attention.plot import plot_attention
from onion_lightning.attention.result import MARK
from onion_lightning.attention.terminal import show_attention
from onion_lightning.data.module import OnionDataModule
from onion_lightning.data.prompt import format_prompt
from onion_lightning.errors import OnionError, reason
from onion_lightning.heartbeat import Heartbeat, log_line
from onion_lightning.model.articles.panel import show_article
from onion_lightning.model.module import OnionModule
from onion_lightning.output_folder import check_folder, write_folder
from onion_lightning.training.session import Session
from onion_lightning.training.wandb_logger import CarefulWandbLogger

__all__ = ["run_attend"]

EXACT = "32-true"  # rounding in bfloat16 changes probabilities as much as many a head does
PAGE, DATA, PLOT = FILES = ("attention.html", "attention.json", "attention.png")


def run_attend(
    session: Session,
    model: OnionModule,
    datamodule: OnionDataModule,
    query: str,
    key: str,
    text: str | None = None,
    text_file: str | None = None,
    headline: str | None = None,
    ckpt_path: str | None = None,
    effect: bool = False,
    effect_tokens: int = 16,
    effect_window: int | None = None,
    alternatives: list[str] | None = None,
    output: str = "attention",
    overwrite: bool = False,
) -> None:
    """Measure how strongly one phrase of a text attends to an earlier one, in each layer and head.

    Runs on one device, the GPU if there is one. Of the Trainer's flags, it obeys the accelerator, precision and loggers.

    Args:
        session: provides the device and the loggers.
        model: base model and adapters.
        datamodule: not used.
        query: the phrase that attends; append #2 for its second occurrence.
        key: the phrase that is attended to; it must occur before the query.
        text: text that contains both phrases; give exactly one of --text, --text_file and --headline.
        text_file: UTF-8 file to read the text from, instead of --text.
        headline: write an article for this headline first, instead of --text; the text is the prompt and the article.
        ckpt_path: checkpoint with the adapters: a file, last, best, or a folder of adapters. By default, the base model.
        effect: also measure whether the query needs the key: edges cut, values zeroed, the key replaced. Computes in 32-true
            unless --trainer.precision is given.
        effect_tokens: tokens after the query whose probability is measured, with --effect true.
        effect_window: layers in a window of cut edges, with --effect true; by default, a sixth of the layers.
        alternatives: phrases to put in the key's place, with --effect true; by default, those of a list with as many tokens.
        output: folder for attention.html, attention.json and attention.png.
        overwrite: also replace files in the output folder that attend has not written.
    """
    source = read_input(text, text_file, headline)
    settings = read_settings(effect, effect_tokens, effect_window, alternatives)
    folder = check_folder(output, FILES, overwrite, mark=MARK)
    if effect and not session.asked:
        session.precision = EXACT
    session.load(model, ckpt_path)
    prompt = ""
    if headline is not None:
        prompt, source = format_prompt(headline), write_article(model, headline)
    # Untrained adapters have no effect, so without a checkpoint only the base model is measured.
    network = model.language_model if ckpt_path is None else model.model
    result = attend(network, model.tokenizer, source, query, key, prompt, settings)
    write_folder(folder, {PAGE: render_page(result), DATA: result.to_json(), PLOT: plot_attention(result)})
    log_to_wandb(session.loggers, folder)
    show_attention(result, folder)


def read_input(text: str | None, text_file: str | None, headline: str | None) -> str:
    """Return the text or the headline, whichever of the three flags was given.

    Raises:
        OnionError: not exactly one was given, it is empty, or it cannot be read.
    """
    given = {"--text": text, "--text_file": text_file, "--headline": headline}
    flags = [flag for flag, value in given.items() if value is not None]
    if len(flags) != 1:
        received = " and ".join(flags) or "none of them"
        raise OnionError(f"--text, --text_file, --headline: received {received}; give exactly one.")
    source = read_file(text_file) if text_file is not None else text or headline or ""
    flag = flags[0] if text_file is None else f"--text_file {text_file}"
    if not source.strip():
        raise OnionError(f"{flag}: is empty; give a text that contains both phrases, or a headline to write about.")
    if any("\ud800" <= character <= "\udfff" for character in source):  # how Python decodes bytes that are not UTF-8
        raise OnionError(f"{flag}: contains bytes that are not UTF-8; set the terminal to UTF-8, or give --text_file.")
    return source


def read_settings(
    effect: bool, tokens: int, window: int | None, alternatives: list[str] | None
) -> EffectSettings | None:
    """Return what `--effect true` measures; None if it is not wanted.

    Raises:
        OnionError: a value is out of range, or a flag would be ignored.
    """
    settings = EffectSettings(tokens, window, None if alternatives is None else tuple(alternatives))
    if effect:
        return settings
    given = {"--effect_tokens": tokens, "--effect_window": window, "--alternatives": alternatives}
    defaults = (EffectSettings().tokens, None, None)
    for (flag, value), default in zip(given.items(), defaults, strict=True):
        if value != default:
            raise OnionError(f"{flag} {value}: is used with --effect true only; add it, or omit the flag.")
    return None


def read_file(text_file: str) -> str:
    """Return the content of a text file, without a byte order mark and trailing newlines."""
    try:
        return Path(text_file).expanduser().read_text(encoding="utf-8").removeprefix("\ufeff").rstrip("\n")
    except UnicodeDecodeError as error:
        raise OnionError(f"--text_file {text_file}: is not UTF-8; save it as UTF-8.") from error
    except (OSError, RuntimeError) as error:  # RuntimeError: ~ of a user that does not exist
        raise OnionError(f"--text_file {text_file}: cannot be read ({reason(error)}); give a text file.") from error


def write_article(model: OnionModule, headline: str) -> str:
    """Write the article for a headline, and print it so that phrases can be chosen from it.

    Raises:
        OnionError: the article is empty.
    """
    log_line("writing an article")
    with Heartbeat(lambda: "writing an article: still at work"):
        article = model.write_one(headline)
    if not article:
        raise OnionError(
            f'--headline "{headline}": the model wrote an empty article; give another --seed_everything, or give --text.'
        )
    show_article(Console(stderr=True), headline, article)
    return article


def log_to_wandb(loggers: Sequence[Logger], folder: Path) -> None:
    """Log the page and the plot to W&B."""
    for logger in loggers:
        if isinstance(logger, CarefulWandbLogger):
            import wandb  # late: `--help` imports this module

            page, picture = wandb.Html(str(folder / PAGE), inject=False), wandb.Image(str(folder / PLOT))
            logger.log_media({"attention/page": page, "attention/picture": picture})
