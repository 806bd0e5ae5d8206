"""The page: its tabs, and which function each button calls. The functions are those of `desk.py`."""

import html
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import gradio as gr

from onion_lightning.serving.author import MOST_CANDIDATES
from onion_lightning.serving.desk import Desk, name_of
from onion_lightning.serving.page.api import Api
from onion_lightning.serving.page.inputs import (
    MODEL,
    Settings,
    make_settings,
    read_seed,
    read_settings,
    read_text,
    shown,
    with_request,
)
from onion_lightning.serving.page.style import COPY, DOWNLOAD, LATER_COPY, TAKE_SELECTION
from onion_lightning.serving.votes import CHOICES

__all__ = ["build_page"]

NOTICE = "Everything written here is fiction, made by a language model. Nobody did or said any of it."
EXAMPLES = (  # written for this project
    "Area Man Declares War On Tuesday",
    "Library Asks Patrons To Return The Silence They Borrowed",
    "Local Weather Apologizes For Last Week",
)
PRIVATE: dict[str, Any] = {"api_visibility": "private"}
FAST: dict[str, Any] = {"api_visibility": "private", "queue": False}
BUTTONS = {"left": "Left is funnier", "right": "Right is funnier", "tie": "Tie", "neither": "Neither"}


class Page(gr.Blocks):
    """A page that does not contain the description of its functions, which gradio would also send to who is not logged in."""

    def get_api_info(self, all_endpoints: bool = False, page: str | None = None) -> Any:
        if page is not None:
            return {"named_endpoints": {}, "unnamed_endpoints": {}}
        return super().get_api_info(all_endpoints)


def build_page(desk: Desk, login: bool = False) -> gr.Blocks:
    """Return the page for a desk, with a link to log out if there is a login. Nothing is sent to gradio's makers."""
    defaults = desk.author.model.decoding
    with Page(title="Onion Lightning", analytics_enabled=False) as page:
        leave = ' · <a href="logout">Log out</a>' if login else ""
        gr.HTML(
            f'<h1>Onion Lightning</h1><p class="notice" role="note">{NOTICE}</p>'
            f'<p class="faint">{html.escape(desk.description)}{leave}</p>'
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
            for component in settings.below:
                component.render()

        def forget(request: gr.Request) -> None:
            desk.sessions.close(str(request.session_hash))

        page.unload(forget)
        Api(desk).offer()
    return page


def request_row(name: str, **more: Any) -> tuple[gr.Textbox, gr.Button, gr.Button]:
    """Return the headline, the button that starts, named by what it does, and the one that stops."""
    with gr.Row():
        headline = gr.Textbox(label="Headline", placeholder=EXAMPLES[0], max_lines=1, scale=4, min_width=280)
        with gr.Row(scale=1):
            return headline, gr.Button(name, variant="primary", min_width=90, **more), gr.Button("Stop", min_width=90)


def article_box(label: str, **more: Any) -> gr.Textbox:
    # Editable: a box that is not could be neither focused nor selected from by keyboard.
    return gr.Textbox(label=label, lines=12, max_lines=24, interactive=True, autoscroll=False, min_width=300, **more)


def write_tab(desk: Desk, settings: Settings) -> tuple[gr.Textbox, gr.Textbox, list[Any]]:
    """Return the headline, the first article, and the events after which they are complete."""
    headline, go, stop = request_row("Write", elem_id="write")
    settings.dial.render()
    gr.Examples([[example] for example in EXAMPLES], [headline], label="For example", **PRIVATE)
    shown_at_first = desk.author.model.decoding.candidates
    boxes = [
        article_box(
            "Article" if number == 1 else f"Article {number}",
            visible=number <= shown_at_first,
            elem_id=f"article{number}",
        )
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
        lambda count: [
            gr.update(visible=True) if n < count else gr.update(visible=False, value="") for n in range(MOST_CANDIDATES)
        ],
        settings.candidates,
        boxes,
        show_progress="hidden",
        **FAST,
    )
    copied = copy.click(None, boxes, copy, js=COPY, **PRIVATE)
    copied.then(None, None, copy, js=LATER_COPY, **PRIVATE)
    download.click(None, boxes, None, js=DOWNLOAD, **PRIVATE)
    return headline, boxes[0], [begun, anew, stopped]


def one_candidate(values: Sequence[Any]) -> list[Any]:
    """Return the settings of all tabs, without the seed, for one article."""
    length, temperature, top_p, _, dial, _ = values
    return [length, temperature, top_p, 1, dial]


def compare_tab(desk: Desk, settings: Settings) -> None:
    systems = desk.author.systems
    headline, go, stop = request_row("Compare")
    with gr.Row():
        boxes = [article_box(name_of(system), elem_id=f"compare_{system}") for system in systems]

    @shown
    def compare(headline: Any, *values: Any, request: gr.Request) -> Iterator[list[str]]:
        decoding, seed = read_settings(desk, *one_candidate(values)), read_seed(values[-1])
        for texts in desk.compare(str(request.session_hash), read_text(headline), decoding, seed):
            yield [texts.get(system, "") for system in systems]

    more: dict[str, Any] = {"show_progress": "minimal", **MODEL, **PRIVATE}
    begun = gr.on([go.click, headline.submit], with_request(compare), [headline, *settings.all], boxes, **more)
    stop.click(None, None, None, cancels=[begun], **PRIVATE)


def blind_tab(desk: Desk, settings: Settings, page: gr.Blocks) -> None:
    gr.Markdown(
        "A blind test: two systems write about one headline. Vote for the funnier article, and see who wrote it."
    )
    headline, go, stop = request_row("Write")
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
            str(request.session_hash), read_text(headline), read_settings(desk, *one_candidate(values))
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
    page.load(shown(lambda: show_tallies(desk)), None, tally, **FAST)


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
        "Which earlier words does a phrase attend to? Select a phrase in the article, use it, and look inside. Without an"
        " earlier phrase, its attention to the headline is shown."
    )
    headline = gr.Textbox(label="Headline of the article", max_lines=1, elem_id="look_headline")
    text = article_box("Article to look inside of", elem_id="look_text")
    with gr.Row():
        with gr.Column(min_width=280):
            query = gr.Textbox(label="Phrase", max_lines=1, elem_id="look_query")
            take_query = gr.Button("Use the selection as the phrase", elem_id="take_query")
        with gr.Column(min_width=280):
            key = gr.Textbox(label="Earlier phrase", placeholder="the headline", max_lines=1, elem_id="look_key")
            take_key = gr.Button("Use the selection as the earlier phrase", elem_id="take_key")
    go = gr.Button("Look inside", variant="primary", elem_id="look")
    frame = gr.HTML(elem_id="frame")

    @shown
    def show_maps(headline: Any, text: Any, query: Any, key: Any, request: gr.Request) -> str:
        return desk.look(
            str(request.session_hash), read_text(headline), read_text(text), read_text(query), read_text(key)
        )

    for event in events:
        event.then(None, [source_headline, source_article], [headline, text], js="(a, b) => [a, b]", **PRIVATE)
    take_query.click(None, [query, headline], query, js=TAKE_SELECTION, **PRIVATE)
    take_key.click(None, [key, headline], key, js=TAKE_SELECTION, **PRIVATE)
    go.click(show_maps, [headline, text, query, key], frame, **MODEL, **PRIVATE)
