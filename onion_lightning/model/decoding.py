"""Generates articles for headlines, and defines the records that they are saved as."""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from transformers import (
    LogitsProcessorList,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    RepetitionPenaltyLogitsProcessor,
)

from onion_lightning.data.collate import HeadlineBatch
from onion_lightning.data.prompt import encode_prompt
from onion_lightning.errors import OnionError, check_range

__all__ = [
    "Article",
    "ArticleBatch",
    "ArticleRecord",
    "Decoding",
    "article_batch",
    "continue_prompts",
    "left_pad",
    "write_articles",
]


@dataclass(frozen=True)
class Decoding:
    """How tokens are chosen.

    Attributes:
        max_new_tokens: maximum number of tokens in an article.
        temperature: sampling temperature; 0 selects the most probable token at each step (greedy decoding).
        top_p: sample from the smallest set of most probable tokens whose total probability reaches this value (nucleus
            sampling).
        repetition_penalty: values above 1 make tokens that already occur in the article less probable. Tokens of the
            prompt are not penalized: an article may reuse words of its headline, and may end with EOS although the
            few-shot examples in its prompt do.
        candidates: number of articles per headline.
    """

    max_new_tokens: int = 300
    temperature: float = 0.8
    top_p: float = 0.95
    repetition_penalty: float = 1.1
    candidates: int = 1

    def __post_init__(self) -> None:
        for flag, good, accepted in (
            ("max_new_tokens", self.max_new_tokens >= 1, "at least 1"),
            ("temperature", self.temperature >= 0, "0 (greedy) or greater"),
            ("top_p", 0 < self.top_p <= 1, "above 0 and at most 1"),
            ("repetition_penalty", self.repetition_penalty > 0, "above 0 (1 disables it)"),
            ("candidates", self.candidates >= 1, "at least 1"),
        ):
            check_range(f"--model.{flag}", getattr(self, flag), good, accepted)
        if self.temperature == 0 and self.candidates > 1:
            raise OnionError(
                f"--model.candidates {self.candidates}: with --model.temperature 0 all candidates would be identical; use a"
                " temperature above 0, or one candidate."
            )

    def options(self, prompt_length: int) -> dict[str, Any]:
        """Return the arguments of `generate` for prompts of this many tokens, padding included."""
        penalty = RepetitionPenaltyLogitsProcessor(self.repetition_penalty, prompt_ignore_length=prompt_length)
        options: dict[str, Any] = {
            "max_new_tokens": self.max_new_tokens,
            "num_return_sequences": self.candidates,
            "logits_processor": LogitsProcessorList([penalty]),
            "repetition_penalty": 1.0,  # that of `generate` would penalize the prompt too
            "do_sample": self.temperature > 0,
        }
        if self.temperature > 0:
            options |= {"temperature": self.temperature, "top_p": self.top_p, "top_k": 0}
        return options


DEFAULT = Decoding()


class Article(NamedTuple):
    """A generated article. `finish_reason` is "eos", or "length" if it was truncated at `max_new_tokens`."""

    text: str
    tokens: int
    finish_reason: str


# Not frozen: Lightning rebuilds what `predict_step` returns when it moves predictions to the CPU, field by field.
@dataclass
class ArticleRecord:
    """A line of the articles file.

    Attributes:
        index: position of the headline in the input.
        candidate: number of the article among those for the same headline.
        headline: text.
        article: text.
        tokens: length of the article.
        finish_reason: as in `Article`.
    """

    index: int
    candidate: int
    headline: str
    article: str
    tokens: int
    finish_reason: str


@dataclass
class ArticleBatch:
    """The articles for a `HeadlineBatch`. `index` is that of the batch, counted over all ranks."""

    index: int
    articles: list[ArticleRecord]


def article_batch(batch: HeadlineBatch, articles: Sequence[Sequence[Article]]) -> ArticleBatch:
    """Build the records of the articles generated for each headline of a batch."""
    records = [
        ArticleRecord(row, candidate, headline, article.text, article.tokens, article.finish_reason)
        for row, headline, candidates in zip(batch["rows"], batch["headlines"], articles, strict=True)
        for candidate, article in enumerate(candidates)
    ]
    return ArticleBatch(batch["index"], records)


def write_articles(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    headlines: Sequence[str],
    decoding: Decoding = DEFAULT,
    seed: int = 0,
    **options: Any,
) -> list[list[Article]]:
    """Generate articles for a batch of headlines.

    The model may be in `train()` mode: it is in `eval()` mode while it generates, so dropout is never active, and returns
    to its mode afterwards.

    Args:
        model: causal language model, such as `OnionModule.language_model`.
        tokenizer: of the model.
        headlines: processed as one batch.
        decoding: how tokens are chosen.
        seed: seeds torch's global random number generator. The same seed, headlines and decoding give the same articles.
        options: further arguments of `generate`, such as a streamer or stopping criteria.

    Returns:
        For each headline a list of `decoding.candidates` articles.
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
    """Generate articles as `write_articles` does, after prompts given as token ids."""
    if not prompts:
        return []
    torch.manual_seed(seed)
    inputs = left_pad(prompts, model.device)
    width = inputs["input_ids"].shape[1]
    eos = tokenizer.eos_token_id
    with torch.inference_mode(), evaluation_mode(model), autocast_as_trained(model), sampling_allowed():
        output = model.generate(**inputs, **(decoding.options(width) | options), eos_token_id=eos, pad_token_id=0)
    new = output[:, width:].tolist()  # (headlines * candidates, new tokens)
    articles = [truncate_at_eos(ids, tokenizer) for ids in new]
    count = decoding.candidates
    return [articles[at : at + count] for at in range(0, len(articles), count)]


def left_pad(rows: Sequence[Sequence[int]], device: torch.device) -> dict[str, torch.Tensor]:
    """Return token ids and attention mask, both (rows, longest row), padded on the left as `generate` requires."""
    width = max(map(len, rows))
    ids = torch.tensor([[0] * (width - len(row)) + list(row) for row in rows], device=device)
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows], device=device)
    return {"input_ids": ids, "attention_mask": mask}


@contextlib.contextmanager
def evaluation_mode(model: torch.nn.Module) -> Iterator[None]:
    """Put a model into `eval()` mode, and restore the mode of each of its modules on exit."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training


def autocast_as_trained(model: PreTrainedModel) -> torch.autocast:
    """Compute adapters in the dtype of the base model, inside a step of the Trainer and outside: articles are the same."""
    dtype = model.dtype
    return torch.autocast(model.device.type, dtype, enabled=dtype != torch.float32, cache_enabled=False)


@contextlib.contextmanager
def sampling_allowed() -> Iterator[None]:
    """Let `--trainer.deterministic true` warn where it would raise: on CUDA, the `cumsum` of top-p sampling."""
    strict = torch.are_deterministic_algorithms_enabled() and not torch.is_deterministic_algorithms_warn_only_enabled()
    if strict:
        torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        if strict:
            torch.use_deterministic_algorithms(True)


def truncate_at_eos(ids: list[int], tokenizer: PreTrainedTokenizerBase) -> Article:
    ended = tokenizer.eos_token_id in ids
    if ended:
        ids = ids[: ids.index(tokenizer.eos_token_id)]
    return Article(tokenizer.decode(ids, skip_special_tokens=True).strip(), len(ids), "eos" if ended else "length")
