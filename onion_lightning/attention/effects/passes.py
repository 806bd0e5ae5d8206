"""Forward passes with interventions, many in one batch: how likely they leave a phrase and what follows it."""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from transformers import DynamicCache, PreTrainedConfig, PreTrainedModel
from transformers.cache_utils import DynamicLayer

from onion_lightning.attention.effects.intervention import Intervention, intervening, recording
from onion_lightning.attention.maps import eager_attention
from onion_lightning.attention.statistics import Span
from onion_lightning.model.packed_rows import attends_only
from onion_lightning.model.prefix import read_on

__all__ = ["Change", "Passes"]

LARGEST_PREFIX = 1e9  # bytes of keys and values; larger ones are kept in bfloat16
MOST_TOKENS = 512  # computed in one pass, unless one row has more; a batch that is not full is computed whole
MOST_LOGITS = 256  # positions whose logits are computed at once, unless one row has more
MOST_BYTES = 2**28  # of one layer's attention in one pass, unless one row needs more


class Change(NamedTuple):
    """What an intervention changes.

    Attributes:
        query: by how much it makes the query's tokens less likely, in nats (sum of their log-probabilities).
        following: the same for the tokens that follow the query; 0 if there are none.
        divergence: KL(untouched || changed) of the next-token distribution after the query, in nats.
    """

    query: float
    following: float
    divergence: float


class Scores(NamedTuple):
    """Of a batch: log-probabilities (rows, measured tokens), and those of all tokens after the query (rows, vocabulary)."""

    measured: torch.Tensor
    after: torch.Tensor


class FixedLayer(DynamicLayer):
    """A layer of a cache that keeps the keys and values of one text, the first that it gets.

    The rows of every pass continue the text, without theirs being kept.

    Args:
        room: for keys and values, (2, 1, key-value heads, tokens, head size), in the dtype to keep them in.
    """

    def __init__(self, room: torch.Tensor) -> None:
        super().__init__()
        self.room = room

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: object, **kwargs: object
    ) -> tuple[torch.Tensor, torch.Tensor]:
        if self.get_seq_length() == 0:
            self.keys, self.values = (
                place.copy_(states) if place.shape == states.shape else states.to(place.dtype)
                for place, states in zip(self.room, (key_states, value_states), strict=True)
            )
            self.is_initialized = True
            return key_states, value_states
        pairs = ((self.keys, key_states), (self.values, value_states))
        keys, values = (torch.cat([old.to(new.dtype).expand(len(new), -1, -1, -1), new], -2) for old, new in pairs)
        return keys, values


class Passes:
    """Runs a text with interventions, and compares each with the same pass without one.

    A batch always has the same shape and is compared row by row with an untouched batch of that shape, so that an
    intervention that changes nothing gives a change of exactly 0.

    Args:
        model: a causal language model in `eval()` mode.
        ids: token ids of the text, up to the last token that is measured.
        query: the query's tokens; those after it are measured as what follows.
        first: first token that an intervention changes. What precedes it is computed once.
        recorded: tokens whose residual stream can be restored.
    """

    def __init__(
        self, model: PreTrainedModel, ids: Sequence[int], query: Span, first: int, recorded: Sequence[int] = ()
    ) -> None:
        self.model = model
        self.ids = torch.tensor([ids], device=model.device)  # (1, tokens)
        self.query = query
        self.offset = first if can_share(model, len(ids)) else 0
        self.size = batch_size(model, len(ids) - self.offset, len(ids))
        with torch.inference_mode():
            # The default attention needs no matrix of all tokens, and what is cut later is not in the prefix.
            self.cache = read_prefix(model, self.ids[:, : self.offset]) if self.offset else None
            with eager_attention(model), recording(model, recorded, self.offset) as self.streams:
                self.untouched = self.score([Intervention()] * self.size)

    @property
    def log_probabilities(self) -> tuple[float, float]:
        """The untouched log-probabilities of the query and of what follows it, in nats."""
        measured = self.untouched.measured[0]
        count = self.query.stop - self.query.first
        return float(measured[:count].sum()), float(measured[count:].sum())

    def run(self, interventions: Sequence[Intervention], advance: Callable[[int], None]) -> list[Change]:
        """Return what each intervention changes.

        Args:
            advance: called after each pass with the number of interventions that it made.
        """
        changes: list[Change] = []
        with torch.inference_mode(), eager_attention(self.model):
            for begin in range(0, len(interventions), self.size):
                batch = list(interventions[begin : begin + self.size])
                filled = batch + [Intervention()] * (self.size - len(batch))
                changes += list(self.compare(self.score(filled)))[: len(batch)]
                advance(len(batch))
        return changes

    def score(self, batch: Sequence[Intervention]) -> Scores:
        """Return the log-probabilities of a batch, on the CPU in float32."""
        ids = self.ids[:, self.offset :].repeat(len(batch), 1)  # (rows, length)
        for row, one in enumerate(batch):
            if one.swap:
                begin = one.swap.first - self.offset
                ids[row, begin : begin + len(one.swap.ids)] = ids.new_tensor(one.swap.ids)
        readers = Span(self.query.first - 1, self.query.stop)
        streams = self.streams if any(one.restore for one in batch) else None
        with intervening(self.model, batch, readers, self.offset, streams):
            hidden = read_on(self.model.get_decoder(), ids, self.cache)
        return self.log_softmax(hidden)

    def log_softmax(self, hidden: torch.Tensor) -> Scores:
        """Return the log-probabilities that hidden states (rows, length, hidden size) give, some rows at a time."""
        begin, targets = self.query.first - 1, self.ids[0, self.query.first :]
        predictors = hidden[:, begin - self.offset :]  # (rows, measured tokens + 1, hidden size)
        measured, after = [], []
        for rows in predictors.split(max(1, MOST_LOGITS // predictors.shape[1])):
            logits = self.model.get_output_embeddings()(rows).float()  # (rows, measured tokens + 1, vocabulary)
            log_probabilities = logits.log_softmax(-1)
            chosen = targets.expand(len(rows), -1)[..., None]
            measured.append(log_probabilities[:, :-1].gather(2, chosen)[..., 0].cpu())
            after.append(log_probabilities[:, self.query.stop - 1 - begin].cpu())
        return Scores(torch.cat(measured), torch.cat(after))

    def compare(self, scores: Scores) -> Iterator[Change]:
        lost = (self.untouched.measured - scores.measured).double()  # (rows, measured tokens)
        log_ratio = (self.untouched.after - scores.after).double()
        divergence = (self.untouched.after.double().exp() * log_ratio).sum(1)
        count = self.query.stop - self.query.first
        columns = (lost[:, :count].sum(1), lost[:, count:].sum(1), divergence)
        return (Change(*row) for row in torch.stack(columns, 1).tolist())


def can_share(model: PreTrainedModel, tokens: int) -> bool:
    """Return whether the keys and values of a prefix are all that later tokens need of it, in every layer."""
    config = model.config.get_text_config()
    window = getattr(config, "sliding_window", None)
    return attends_only(model.config) and (window is None or tokens <= window)


def read_prefix(model: PreTrainedModel, ids: torch.Tensor) -> DynamicCache:
    """Return the keys and values of a text (1, tokens), to be continued by any number of rows.

    Large ones are rounded while they are kept, which is the same for an intervention and what it is compared with.
    """
    cache = DynamicCache(config=model.config)
    config = model.config.get_text_config()
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    shape = (config.num_hidden_layers, 2, 1, heads, ids.shape[1], head_size(config))
    large = math.prod(shape) * model.dtype.itemsize > LARGEST_PREFIX
    # All at once: allocated between large temporaries, they fragment the heap.
    room = torch.empty(shape, dtype=torch.bfloat16 if large else model.dtype, device=model.device)
    cache.layers = [FixedLayer(one) for one in room]
    read_on(model.get_decoder(), ids, cache)
    return cache


def head_size(config: PreTrainedConfig) -> int:
    size: int = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return size


def batch_size(model: PreTrainedModel, length: int, tokens: int) -> int:
    """Return how many rows of `length` tokens, at the end of a text of `tokens`, are computed in one pass."""
    config = model.config.get_text_config()
    heads = config.num_attention_heads
    # Mask, scores and softmax; keys and values of all heads.
    attention = 4 * heads * tokens * (3 * length + 2 * head_size(config))
    return max(1, min(MOST_TOKENS // length, MOST_BYTES // attention))
