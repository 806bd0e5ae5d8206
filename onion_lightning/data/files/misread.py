"""Finds out that text is UTF-8 that was decoded with another encoding, as a whole file, and decodes it again."""

import codecs
import logging
from collections.abc import Sequence
from functools import cache
from typing import Any

from ftfy.fixes import restore_byte_a0

from onion_lightning.data.files.cells import RawRow

__all__ = ["decode_again", "find_misreading"]

log = logging.getLogger(__name__)

SHARE = 0.9  # of the rows with characters beyond ASCII
DISTINCT = 5  # decoded characters beyond ASCII; fewer may be a coincidence, as "JOSÉ—" is
# Of encodings that explain as many rows, the first is named.
ENCODINGS = [
    *("cp1252", "latin-1", "mac_roman", "cp437", "cp850"),
    *("cp1250", "cp1251", "cp1253", "cp1254", "cp1255", "cp1256", "cp1257", "cp1258", "cp874"),
    *("koi8_r", "koi8_u", "cp866", "cp852", "mac_cyrillic"),
    *(f"iso8859_{part}" for part in (2, 5, 7, 9, 15)),
]


def find_misreading(rows: Sequence[RawRow], source: str) -> str:
    """Return the single-byte encoding in which UTF-8 was decoded, and log a warning; "" if none explains the rows.

    Args:
        rows: the first rows of a table.
        source: name of the table for the message.
    """
    texts = [(row["headline"] or "", row["article"] or "") for row in rows]
    texts = [pair for pair in texts if not "".join(pair).isascii()]
    found = {encoding: [decode_row(*pair, encoding) for pair in texts] for encoding in ENCODINGS if texts}
    counts = {encoding: len(pairs) - pairs.count(None) for encoding, pairs in found.items()}
    best = max(counts, key=counts.__getitem__, default="")
    if not best or counts[best] < SHARE * len(texts):
        return ""
    letters = {letter for pair in found[best] if pair for text in pair for letter in text if not letter.isascii()}
    if len(letters) < DISTINCT:
        return ""
    log.warning(
        "%s: the text is UTF-8 that was decoded as %s, in %d of the first %d rows with characters beyond ASCII; it is decoded"
        " again, row by row (--data.skip_cleaning '[\"encoding\"]' leaves it as it is).",
        *(source, best, counts[best], len(texts)),
    )
    return best


def decode_row(headline: str, article: str, encoding: str) -> tuple[str, str] | None:
    """Return both texts, decoded as UTF-8 from their bytes in an encoding; None if one of them cannot be, as a whole."""
    first = decode_again(headline, encoding)
    second = None if first is None else decode_again(article, encoding)
    return None if first is None or second is None else (first, second)


def decode_again(text: str, encoding: str) -> str | None:
    if text.isascii():
        return text
    try:
        data = codecs.charmap_encode(text, "strict", encoder(encoding))[0]
    except UnicodeEncodeError:
        return None
    try:
        return data.decode()
    except UnicodeDecodeError:
        pass
    try:
        return restore_byte_a0(data).decode()  # no-break spaces often become plain ones
    except UnicodeDecodeError:
        return None


@cache
def encoder(encoding: str) -> Any:
    """Return the bytes of the characters of an encoding. Undefined bytes are controls, as on Windows and in browsers."""
    table = [bytes([byte]).decode(encoding, "ignore") or chr(byte) for byte in range(256)]
    return codecs.charmap_build("".join(table))
