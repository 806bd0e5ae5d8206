"""The tokens of a training row as the loss sees them, with the text of each."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from transformers import PreTrainedTokenizerBase

from onion_lightning.data.collate import Batch

__all__ = ["SeenToken", "seen_tokens", "supervised_positions"]

INCOMPLETE = "\ufffd"  # what a decoder gives for some of the bytes of a character


class SeenToken(NamedTuple):
    """A token, or the tokens that spell one character together.

    Attributes:
        ids: token ids, more than one only if the character is spelled in bytes.
        text: what they decode to.
        supervised: whether the loss is computed on them.
        name: BOS, EOS or UNK; empty for ordinary tokens.
    """

    ids: tuple[int, ...]
    text: str
    supervised: bool
    name: str


def supervised_positions(batch: Batch) -> torch.Tensor:
    """Return which tokens of a micro-batch are predicted in the loss, as booleans of shape (tokens,).

    A token is predicted at the position before it.
    """
    mask = torch.zeros(len(batch["input_ids"]), dtype=torch.bool)
    mask[batch["predictors"] + 1] = True
    assert torch.equal(batch["input_ids"][mask], batch["targets"])
    return mask


def seen_tokens(batch: Batch, at: int, tokenizer: PreTrainedTokenizerBase) -> list[SeenToken]:
    """Return the tokens of one row of a micro-batch.

    Args:
        batch: as the model receives it.
        at: number of the row in the micro-batch.
        tokenizer: of the base model.
    """
    lengths = batch["row_lengths"]
    start = sum(lengths[:at])
    row = slice(start, start + lengths[at])
    ids, mask = batch["input_ids"][row].tolist(), supervised_positions(batch)[row].tolist()
    return [name_token(tokenizer, token) for token in group_by_text(tokenizer, ids, mask)]


def group_by_text(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int], mask: Sequence[bool]) -> Iterator[SeenToken]:
    """Yield the tokens of a row with their texts, which together are the text that the whole row decodes to.

    A token is decoded after the ones before it: alone, SentencePiece would drop its space. Tokens that do not complete a
    character yet are joined with those that follow.
    """
    before = start = 0  # the tokens `before` to `start` are decoded again as context
    for end in range(1, len(ids) + 1):
        context, text = decode(tokenizer, ids[before:start]), decode(tokenizer, ids[before:end])
        complete = len(text) > len(context) and not text.endswith(INCOMPLETE)
        last = end == len(ids) or mask[end] != mask[start]
        if complete or last:
            shown = text[len(context) :] if complete else "".join(vocabulary_entries(tokenizer, ids[start:end]))
            yield SeenToken(tuple(ids[start:end]), shown, mask[start], "")
            before, start = start, end


def decode(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> str:
    return str(tokenizer.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False))


def vocabulary_entries(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> list[str]:
    return [str(token) for token in tokenizer.convert_ids_to_tokens(list(ids))]


def name_token(tokenizer: PreTrainedTokenizerBase, token: SeenToken) -> SeenToken:
    """Name a special token, and show it as it is in the vocabulary. BOS and EOS may have the same id."""
    if len(token.ids) > 1:
        return token
    ends = {tokenizer.eos_token_id: "EOS"} if token.supervised else {tokenizer.bos_token_id: "BOS"}
    name = ({tokenizer.unk_token_id: "UNK"} | ends).get(token.ids[0])
    return token if name is None else token._replace(name=name, text=vocabulary_entries(tokenizer, token.ids)[0])
