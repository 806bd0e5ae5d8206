"""Replaces lone surrogates: half of a character, in text from JSON escapes or from bytes that are not UTF-8."""

import re

__all__ = ["replace_surrogates"]


def replace_surrogates(text: str) -> str:
    """Replace lone surrogates, which no file in UTF-8 and no tokenizer accepts, with U+FFFD."""
    return re.sub("[\ud800-\udfff]", "\ufffd", text)
