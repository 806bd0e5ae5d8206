"""Generates articles for headlines, within the model's context."""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import (
    LogitsProcessorList,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    RepetitionPenaltyLogitsProcessor,
    StoppingCriteria,
    StoppingCriteriaList,
)

from onion_lightning.data.prompt import encode_prompt
from onion_lightning.errors import OnionError, check_range
from onion_lightning.messages import tell_once
from onion_lightning.model.adapters.switches import merged_adapters, scaled_adapters
from onion_lightning.model.articles.record import Article
from onion_lightning.model.sampling import FiniteLogits, NucleusSampling
from onion_lightning.model.sharding.layers import without_gradients

__all__ = [
    "Decoding",
    "autocast_as_trained",
    "context_length",
    "continue_ids",
    "continue_prompts",
    "evaluation_mode",
    "left_pad",
    "write_articles",
]


@dataclass(frozen=True)
class Decoding:
    """How tokens are chosen.

    Attributes:
        max_new_tokens: maximum number of tokens in an article; the context length, prompt included, may end it earlier.
        temperature: sampling temperature; 0 selects the most probable token at each step (greedy decoding).
        top_p: sample from the smallest set of most probable tokens whose total probability reaches this value (nucleus
            sampling).
        repetition_penalty: values above 1 make tokens that already occur in the article less probable. Tokens of the
            prompt are not penalized: an article may reuse words of its headline, and may end with EOS although the
            few-shot examples in its prompt do.
        candidates: number of articles per headline.
        adapter_strength: factor on the output of the adapters: 0 is the base model, 1 the model that was trained, and values
            above 1 exaggerate what the adapters learned.
    """

    max_new_tokens: int = 300
    temperature: float = 0.8
    top_p: float = 0.95
    repetition_penalty: float = 1.1
    candidates: int = 1
    adapter_strength: float = 1.0

    def __post_init__(self) -> None:
        for flag, good, accepted in (
            ("max_new_tokens", self.max_new_tokens >= 1, "at least 1"),
            ("temperature", self.temperature >= 0, "0 (greedy) or greater"),
            ("top_p", 0 < self.top_p <= 1, "above 0 and at most 1"),
            ("repetition_penalty", self.repetition_penalty > 0, "above 0 (1 disables it)"),
            ("candidates", self.candidates >= 1, "at least 1"),
            ("adapter_strength", 0 <= self.adapter_strength <= 2, "from 0 (the base model) to 2"),
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
        sampling = [NucleusSampling(self.temperature, self.top_p)] if self.temperature > 0 else []
        return {
            "max_new_tokens": self.max_new_tokens,
            "logits_processor": LogitsProcessorList([FiniteLogits(), penalty, *sampling]),
            "repetition_penalty": 1.0,  # that of `generate` would penalize the prompt too
            "do_sample": False,  # `NucleusSampling` has drawn the token
        }


DEFAULT = Decoding()


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
        options: further arguments of `generate`, such as a streamer or stopping criteria, and `flag`: the flag that
            `max_new_tokens` comes from, for messages.

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
    flag: str = "--model.max_new_tokens",
    **options: Any,
) -> list[list[Article]]:
    """Generate articles as `write_articles` does, after prompts given as token ids.

    Prompt and article never exceed the model's context. Padding does not count.

    Raises:
        OnionError: a prompt leaves no room for an article.
    """
    rows = continue_ids(model, tokenizer.eos_token_id, prompts, decoding, seed, flag, **options)
    return [[truncate_at_eos(ids, tokenizer) for ids in candidates] for candidates in rows]


def continue_ids(
    model: PreTrainedModel,
    eos: int,
    prompts: Sequence[Sequence[int]],
    decoding: Decoding,
    seed: int,
    flag: str = "--model.max_new_tokens",
    **options: Any,
) -> list[list[list[int]]]:
    """Generate the token ids of articles as `continue_prompts` does; what follows the first EOS is padding.

    Returns:
        For each prompt a list of `decoding.candidates` lists of ids.
    """
    if not prompts:
        return []
    torch.manual_seed(seed)
    count = decoding.candidates
    inputs = left_pad([prompt for prompt in prompts for _ in range(count)], model.device)
    width = inputs["input_ids"].shape[1]
    limits = article_limits(model, prompts, options.pop("max_new_tokens", decoding.max_new_tokens), flag)
    limits = [limit for limit in limits for _ in range(count)]
    options = decoding.options(width) | {"max_new_tokens": max(limits)} | options
    stop = StoppingCriteriaList([RowLimits(torch.tensor(limits, device=model.device) + width)])
    options["stopping_criteria"] = stop + options.get("stopping_criteria", [])
    adapters = (scaled_adapters(model, decoding.adapter_strength), merged_adapters(model))
    modes = (without_gradients(model), evaluation_mode(model), autocast_as_trained(model), sampling_allowed())
    with contextlib.ExitStack() as stack:
        for mode in (*adapters, *modes, positions_below(model, context_length(model))):
            stack.enter_context(mode)
        output = model.generate(**inputs, **options, eos_token_id=eos, pad_token_id=0)
    new = output[:, width:].tolist()  # (headlines * candidates, new tokens)
    rows = [ids[:limit] for ids, limit in zip(new, limits, strict=True)]
    return [rows[at : at + count] for at in range(0, len(rows), count)]


def context_length(model: PreTrainedModel) -> int:
    """Return the model's context length in tokens."""
    return int(model.config.get_text_config().max_position_embeddings)


def article_limits(model: PreTrainedModel, prompts: Sequence[Sequence[int]], asked: int, flag: str) -> list[int]:
    """Return the maximum number of new tokens for each prompt, and print once if the context reduces one.

    Args:
        model: with a context length.
        prompts: token ids, without padding.
        asked: maximum number of new tokens.
        flag: that asked for it.

    Raises:
        OnionError: a prompt fills the context.
    """
    context, longest = context_length(model), max(map(len, prompts))
    if longest >= context:
        raise OnionError(
            f"{flag} {asked}: a prompt of {longest} tokens leaves no room for an article in the model's context of {context}"
            " tokens; shorten the headline."
        )
    if longest + asked > context:
        tell_once(
            f"{flag} {asked}: the model's context length is {context} tokens, prompt included; articles that reach it are"
            " truncated there."
        )
    return [min(asked, context - len(prompt)) for prompt in prompts]


class RowLimits(StoppingCriteria):
    """Ends each row at a length of its own.

    Args:
        ends: length of each row at which it ends, with prompt and padding, (rows,).
    """

    def __init__(self, ends: torch.Tensor) -> None:
        self.ends = ends

    def __call__(self, input_ids: torch.Tensor, scores: Any, **more: Any) -> torch.Tensor:
        return self.ends <= input_ids.shape[1]  # (rows,)


@contextlib.contextmanager
def positions_below(model: PreTrainedModel, context: int) -> Iterator[None]:
    """Keep rows that have ended, and are still computed with the others, from reaching positions outside of the context.

    Learned position embeddings have no such position, and dynamic RoPE would change for all rows.
    """

    def clamp(_: Any, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        positions = kwargs.get("position_ids")
        return args, kwargs if positions is None else kwargs | {"position_ids": positions.clamp(max=context - 1)}

    hook = model.register_forward_pre_hook(clamp, with_kwargs=True)
    try:
        yield
    finally:
        hook.remove()


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
