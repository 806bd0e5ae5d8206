"""The prompt template, and the encoding of prompts and training examples as token ids.

Prompt and article are tokenized separately and their ids concatenated: SentencePiece adds a space before the first word
of each text it encodes, so encoding both as one text would not give the ids that `generate` continues from.
"""

from functools import partial
from typing import Literal, NamedTuple

from transformers import PreTrainedTokenizerBase

__all__ = ["TEMPLATE", "Example", "Overflow", "encode_examples", "encode_prompt", "encode_texts", "format_prompt"]

Overflow = Literal["cut", "drop"]

TEMPLATE = "### Headline: {headline}\n### Article:\n"


class Example(NamedTuple):
    """A training example.

    Attributes:
        input_ids: ids of prompt, article and EOS, at most `max_length` of them.
        prompt_length: the loss is computed on `input_ids[prompt_length:]`.
        full_length: number of tokens before the example was cut.
    """

    input_ids: list[int]
    prompt_length: int
    full_length: int


def format_prompt(headline: str) -> str:
    """Insert a headline into the template as a single line, so that it can never start a section of its own."""
    return TEMPLATE.format(headline=" ".join(headline.split()))


def encode_texts(tokenizer: PreTrainedTokenizerBase, texts: list[str]) -> list[list[int]]:
    """Encode plain texts. A special token that appears in a text (`</s>`) is encoded as ordinary text."""
    encode = partial(tokenizer, add_special_tokens=False, split_special_tokens=True)
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        ids: list[list[int]] = encode(texts).input_ids
        return ids
    encode("")  # sets the backend's options; the backend alone is faster, because it computes no offsets and masks
    return [encoding.ids for encoding in backend.encode_batch_fast(texts, add_special_tokens=False)]


def encode_prompts(tokenizer: PreTrainedTokenizerBase, headlines: list[str]) -> list[list[int]]:
    """Encode prompts, with a leading BOS if the tokenizer adds one."""
    bos: list[int] = [i for i in tokenizer("").input_ids if i == tokenizer.bos_token_id]
    return [bos + ids for ids in encode_texts(tokenizer, list(map(format_prompt, headlines)))]


def encode_prompt(tokenizer: PreTrainedTokenizerBase, headline: str) -> list[int]:
    """Encode a single prompt."""
    return encode_prompts(tokenizer, [headline])[0]


def encode_examples(
    tokenizer: PreTrainedTokenizerBase,
    headlines: list[str],
    articles: list[str],
    max_length: int,
    overflow: Overflow,
    whole: list[bool] | None = None,
) -> list[Example | None]:
    """Encode prompt, article and EOS of each headline/article pair.

    Args:
        tokenizer: the base model's tokenizer.
        headlines: one per article.
        articles: one per headline.
        max_length: maximum number of tokens of prompt, article and EOS together.
        overflow: what to do with a longer example: `cut` keeps its beginning, without EOS because the article does not
            end there (trl#1623); `drop` discards it.
        whole: whether each article ends where its text does; one that does not gets no EOS. By default, all do.

    Returns:
        One example per pair; None for a pair that is dropped or whose prompt alone fills `max_length`.
    """
    examples: list[Example | None] = []
    eos = tokenizer.eos_token_id  # looked up once: it takes as long as a fifth of an article
    encoded = encode_prompts(tokenizer, headlines), encode_texts(tokenizer, articles)
    for prompt, body, ends in zip(*encoded, whole or [True] * len(articles), strict=True):
        ids = [*prompt, *body, eos] if ends else [*prompt, *body]
        fits = len(prompt) < max_length and (len(ids) <= max_length or overflow == "cut")
        examples.append(Example(ids[:max_length], len(prompt), len(ids)) if fits else None)
    return examples
