"""Writes the prompt template for other programs, as text and as a `chat_template` that gives the same token ids."""

import json
from typing import cast

from transformers import PreTrainedTokenizerBase

from onion_lightning.data.prompt import TEMPLATE, encode_prompt

__all__ = ["chat_ids", "find_chat_template"]

# A chat template is accepted if it encodes these as training did.
PROBES = ("Area Man Wins", "  Two  spaces,\na line break ", "“Curly” — Ünïcode 🥚", "42", "a", "", "don't: 100% ▁ {x}")

# llama.cpp splits at single spaces, and its server does not start if it cannot run the template.
CHAT_TEMPLATE = """\
{%%- if messages | length != 1 or messages[0]['role'] != 'user' -%%}
{{- raise_exception('Give one message of the role user: the headline.') -}}
{%%- endif -%%}
{{- %s + %s + ((messages[0]['content'] | replace('\\n', ' ')).split() | reject('eq', '') | join(' ')) + %s -}}"""


def find_chat_template(tokenizer: PreTrainedTokenizerBase) -> str | None:
    """Return a chat template whose only message is a headline, with the ids of `encode_prompt`; None if there is none.

    A chat is one text, in which BOS is written out. Some SentencePiece tokenizers then add no space before the first
    word, so that a template with a space after BOS is tried as well.
    """
    before, after = (json.dumps(part, ensure_ascii=False) for part in TEMPLATE.split("{headline}"))
    starts_with_bos = encode_prompt(tokenizer, "")[0] == tokenizer.bos_token_id
    for opening in ("bos_token", "bos_token + ' '") if starts_with_bos else ("''", "' '"):
        template = CHAT_TEMPLATE % (opening, before, after)
        if all(chat_ids(tokenizer, text, template) == encode_prompt(tokenizer, text) for text in PROBES):
            return template
    return None


def chat_ids(tokenizer: PreTrainedTokenizerBase, headline: str, template: str | None = None) -> list[int]:
    """Return the ids of a chat with a headline, with the tokenizer's own template or another one."""
    messages = [{"role": "user", "content": headline}]
    ids = tokenizer.apply_chat_template(
        messages, chat_template=template, add_generation_prompt=True, tokenize=True, return_dict=False
    )
    return cast(list[int], ids)
