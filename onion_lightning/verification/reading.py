"""What one form of a model makes of the probes: token ids, log-probabilities and greedy articles."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np

from onion_lightning.heartbeat import Heartbeat, log_line
from onion_lightning.verification.probes import Probe

__all__ = ["Encoded", "Form", "Reading", "Written", "read_probes"]


class Encoded(NamedTuple):
    """A headline and an article as token ids.

    Attributes:
        prompt: ids of the prompt, from the form's own template and tokenizer.
        article: ids of the article, without EOS; None if the form cannot tell.
        same_template: ids of this project's prompt from the form's tokenizer; None if the form cannot tell.
        chat: ids of a chat with the headline; None without a chat template.
    """

    prompt: list[int] | None
    article: list[int] | None
    same_template: list[int] | None
    chat: list[int] | None


class Written(NamedTuple):
    """A greedy article, and whether the model ended it."""

    text: str
    ended: bool


class Form(Protocol):
    """A form of a trained model: the checkpoint, an exported folder, or a server."""

    name: str

    def encode(self, headline: str, article: str) -> Encoded:
        """Encode a headline and an article."""

    def log_probabilities(self, prompt: Sequence[int], completion: Sequence[int]) -> np.ndarray | None:
        """Return log p of each token of a completion, in nats, (tokens,); None if the form cannot tell."""

    def write(self, probes: Sequence[Probe], new_tokens: int) -> list[Written]:
        """Write an article of at most `new_tokens` tokens for each headline by greedy decoding."""


class Reading(NamedTuple):
    """What a form makes of all probes.

    Attributes:
        name: of the form.
        encoded: for each probe.
        log_probabilities: for each probe, of its completion after its prompt, (tokens,); None if the form cannot tell.
        written: for each probe.
    """

    name: str
    encoded: list[Encoded]
    log_probabilities: list[np.ndarray] | None
    written: list[Written]


def read_probes(form: Form, probes: Sequence[Probe], new_tokens: int) -> Reading:
    """Have a form read all probes."""
    log_line(f"{form.name}: reading {len(probes)} articles and writing as many")
    with Heartbeat(lambda: f"{form.name}: still at work"):
        found = [form.log_probabilities(probe.prompt, probe.completion) for probe in probes]
        known = [values for values in found if values is not None]
        return Reading(
            form.name,
            [form.encode(probe.headline, probe.article) for probe in probes],
            known if len(known) == len(probes) else None,
            form.write(probes, new_tokens),
        )
