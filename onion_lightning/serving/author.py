"""Writes articles word by word for many users: one request at a time, each with its own seed, dial and limits."""

import queue
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import torch
from transformers import StoppingCriteria, StoppingCriteriaList
from transformers.generation.streamers import BaseStreamer

from onion_lightning.data.prompt import encode_prompt
from onion_lightning.errors import OnionError
from onion_lightning.evaluation.also import OtherModel, place_adapters, with_adapters_of
from onion_lightning.evaluation.tasks import SYSTEMS, few_shot_prompt, fit_shots
from onion_lightning.model.articles.record import Article
from onion_lightning.model.decoding import Decoding, context_length, continue_prompts
from onion_lightning.model.module import OnionModule
from onion_lightning.seeding import mix_seed

__all__ = [
    "LONGEST_HEADLINE",
    "MOST_CANDIDATES",
    "MOST_STRENGTH",
    "MOST_TOKENS",
    "Author",
    "Draft",
    "Request",
    "TokenQueue",
]

LONGEST_HEADLINE = 300  # characters
MOST_TOKENS = 1000
MOST_CANDIDATES = 4
MOST_STRENGTH = 1.5
PAUSE = 0.05  # seconds between two drafts: a browser shows no more
BEAT = 0.25  # seconds after which a draft is repeated


@dataclass(frozen=True)
class Request:
    """What a user asks for.

    Attributes:
        headline: one line of text.
        decoding: length, temperature, top-p, candidates and adapter strength.
        seed: of the sampling.
        system: one of the author's.
    """

    headline: str
    decoding: Decoding
    seed: int
    system: str = "tuned"

    def __post_init__(self) -> None:
        if not self.headline.strip():
            raise OnionError("The headline is empty; type one.")
        if len(self.headline) > LONGEST_HEADLINE:
            raise OnionError(
                f"The headline has {len(self.headline)} characters; shorten it to {LONGEST_HEADLINE} or fewer."
            )
        if self.decoding.max_new_tokens > MOST_TOKENS or self.decoding.candidates > MOST_CANDIDATES:
            raise OnionError(f"At most {MOST_TOKENS} tokens and {MOST_CANDIDATES} candidates can be written at once.")
        if not 0 <= self.seed < 2**63:
            raise OnionError(f"The seed {self.seed} is out of range; give a whole number of at least 0.")


@dataclass(frozen=True)
class Draft:
    """The articles of a request, as far as they are written.

    Attributes:
        texts: one for each candidate.
        articles: the complete articles; None while they are being written.
    """

    texts: list[str]
    articles: list[Article] | None = None


class Author:
    """Writes with one model that many users share.

    Args:
        model: with its weights and adapters loaded.
        examples: token ids of the few-shot examples; empty if there is no corpus.
        others: other fine-tuned models, by the names of their systems.
    """

    def __init__(
        self,
        model: OnionModule,
        examples: Sequence[list[int]] = (),
        others: Mapping[str, OtherModel] = MappingProxyType({}),
    ) -> None:
        self.model = model
        self.examples = list(examples)
        self.others = others
        self.placed = place_adapters(model, others)
        self.turn = threading.Lock()  # the seed and the adapters' strength are the whole process's

    @property
    def systems(self) -> tuple[str, ...]:
        return (*(name for name in SYSTEMS if name != "few_shot" or self.examples), *self.others)

    def write(self, request: Request, *stops: threading.Event) -> Iterator[Draft]:
        """Yield drafts until the articles are complete.

        Meanwhile, and while another request has its turn, the last draft is repeated every `BEAT` seconds: whoever waits for
        it can then notice that nobody does any more. The model stops after its current token once the iterator is closed or
        one of the events is set.

        Args:
            request: what to write.
            stops: each of these events ends the generation.

        Raises:
            OnionError: the prompt does not fit into the model's context, or there are no few-shot examples.
        """
        prompt, closed = self.prompt(request), threading.Event()
        tokens = TokenQueue(self.model.tokenizer.eos_token_id)
        result: Future[list[Article]] = Future()

        def work() -> None:
            try:
                with self.turn:
                    result.set_result(self.generate(request, prompt, tokens, (closed, *stops)))
            except Exception as error:  # noqa: BLE001 - raised again in the thread of the request
                result.set_exception(error)
            finally:
                tokens.close()

        threading.Thread(target=work, name="author", daemon=True).start()
        try:
            yield Draft([""] * request.decoding.candidates)
            for rows in tokens.rows(request.decoding.candidates):
                yield Draft([self.model.tokenizer.decode(row, skip_special_tokens=True).strip() for row in rows])
            articles = result.result()
            yield Draft([article.text for article in articles], articles)
        finally:
            closed.set()

    def generate(
        self, request: Request, prompt: list[int], tokens: "TokenQueue", stops: Sequence[threading.Event]
    ) -> list[Article]:
        if any(stop.is_set() for stop in stops):
            return [Article("", 0, "length")] * request.decoding.candidates
        seed = mix_seed(request.seed, 0)  # that of `predict` for one headline
        stopping = StoppingCriteriaList([Stopped(stops)])
        more = {"streamer": tokens, "stopping_criteria": stopping, "flag": "The length of"}
        model, tokenizer = self.model.language_model, self.model.tokenizer
        with with_adapters_of(request.system, self.model, self.placed):
            return continue_prompts(model, tokenizer, [prompt], request.decoding, seed, **more)[0]

    def few_shot_problem(self, request: Request) -> str | None:
        """Return why a few-shot request cannot be answered; None if it can."""
        try:
            self.prompt(request)
        except OnionError as error:
            return str(error)
        return None

    def prompt(self, request: Request) -> list[int]:
        if request.system not in (*SYSTEMS, *self.others):
            raise OnionError(f"{request.system} is not one of {', '.join(self.systems)}.")
        ids, bos = encode_prompt(self.model.tokenizer, request.headline), self.model.tokenizer.bos_token_id
        if request.system != "few_shot":
            return ids
        room = context_length(self.model.language_model) - len(ids) - request.decoding.max_new_tokens
        shots, count = fit_shots(self.examples, room, bos)
        if count == 0:
            raise OnionError(
                "Few-shot prompting has no example that fits into the model's context; choose a shorter length."
                if self.examples
                else "Few-shot prompting has no examples, because the corpus could not be read."
            )
        return few_shot_prompt(shots, ids, bos)


class Stopped(StoppingCriteria):
    """Ends the generation after the current token once one of the events is set."""

    def __init__(self, stops: Sequence[threading.Event]) -> None:
        self.stops = stops

    def __call__(self, input_ids: torch.Tensor, scores: Any, **more: Any) -> torch.Tensor:
        return torch.full(
            (len(input_ids),), any(stop.is_set() for stop in self.stops), device=input_ids.device
        )  # (rows,)


class TokenQueue(BaseStreamer):
    """Carries tokens from the thread that generates to the one that answers. Unlike TextStreamer, it takes several rows.

    Args:
        eos: id of the token after which a row ends; what follows it is padding.
    """

    def __init__(self, eos: int) -> None:
        self.eos = eos
        self.steps: queue.Queue[list[int] | None] = queue.Queue()
        self.is_prompt = True

    def put(self, value: torch.Tensor) -> None:
        if self.is_prompt:
            self.is_prompt = False
            return
        self.steps.put(value.tolist())  # (rows,)

    def end(self) -> None:
        """Do nothing: `generate` calls this before its result is there. See `close`."""

    def close(self) -> None:
        self.steps.put(None)

    def rows(self, count: int) -> Iterator[list[list[int]]]:
        """Yield the token ids of each row: new ones at most every `PAUSE` seconds, and the same ones every `BEAT` seconds."""
        rows: list[list[int]] = [[] for _ in range(count)]
        last = 0.0
        while True:
            try:
                step = self.steps.get(timeout=BEAT)
            except queue.Empty:
                yield rows
                continue
            if step is None:
                return
            for row, token in zip(rows, step, strict=True):
                if self.eos not in row[-1:]:
                    row.append(token)
            now = time.monotonic()
            if now - last >= PAUSE:
                yield rows
                last = now
