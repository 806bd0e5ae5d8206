"""The `serve` command: checks the flags, loads the model and opens the page."""

import importlib.util
import os
from pathlib import Path

from onion_lightning.data.module import OnionDataModule
from onion_lightning.errors import OnionError, check_range
from onion_lightning.evaluation.also import read_others
from onion_lightning.messages import tell
from onion_lightning.model.module import OnionModule
from onion_lightning.serving.accounts import accounts_for
from onion_lightning.serving.author import MOST_CANDIDATES, MOST_STRENGTH, MOST_TOKENS, Author
from onion_lightning.serving.desk import Desk
from onion_lightning.serving.server import check_port, serve_page
from onion_lightning.serving.training_rows import read_training_rows
from onion_lightning.serving.votes import Votes
from onion_lightning.serving.votes import export_votes as write_pairs
from onion_lightning.training.session import Session

__all__ = ["run_serve"]


def run_serve(
    session: Session,
    model: OnionModule,
    datamodule: OnionDataModule,
    ckpt_path: str | None = None,
    also: list[str] | str | None = None,
    host: str = "127.0.0.1",
    port: int = 7860,
    max_queue: int = 20,
    votes: str = "votes.sqlite",
    export_votes: str | None = None,
    share: bool = False,
    auth_file: str | None = None,
    no_auth: bool = False,
) -> None:
    """Open a web page to write articles, compare systems, vote in a blind test, and look inside.

    Runs on one device, the GPU if there is one. Of the Trainer's flags, it obeys the accelerator and precision.

    Args:
        session: provides the device and loads the checkpoint.
        model: base model and adapters; its decoding flags are the page's defaults.
        datamodule: its corpus provides few-shot examples, and is searched for copies. Optional: the page works without it.
        ckpt_path: checkpoint of the fine-tuned model (required): a file, last, best, or a folder of adapters.
        also: NAME=CHECKPOINT of another fine-tuned model of the same base model, to compare and to vote on, or a list of
            these.
        host: address to listen on; one that other machines reach, such as 0.0.0.0, needs --auth_file or --no_auth true.
        port: port to listen on.
        max_queue: number of requests that may wait for their turn.
        votes: SQLite file of the votes.
        export_votes: write the votes to this file as preference pairs (JSON Lines for TRL's DPOTrainer), and serve nothing.
        share: open a public address through gradio's servers; needs --auth_file or --no_auth true.
        auth_file: ask for a name and password of this file, which has a line name:password or name:hash for each.
        no_auth: let everyone who can reach the page write and vote, without a login.

    Raises:
        OnionError: a flag is invalid, or the port cannot be opened.
    """
    check_range("--port", port, 1 <= port <= 65535, "from 1 to 65535")
    check_range("--max_queue", max_queue, max_queue >= 1, "at least 1")
    decoding = model.decoding
    for name, value, most in (
        ("max_new_tokens", decoding.max_new_tokens, MOST_TOKENS),
        ("candidates", decoding.candidates, MOST_CANDIDATES),
        ("adapter_strength", decoding.adapter_strength, MOST_STRENGTH),
    ):
        check_range(f"--model.{name}", value, value <= most, f"at most {most} for the page")
    kept = Votes(Path(votes))
    if export_votes is not None:
        count = write_pairs(kept, Path(export_votes).expanduser())
        tell(f"{count} preference {'pair' if count == 1 else 'pairs'} written to {export_votes}")
        return
    if importlib.util.find_spec("gradio") is None:
        raise OnionError(
            "serve: the page needs gradio, which is not installed; run pip install 'onion_lightning[serve]'."
        )
    check_port(host, port)
    accounts = accounts_for(host, share, auth_file, no_auth)
    if ckpt_path is None:
        raise OnionError("--ckpt_path: serve needs the checkpoint of a fine-tuned model; give a file, last or best.")
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    others = read_others(model, also)
    session.load(model, ckpt_path)
    rows = read_training_rows(datamodule)
    desk = Desk(
        Author(model, rows.examples, others), rows, kept, f"Base model {model.base_model}, adapters {ckpt_path}"
    )
    login = "" if accounts is None else ", behind a login"
    serve_page(
        desk, host, port, max_queue, share, accounts, lambda url: tell(f"The page is at {url}{login}. Ctrl-C ends it.")
    )
