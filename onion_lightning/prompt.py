"""The prompt template, and how prompts and training examples become token ids.

Prompt and article are tokenized apart and their ids joined: SentencePiece puts a space before the first word of
whatever it encodes, so the joint encoding of both would differ from what `generate` continues from.
"""

from typing import Literal, NamedTuple

from transformers import PreTrainedTokenizerBase

__all__ = ["Example", "Overflow", "encode_example", "encode_prompt", "format_prompt"]

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


def encode_text(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Token ids of plain text. A special token written inside it (`</s>`) is encoded as the text that it is."""
    ids: list[int] = tokenizer(text, add_special_tokens=False, split_special_tokens=True).input_ids
    return ids


def encode_prompt(tokenizer: PreTrainedTokenizerBase, headline: str) -> list[int]:
    """Token ids of the prompt, opened by BOS where the tokenizer's model was pretrained with one."""
    opening: list[int] = [i for i in tokenizer("").input_ids if i == tokenizer.bos_token_id]
    return opening + encode_text(tokenizer, format_prompt(headline))


def encode_example(
    tokenizer: PreTrainedTokenizerBase, headline: str, article: str, max_length: int, overflow: Overflow
) -> Example | None:
    """Encode prompt, article and closing EOS.

    Args:
        max_length: most tokens of prompt, article and EOS together.
        overflow: `cut` keeps the beginning of a longer example, without EOS (it did not end there: trl#1623);
            `drop` leaves it out.

    Returns:
        None where the example is left out, or where the prompt alone fills `max_length`.
    """
    prompt = encode_prompt(tokenizer, headline)
    ids = [*prompt, *encode_text(tokenizer, article), tokenizer.eos_token_id]
    cut = len(ids) > max_length
    if len(prompt) >= max_length or (cut and overflow == "drop"):
        return None
    return Example(ids[:max_length], len(prompt), len(ids))
