"""The page: its tabs, and which function each button calls. The functions are those of `desk.py`."""

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
from onion_lightning.serving.author import MOST_CANDIDATES, MOST_TOKENS
from onion_lightning.serving.desk import NAMES, Desk
from onion_lightning.serving.style import COPY, DOWNLOAD, NAME_BOXES, TAKE_SELECTION
from onion_lightning.serving.votes import CHOICES
from onion_lightning.surrogates import replace_surrogates

__all__ = ["build_page"]

log = logging.getLogger(__name__)

NOTICE = "Everything written here is fiction, made by a language model. Nobody did or said any of it."
EXAMPLES = (  # written for this project
    "Area Man Declares War On Tuesday",
    "Library Asks Patrons To Return The Silence They Borrowed",
    "Local Weather Apologizes For Last Week",
)
MODEL: dict[str, Any] = {"concurrency_id": "model", "concurrency_limit": 1}  # one request at a time, on whichever tab
PRIVATE: dict[str, Any] = {"api_visibility": "private"}
FAST: dict[str, Any] = {"api_visibility": "private", "queue": False}
SHOWN_FLAGS = {
    "--query ": "The phrase ",
    "--key ": "The earlier phrase ",
    "--model.": "",
    "--votes ": "The file of votes ",
}
BUTTONS = {"left": "Left is funnier", "right": "Right is funnier", "tie": "Tie", "neither": "Neither"}


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
    def all(self) -> list[Any]:
        return [self.length, self.temperature, self.top_p, self.candidates, self.dial, self.seed]


def build_page(desk: Desk) -> gr.Blocks:
    """Return the page for a desk. Nothing is sent to gradio's makers."""
    defaults = desk.author.model.decoding
    with gr.Blocks(title="Onion Lightning", analytics_enabled=False) as page:
        gr.HTML(
            f'<h1>Onion Lightning</h1><p class="notice" role="note">{NOTICE}</p>'
            f'<p class="faint">{html.escape(desk.model_name)}</p>'
        )
        settings = make_settings(defaults, desk.author.model.seed)
        with gr.Tabs():
            with gr.Tab("Write"):
                written = write_tab(desk, settings)
            with gr.Tab("Compare"):
                compare_tab(desk, settings)
            with gr.Tab("Vote"):
                blind_tab(desk, settings, page)
            with gr.Tab("Look inside"):
                look_tab(desk, written)
        with gr.Accordion("Settings", open=False), gr.Row():
            for component in (
                settings.length,
                settings.temperature,
                settings.top_p,
                settings.candidates,
                settings.seed,
            ):
                component.render()
        page.load(None, None, None, js=NAME_BOXES, **PRIVATE)

        def forget(request: gr.Request) -> None:
            desk.sessions.close(str(request.session_hash))

        page.unload(forget)
        add_api(desk)
    return page


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
        slider(0, 1.5, defaults.adapter_strength, 0.05, "Irony dial", info="0 is the base model, 1 the fine-tuned one"),
    )


def shown(function: Callable[..., Any]) -> Callable[..., Any]:
    """Show an error of a function on the page, as text: gradio would load an image that a message contains."""

    def explain(error: Exception) -> gr.Error:
        if isinstance(error, OnionError):
            text = str(error)
            for flag, words in SHOWN_FLAGS.items():
                text = text.replace(flag, words)
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


def read_settings(desk: Desk, length: Any, temperature: Any, top_p: Any, candidates: Any, dial: Any) -> Decoding:
    """Return the decoding for values that may come from anywhere.

    Raises:
        OnionError: a value is out of range, or not a number.
    """
    try:
        numbers = int(length), float(temperature), float(top_p), int(candidates), float(dial)
    except (TypeError, ValueError) as error:
        raise OnionError("The settings must be numbers.") from error
    length, temperature, top_p, candidates, dial = numbers
    return Decoding(length, temperature, top_p, desk.author.model.decoding.repetition_penalty, candidates, dial)


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
    except (TypeError, ValueError) as error:
        raise OnionError("The seed must be a whole number.") from error


def headline_box() -> gr.Textbox:
    return gr.Textbox(label="Headline", placeholder=EXAMPLES[0], max_lines=1, scale=4, min_width=280)


def article_box(label: str, **more: Any) -> gr.Textbox:
    # Editable: a box that is not could be neither focused nor selected from by keyboard.
    return gr.Textbox(label=label, lines=12, max_lines=24, interactive=True, autoscroll=False, min_width=300, **more)


def write_tab(desk: Desk, settings: Settings) -> tuple[gr.Textbox, gr.Textbox, list[Any]]:
    """Return the headline, the first article, and the events after which they are complete."""
    with gr.Row():
        headline = headline_box()
        with gr.Row(scale=1):
            go = gr.Button("Write", variant="primary", min_width=90, elem_id="write")
            stop = gr.Button("Stop", min_width=90, elem_id="stop")
    settings.dial.render()
    gr.Examples([[example] for example in EXAMPLES], [headline], label="For example", **PRIVATE)
    boxes = [
        article_box("Article" if number == 1 else f"Article {number}", visible=number == 1, elem_id=f"article{number}")
        for number in range(1, MOST_CANDIDATES + 1)
    ]
    about = gr.HTML(elem_id="about")
    with gr.Row():
        again, copy, download = (gr.Button(name, min_width=120) for name in ("Write another", "Copy", "Download"))

    @shown
    def write(headline: Any, *values: Any, request: gr.Request) -> Iterator[list[str]]:
        decoding, seed = read_settings(desk, *values[:-1]), read_seed(values[-1])
        for texts, line in desk.write(str(request.session_hash), read_text(headline), decoding, seed):
            yield [*texts, *[""] * (MOST_CANDIDATES - len(texts)), line]

    more: dict[str, Any] = {"show_progress": "minimal", **MODEL, **PRIVATE}
    inputs, outputs = [headline, *settings.all], [*boxes, about]
    begun = gr.on([go.click, headline.submit], with_request(write), inputs, outputs, **more)
    advanced = again.click(lambda seed: int(seed or 0) + 1, settings.seed, settings.seed, **FAST)
    anew = advanced.then(with_request(write), inputs, outputs, **more)
    stopped = stop.click(None, None, None, cancels=[begun, anew], **PRIVATE)
    settings.candidates.change(
        lambda count: [gr.update(visible=number < count) for number in range(MOST_CANDIDATES)],
        settings.candidates,
        boxes,
        show_progress="hidden",
        **FAST,
    )
    copy.click(None, boxes[0], copy, js=COPY, **PRIVATE)
    download.click(None, boxes[0], None, js=DOWNLOAD, **PRIVATE)
    return headline, boxes[0], [begun, anew, stopped]


def with_request(function: Callable[..., Any]) -> Callable[..., Any]:
    """Let a function of any number of values receive gradio's request, which gradio finds by a parameter's annotation."""

    def call(request: gr.Request, *values: Any) -> Iterator[Any]:
        yield from function(*values, request=request)

    return call


def compare_tab(desk: Desk, settings: Settings) -> None:
    systems = desk.author.systems
    with gr.Row():
        headline = headline_box()
        with gr.Row(scale=1):
            go, stop = gr.Button("Compare", variant="primary", min_width=90), gr.Button("Stop", min_width=90)
    with gr.Row():
        boxes = [article_box(NAMES[system], elem_id=f"compare_{system}") for system in systems]

    @shown
    def compare(headline: Any, *values: Any, request: gr.Request) -> Iterator[list[str]]:
        decoding, seed = read_settings(desk, *values[:-1]), read_seed(values[-1])
        for texts in desk.compare(str(request.session_hash), read_text(headline), decoding, seed):
            yield [texts.get(system, "") for system in systems]

    more: dict[str, Any] = {"show_progress": "minimal", **MODEL, **PRIVATE}
    begun = gr.on([go.click, headline.submit], with_request(compare), [headline, *settings.all], boxes, **more)
    stop.click(None, None, None, cancels=[begun], **PRIVATE)


def blind_tab(desk: Desk, settings: Settings, page: gr.Blocks) -> None:
    gr.Markdown(
        "A blind test: two systems write about one headline. Vote for the funnier article, and see who wrote it."
    )
    with gr.Row():
        headline = headline_box()
        with gr.Row(scale=1):
            go, stop = gr.Button("Write", variant="primary", min_width=90), gr.Button("Stop", min_width=90)
    with gr.Row():
        left, right = article_box("Left", elem_id="left"), article_box("Right", elem_id="right")
    with gr.Row():
        buttons = {
            choice: gr.Button(name, interactive=False, min_width=120, elem_id=f"vote_{choice}")
            for choice, name in BUTTONS.items()
        }
    answer = gr.Textbox(label="Who wrote them", interactive=False, elem_id="answer", lines=1)
    tally = gr.HTML(elem_id="tally")
    pair = gr.State("")

    @shown
    def write_two(headline: Any, *values: Any, request: gr.Request) -> Iterator[list[Any]]:
        closed = [gr.update(interactive=False)] * len(CHOICES)
        for first, second, found in desk.pair(
            str(request.session_hash), read_text(headline), read_settings(desk, *values[:-1])
        ):
            yield [first, second, "", found, *([gr.update(interactive=True)] * len(CHOICES) if found else closed)]

    @shown
    def vote(choice: str, found: str, request: gr.Request) -> list[Any]:
        said = desk.vote(str(request.session_hash), found, choice)
        return [said, show_tallies(desk), *[gr.update(interactive=False)] * len(CHOICES)]

    more: dict[str, Any] = {"show_progress": "minimal", **MODEL, **PRIVATE}
    outputs = [left, right, answer, pair, *buttons.values()]
    begun = gr.on([go.click, headline.submit], with_request(write_two), [headline, *settings.all], outputs, **more)
    stop.click(None, None, None, cancels=[begun], **PRIVATE)
    for choice, button in buttons.items():
        button.click(cast_vote(vote, choice), pair, [answer, tally, *buttons.values()], **FAST)
    page.load(lambda: show_tallies(desk), None, tally, **FAST)


def cast_vote(vote: Callable[..., Any], choice: str) -> Callable[..., Any]:
    def cast(found: str, request: gr.Request) -> Any:
        return vote(choice, found, request)

    return cast


def show_tallies(desk: Desk) -> str:
    lines = desk.tallies() or ["No votes yet."]
    return "".join(f"<p>{html.escape(line)}</p>" for line in lines)


def look_tab(desk: Desk, written: tuple[gr.Textbox, gr.Textbox, list[Any]]) -> None:
    source_headline, source_article, events = written
    gr.Markdown(
        "Which earlier words does a phrase attend to? Select a phrase in the article, take it, and look inside. Without an"
        " earlier phrase, its attention to the headline is shown."
    )
    headline = gr.Textbox(label="Headline of the article", max_lines=1, elem_id="look_headline")
    text = article_box("Article to look inside of", elem_id="look_text")
    with gr.Row():
        with gr.Column(min_width=280):
            query = gr.Textbox(label="Phrase", max_lines=1, elem_id="look_query")
            take_query = gr.Button("Take the selection as the phrase", elem_id="take_query")
        with gr.Column(min_width=280):
            key = gr.Textbox(label="Earlier phrase", placeholder="the headline", max_lines=1, elem_id="look_key")
            take_key = gr.Button("Take the selection as the earlier phrase", elem_id="take_key")
    go = gr.Button("Look inside", variant="primary", elem_id="look")
    frame = gr.HTML(elem_id="frame")

    @shown
    def show_maps(headline: Any, text: Any, query: Any, key: Any, request: gr.Request) -> str:
        return desk.look(
            str(request.session_hash), read_text(headline), read_text(text), read_text(query), read_text(key)
        )

    for event in events:
        event.then(None, [source_headline, source_article], [headline, text], js="(a, b) => [a, b]", **PRIVATE)
    take_query.click(None, query, query, js=TAKE_SELECTION, **PRIVATE)
    take_key.click(None, key, key, js=TAKE_SELECTION, **PRIVATE)
    go.click(show_maps, [headline, text, query, key], frame, **MODEL, **PRIVATE)


def add_api(desk: Desk) -> None:
    """Offer the same functions by name, for `gradio_client`."""
    model = desk.author.model

    @shown
    def write(
        headline: str,
        max_new_tokens: int = model.decoding.max_new_tokens,
        temperature: float = model.decoding.temperature,
        top_p: float = model.decoding.top_p,
        candidates: int = 1,
        adapter_strength: float = 1.0,
        seed: int = model.seed,
        request: gr.Request = None,  # type: ignore[assignment]
    ) -> Iterator[list[str]]:
        """Write articles: yields the list of candidates as far as they are written."""
        decoding = read_settings(desk, max_new_tokens, temperature, top_p, candidates, adapter_strength)
        for texts, _ in desk.write(str(request.session_hash), read_text(headline), decoding, read_seed(seed)):
            yield texts

    @shown
    def compare(
        headline: str,
        max_new_tokens: int = model.decoding.max_new_tokens,
        temperature: float = model.decoding.temperature,
        top_p: float = model.decoding.top_p,
        seed: int = model.seed,
        request: gr.Request = None,  # type: ignore[assignment]
    ) -> Iterator[dict[str, str]]:
        """Compare systems: yields the article of each as far as it is written."""
        decoding = read_settings(desk, max_new_tokens, temperature, top_p, 1, 1.0)
        yield from desk.compare(str(request.session_hash), read_text(headline), decoding, read_seed(seed))

    @shown
    def pair(
        headline: str,
        max_new_tokens: int = model.decoding.max_new_tokens,
        temperature: float = model.decoding.temperature,
        top_p: float = model.decoding.top_p,
        request: gr.Request = None,  # type: ignore[assignment]
    ) -> Iterator[dict[str, str]]:
        """Write two articles by hidden systems: the last value has the id to vote with."""
        decoding = read_settings(desk, max_new_tokens, temperature, top_p, 1, 1.0)
        for left, right, found in desk.pair(str(request.session_hash), read_text(headline), decoding):
            yield {"left": left, "right": right, "id": found}

    @shown
    def vote(pair_id: str, choice: str, request: gr.Request = None) -> dict[str, Any]:  # type: ignore[assignment]
        """Vote on a pair: left, right, tie or neither. Returns who wrote what, and the tallies."""
        said = desk.vote(str(request.session_hash), read_text(pair_id), read_text(choice))
        return {"systems": said, "tallies": desk.tallies()}

    @shown
    def look(
        headline: str,
        article: str,
        query: str,
        key: str = "",
        request: gr.Request = None,  # type: ignore[assignment]
    ) -> str:
        """Return the attention of a phrase to an earlier one, as HTML."""
        return desk.look(
            str(request.session_hash), read_text(headline), read_text(article), read_text(query), read_text(key)
        )

    for function in (write, compare, pair, look):
        gr.api(function, api_name=function.__name__, **MODEL)
    gr.api(vote, api_name="vote", queue=False)
