"""Keys and values of what texts begin with, computed once and continued in many ways."""

import copy
import inspect
from collections.abc import Sequence

import torch
from transformers import Cache, DynamicCache, PreTrainedModel

__all__ = ["Prefix", "read_on"]


def read_on(decoder: torch.nn.Module, ids: torch.Tensor, cache: Cache | None) -> torch.Tensor:
    """Return the last hidden states (rows, length, hidden size) of token ids (rows, length), and extend the cache.

    Args:
        decoder: the model without its language modeling head.
        ids: token ids that follow those of the cache.
        cache: keys and values of what precedes them; None for nothing.
    """
    # transformers 5.24 renamed the argument.
    name = "cache" if "cache" in inspect.signature(decoder.forward).parameters else "past_key_values"
    output = decoder(input_ids=ids, use_cache=cache is not None, **{name: cache})
    hidden: torch.Tensor = output.last_hidden_state
    return hidden


class Prefix:
    """Texts of the same length, read by a model once. Their keys and values are copied before they are continued.

    They have no padding, so that the model needs no mask for them and its positions follow from their length.

    Args:
        model: causal language model.
        rows: token ids, one list of the same length per text.
    """

    def __init__(self, model: PreTrainedModel, rows: Sequence[Sequence[int]]) -> None:
        self.decoder = model.get_decoder()
        self.cache = DynamicCache(config=model.config)
        read_on(self.decoder, torch.tensor(rows, device=model.device), self.cache)

    def continued(self, texts: Sequence[int], ids: torch.Tensor) -> torch.Tensor:
        """Return the last hidden states of rows that continue the texts, (rows, length, hidden size).

        Args:
            texts: for each row, the position of the text that it continues.
            ids: token ids of the rows, padded on the right, (rows, length).
        """
        cache = copy.deepcopy(self.cache)
        cache.batch_select_indices(torch.tensor(texts, device=ids.device))
        return read_on(self.decoder, ids, cache)
