"""Writing articles for headlines."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from transformers import (
    LogitsProcessorList,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    RepetitionPenaltyLogitsProcessor,
)

from onion_lightning.data.prompt import encode_prompt
from onion_lightning.errors import OnionError

__all__ = ["Article", "Decoding", "continue_prompts", "left_pad", "write_articles"]


@dataclass(frozen=True)
class Decoding:
    """How tokens are chosen.

    Attributes:
        max_new_tokens: most tokens of an article.
        temperature: 0 takes the likeliest token each time (greedy).
        top_p: sample among the likeliest tokens that hold this much probability.
        repetition_penalty: above 1 makes tokens that the article already used less likely. Those of the prompt are not
            counted: an article may take up its headline, and may end although the examples before it ended.
        candidates: articles for each headline.
    """

    max_new_tokens: int = 300
    temperature: float = 0.8
    top_p: float = 0.95
    repetition_penalty: float = 1.1
    candidates: int = 1

    def __post_init__(self) -> None:
        for flag, good, range_ in (
            ("max_new_tokens", self.max_new_tokens >= 1, "at least 1"),
            ("temperature", self.temperature >= 0, "0 (greedy) or more"),
            ("top_p", 0 < self.top_p <= 1, "above 0 and at most 1"),
            ("repetition_penalty", self.repetition_penalty > 0, "above 0 (1 is none)"),
            ("candidates", self.candidates >= 1, "at least 1"),
        ):
            if not good:
                raise OnionError(f"--model.{flag} {getattr(self, flag)}: must be {range_}.")
        if self.temperature == 0 and self.candidates > 1:
            raise OnionError(
                f"--model.candidates {self.candidates}: with --model.temperature 0 they would all be the same article;"
                " take a temperature above 0, or one candidate."
            )

    def options(self, prompt_length: int) -> dict[str, Any]:
        """Arguments of `generate` after prompts of so many tokens, padding included."""
        penalty = RepetitionPenaltyLogitsProcessor(self.repetition_penalty, prompt_ignore_length=prompt_length)
        options: dict[str, Any] = {
            "max_new_tokens": self.max_new_tokens,
            "num_return_sequences": self.candidates,
            "logits_processor": LogitsProcessorList([penalty]),
            "repetition_penalty": 1.0,  # `generate`'s own counts the prompt
            "do_sample": self.temperature > 0,
        }
        if self.temperature > 0:
            options |= {"temperature": self.temperature, "top_p": self.top_p, "top_k": 0}
        return options


class Article(NamedTuple):
    """What the model wrote. `finish_reason` is "eos", or "length" where it was cut at `max_new_tokens`."""

    text: str
    tokens: int
    finish_reason: str


def left_pad(rows: Sequence[Sequence[int]], device: torch.device) -> dict[str, torch.Tensor]:
    """Token ids and mask, both (rows, longest row), padding on the left where `generate` wants it."""
    width = max(map(len, rows))
    ids = torch.tensor([[0] * (width - len(row)) + list(row) for row in rows], device=device)
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows], device=device)
    return {"input_ids": ids, "attention_mask": mask}


def write_articles(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    headlines: Sequence[str],
    decoding: Decoding,
    seed: int,
    **options: Any,
) -> list[list[Article]]:
    """Write articles for a batch of headlines.

    Args:
        model: any causal language model, in `eval()`.
        seed: the same seed, headlines and decoding give the same articles.
        options: further arguments of `generate`, such as a streamer or stopping criteria.

    Returns:
        For each headline its `decoding.candidates` articles.
    """
    prompts = [encode_prompt(tokenizer, headline) for headline in headlines]
    return continue_prompts(model, tokenizer, prompts, decoding, seed, **options)


def continue_prompts(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Sequence[int]],
    decoding: Decoding,
    seed: int,
    **options: Any,
) -> list[list[Article]]:
    """`write_articles` for prompts that are token ids already."""
    torch.manual_seed(seed)
    inputs = left_pad(prompts, model.device)
    width = inputs["input_ids"].shape[1]
    eos = tokenizer.eos_token_id
    with torch.inference_mode():
        output = model.generate(**inputs, **(decoding.options(width) | options), eos_token_id=eos, pad_token_id=0)
    new = output[:, width:].tolist()  # (headlines * candidates, new tokens)
    articles = [cut_at_eos(ids, tokenizer) for ids in new]
    count = decoding.candidates
    return [articles[at : at + count] for at in range(0, len(articles), count)]


def cut_at_eos(ids: list[int], tokenizer: PreTrainedTokenizerBase) -> Article:
    ended = tokenizer.eos_token_id in ids
    if ended:
        ids = ids[: ids.index(tokenizer.eos_token_id)]
    return Article(tokenizer.decode(ids, skip_special_tokens=True).strip(), len(ids), "eos" if ended else "length")
