"""The prompt template, and how prompts and training examples become token ids.

Prompt and article are tokenized apart and their ids joined: SentencePiece puts a space before the first word of
whatever it encodes, so the joint encoding of both would differ from what `generate` continues from.
"""

from typing import Literal, NamedTuple

from transformers import PreTrainedTokenizerBase

__all__ = ["Example", "Overflow", "encode_examples", "encode_prompt", "format_prompt"]

Overflow = Literal["cut", "drop"]

TEMPLATE = "### Headline: {headline}\n### Article:\n"


class Example(NamedTuple):
    """A training example.

    Attributes:
        input_ids: prompt, article and EOS, no longer than `max_length`.
        prompt_length: `input_ids[prompt_length:]` is what the loss is taken on.
        full_length: tokens that it had before it was cut.
    """

    input_ids: list[int]
    prompt_length: int
    full_length: int


def format_prompt(headline: str) -> str:
    """Put a headline into the template, on one line: a headline can then never open a section of its own."""
    return TEMPLATE.format(headline=" ".join(headline.split()))


def encode_texts(tokenizer: PreTrainedTokenizerBase, texts: list[str]) -> list[list[int]]:
    """Token ids of plain texts. A special token written inside one (`</s>`) is encoded as the text that it is."""
    ids: list[list[int]] = tokenizer(texts, add_special_tokens=False, split_special_tokens=True).input_ids
    return ids


def encode_prompts(tokenizer: PreTrainedTokenizerBase, headlines: list[str]) -> list[list[int]]:
    """Token ids of prompts, opened by BOS where the tokenizer's model was pretrained with one."""
    opening: list[int] = [i for i in tokenizer("").input_ids if i == tokenizer.bos_token_id]
    return [opening + ids for ids in encode_texts(tokenizer, list(map(format_prompt, headlines)))]


def encode_prompt(tokenizer: PreTrainedTokenizerBase, headline: str) -> list[int]:
    """Token ids of one prompt."""
    return encode_prompts(tokenizer, [headline])[0]


def encode_examples(
    tokenizer: PreTrainedTokenizerBase, headlines: list[str], articles: list[str], max_length: int, overflow: Overflow
) -> list[Example | None]:
    """Encode prompt, article and closing EOS of each pair.

    Args:
        max_length: most tokens of prompt, article and EOS together.
        overflow: `cut` keeps the beginning of a longer example, without EOS (it did not end there: trl#1623);
            `drop` leaves it out.

    Returns:
        For each pair its example; None where it is left out, or where the prompt alone fills `max_length`.
    """
    found: list[Example | None] = []
    bodies = encode_texts(tokenizer, articles)
    for prompt, body in zip(encode_prompts(tokenizer, headlines), bodies, strict=True):
        ids = [*prompt, *body, tokenizer.eos_token_id]
        fits = len(prompt) < max_length and (len(ids) <= max_length or overflow == "cut")
        found.append(Example(ids[:max_length], len(prompt), len(ids)) if fits else None)
    return found
