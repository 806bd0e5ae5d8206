"""What all tabs share: their settings, the check of values that may come from anywhere, and errors shown on the page."""

import functools
import html
import inspect
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import gradio as gr

from onion_lightning.errors import OnionError
from onion_lightning.model.decoding import Decoding
from onion_lightning.serving.author import MOST_CANDIDATES, MOST_STRENGTH, MOST_TOKENS
from onion_lightning.serving.desk import Desk
from onion_lightning.surrogates import replace_surrogates

__all__ = ["MODEL", "Settings", "make_settings", "read_seed", "read_settings", "read_text", "shown", "with_request"]

log = logging.getLogger(__name__)

MODEL: dict[str, Any] = {"concurrency_id": "model", "concurrency_limit": 1}  # one request at a time, on whichever tab
SHOWN_FLAGS = {
    "--query ": "the phrase ",
    "--key ": "the earlier phrase ",
    "--model.": "",
    "--votes ": "the file of votes ",
}


@dataclass(frozen=True)
class Settings:
    """The components that all tabs share."""

    length: gr.Slider
    temperature: gr.Slider
    top_p: gr.Slider
    candidates: gr.Slider
    seed: gr.Number
    dial: gr.Slider

    @property
    def below(self) -> list[Any]:
        """Those that are shown below the tabs."""
        return [self.length, self.temperature, self.top_p, self.candidates, self.seed]

    @property
    def all(self) -> list[Any]:
        return [self.length, self.temperature, self.top_p, self.candidates, self.dial, self.seed]


def make_settings(defaults: Decoding, seed: int) -> Settings:
    def slider(low: float, high: float, value: float, step: float, label: str, **more: Any) -> gr.Slider:
        wide: dict[str, Any] = {"interactive": True, "render": False, "min_width": 240, "buttons": []}
        return gr.Slider(low, high, min(max(value, low), high), step=step, label=label, **wide, **more)

    return Settings(
        slider(1, MOST_TOKENS, defaults.max_new_tokens, 1, "Length in tokens"),
        slider(0, 2, defaults.temperature, 0.05, "Temperature", info="0 always takes the most probable word"),
        slider(0.05, 1, defaults.top_p, 0.05, "Top-p"),
        slider(1, MOST_CANDIDATES, defaults.candidates, 1, "Candidates"),
        gr.Number(
            seed,
            label="Seed",
            precision=0,
            minimum=0,
            interactive=True,
            render=False,
            min_width=240,
            info="The same seed writes the same article",
        ),
        slider(
            0,
            MOST_STRENGTH,
            defaults.adapter_strength,
            0.05,
            "Irony dial",
            info="0 is the base model, 1 the fine-tuned one",
        ),
    )


def read_settings(desk: Desk, length: Any, temperature: Any, top_p: Any, candidates: Any, dial: Any) -> Decoding:
    """Return the decoding for values that may come from anywhere.

    Raises:
        OnionError: a value is out of range, or not a number.
    """
    try:
        numbers = int(length), float(temperature), float(top_p), int(candidates), float(dial)
    except (TypeError, ValueError, OverflowError) as error:
        raise OnionError("The settings must be numbers.") from error
    length, temperature, top_p, candidates, dial = numbers
    return Decoding(
        length, temperature, top_p, desk.author.model.decoding.repetition_penalty, candidates, adapter_strength=dial
    )


def read_text(value: Any) -> str:
    """Return a text that may come from anywhere.

    Raises:
        OnionError: it is not text.
    """
    if not isinstance(value, str):
        raise OnionError("The headline, the article and the phrases must be text.")
    return replace_surrogates(value)


def read_seed(seed: Any) -> int:
    try:
        return int(seed)
    except (TypeError, ValueError, OverflowError) as error:
        raise OnionError("The seed must be a whole number.") from error


def shown(function: Callable[..., Any]) -> Callable[..., Any]:
    """Show an error of a function on the page, as text: gradio would load an image that a message contains."""

    def explain(error: Exception) -> gr.Error:
        if isinstance(error, OnionError):
            text = str(error)
            for flag, words in SHOWN_FLAGS.items():
                text = text.replace(flag, words)
            text = text[:1].upper() + text[1:]
        else:
            log.exception("The page failed.")
            text = "Something went wrong on the server; its log has the details."
        return gr.Error(html.escape(text), print_exception=False, title="Not done")

    if inspect.isgeneratorfunction(function):

        @functools.wraps(function)
        def iterate(*args: Any, **kwargs: Any) -> Iterator[Any]:
            try:
                yield from function(*args, **kwargs)
            except Exception as error:
                raise explain(error) from error

        return iterate

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except Exception as error:
            raise explain(error) from error

    return call


def with_request(function: Callable[..., Any]) -> Callable[..., Any]:
    """Let a function of any number of values receive gradio's request, which gradio finds by a parameter's annotation."""

    def call(request: gr.Request, *values: Any) -> Iterator[Any]:
        yield from function(*values, request=request)

    return call
