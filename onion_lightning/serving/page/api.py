"""The page's functions by name, for `gradio_client`. Gradio describes them from their signatures and docstrings."""

from collections.abc import Iterator
from typing import Any

import gradio as gr

from onion_lightning.model.decoding import Decoding
from onion_lightning.serving.desk import Desk
from onion_lightning.serving.page.inputs import MODEL, read_seed, read_settings, read_text, shown

__all__ = ["Api"]


class Api:
    """What may be called by name. A value that is not given is that of the server's decoding flags.

    Args:
        desk: does it.
    """

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self.model = desk.author.model

    def offer(self) -> None:
        """Add the functions to the page that is being built."""
        for function in (self.write, self.compare, self.pair, self.look):
            gr.api(shown(function), api_name=function.__name__, **MODEL)
        gr.api(shown(self.vote), api_name="vote", queue=False)

    def decoding(self, length: Any, temperature: Any, top_p: Any, candidates: Any = 1, strength: Any = 1.0) -> Decoding:
        flags = self.model.decoding
        return read_settings(
            self.desk,
            flags.max_new_tokens if length is None else length,
            flags.temperature if temperature is None else temperature,
            flags.top_p if top_p is None else top_p,
            candidates,
            strength,
        )

    def seed(self, seed: Any) -> int:
        return self.model.seed if seed is None else read_seed(seed)

    def write(
        self,
        headline: str,
        max_new_tokens: int | None = None,
        temperature: float | None = None,
        top_p: float | None = None,
        candidates: int | None = None,
        adapter_strength: float | None = None,
        seed: int | None = None,
        request: gr.Request = None,  # type: ignore[assignment]
    ) -> Iterator[list[str]]:
        """Write articles: yields the list of candidates as far as they are written."""
        flags = self.model.decoding
        candidates = flags.candidates if candidates is None else candidates
        strength = flags.adapter_strength if adapter_strength is None else adapter_strength
        decoding = self.decoding(max_new_tokens, temperature, top_p, candidates, strength)
        for texts, _ in self.desk.write(session_of(request), read_text(headline), decoding, self.seed(seed)):
            yield texts

    def compare(
        self,
        headline: str,
        max_new_tokens: int | None = None,
        temperature: float | None = None,
        top_p: float | None = None,
        seed: int | None = None,
        request: gr.Request = None,  # type: ignore[assignment]
    ) -> Iterator[dict[str, str]]:
        """Compare systems: yields the article of each as far as it is written."""
        decoding = self.decoding(max_new_tokens, temperature, top_p)
        yield from self.desk.compare(session_of(request), read_text(headline), decoding, self.seed(seed))

    def pair(
        self,
        headline: str,
        max_new_tokens: int | None = None,
        temperature: float | None = None,
        top_p: float | None = None,
        request: gr.Request = None,  # type: ignore[assignment]
    ) -> Iterator[dict[str, str]]:
        """Write two articles by hidden systems: the last value has the id to vote with."""
        decoding = self.decoding(max_new_tokens, temperature, top_p)
        for left, right, found in self.desk.pair(session_of(request), read_text(headline), decoding):
            yield {"left": left, "right": right, "id": found}

    def vote(self, pair_id: str, choice: str, request: gr.Request = None) -> dict[str, Any]:  # type: ignore[assignment]
        """Vote on a pair: left, right, tie or neither. Returns who wrote what, and the tallies."""
        said = self.desk.vote(session_of(request), read_text(pair_id), read_text(choice))
        return {"systems": said, "tallies": self.desk.tallies()}

    def look(
        self,
        headline: str,
        article: str,
        query: str,
        key: str = "",
        request: gr.Request = None,  # type: ignore[assignment]
    ) -> str:
        """Return the attention of a phrase to an earlier one, as HTML."""
        texts = [read_text(value) for value in (headline, article, query, key)]
        return self.desk.look(session_of(request), *texts)


def session_of(request: gr.Request) -> str:
    return str(request.session_hash)
