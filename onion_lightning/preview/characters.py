"""Characters that a tokenizer has no token for: it spells them in bytes, or loses them."""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from typing import Literal, NamedTuple

from transformers import PreTrainedTokenizerBase

from onion_lightning.data.prompt import encode_texts

__all__ = ["SpelledCharacter", "spelled_characters"]

BYTE = re.compile(r"<0x[0-9A-F]{2}>")  # a token of SentencePiece that stands for a byte


class SpelledCharacter(NamedTuple):
    """A character without a token of its own.

    Attributes:
        character: one code point.
        name: of the character, in Unicode.
        rows: number of rows that contain it.
        tokens: number of tokens that spell it.
        spelled: in bytes, or as the unknown token, or as other characters that it is replaced with.
    """

    character: str
    name: str
    rows: int
    tokens: int
    spelled: Literal["bytes", "unknown", "replaced"]


def spelled_characters(tokenizer: PreTrainedTokenizerBase, texts: Iterable[str]) -> list[SpelledCharacter]:
    """Return the characters of some texts that the tokenizer can only spell in bytes, the most frequent ones first.

    A character is spelled in bytes if none of the tokens that encode it alone decodes to a text with the character in it.
    These are the byte tokens of SentencePiece, and the parts of a character in byte-level BPE. The line feed is left out: the
    template contains it, and every tokenizer has a token for it, be it a byte.
    """
    rows: Counter[str] = Counter()
    for text in texts:
        rows.update(set(text))
    characters = sorted(rows.keys() - {"\n"}, key=lambda character: (-rows[character], character))
    encoded = zip(characters, encode_texts(tokenizer, characters), strict=True)
    return [
        describe(tokenizer, character, ids, rows[character])
        for character, ids in encoded
        if not any(spells(tokenizer, number, character) for number in ids)
    ]


def describe(tokenizer: PreTrainedTokenizerBase, character: str, ids: list[int], rows: int) -> SpelledCharacter:
    name = unicodedata.name(character, f"U+{ord(character):04X}").lower()
    in_bytes = sum(bool(BYTE.fullmatch(entry)) for entry in tokenizer.convert_ids_to_tokens(ids))
    if tokenizer.unk_token_id is not None and tokenizer.unk_token_id in ids:
        return SpelledCharacter(character, name, rows, 1, "unknown")
    spelled: Literal["bytes", "replaced"] = "bytes" if character in tokenizer.decode(ids) else "replaced"
    return SpelledCharacter(character, name, rows, in_bytes or len(ids), spelled)


def spells(tokenizer: PreTrainedTokenizerBase, number: int, character: str) -> bool:
    """Return whether a token decodes to a text with a character in it."""
    if BYTE.fullmatch(str(tokenizer.convert_ids_to_tokens(number))):
        return False
    # SentencePiece drops the space at the beginning of what it decodes.
    return character in tokenizer.decode([number]) or (character == " " and number != tokenizer.unk_token_id)
