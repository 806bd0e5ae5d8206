"""Detects the encoding of a text file: by its byte-order mark, as UTF-8, or with charset-normalizer."""

import codecs
import logging
import re
from collections.abc import Iterator
from itertools import chain
from typing import NamedTuple

from onion_lightning.data.files.opening import Table, open_bytes
from onion_lightning.errors import OnionError

__all__ = ["CONFIDENCE", "detect_encoding"]

log = logging.getLogger(__name__)

CONFIDENCE = 0.9  # 1 less charset-normalizer's measure of mess ("chaos"); below it, no encoding is assumed
CLOSE = 0.02  # encodings whose mess and language fit differ by less are equally likely
DAMAGED = 0.1  # share of the characters beyond ASCII that may be damaged in a file of a known encoding
CHUNK = 1 << 20  # bytes
SAMPLE = 1 << 16  # bytes
MARKS = (  # UTF-32 first: its mark begins with that of UTF-16
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
    (codecs.BOM_UTF8, "utf-8-sig"),
)
CANDIDATES = [
    *("cp1252", "cp1250", "cp1251", "cp1253", "cp1254", "cp1255", "cp1256", "cp1257", "cp1258", "cp874"),
    *("koi8_r", "mac_roman", "cp850", "cp932", "euc_jp", "gb18030", "big5", "cp949"),
]
# Punctuation of cp1252 that is not used inside words, but is where cp850 and MacRoman have accented letters
INSIDE_WORDS = re.compile(rb"[A-Za-z][\x82\x84\x86-\x89\x8b\x98\x9b][a-z]")


class Damage(NamedTuple):
    """Bytes that cannot be decoded.

    Attributes:
        first: position of the first one.
        bad: number of characters that they were replaced with.
        good: number of other characters beyond ASCII.
    """

    first: int
    bad: int
    good: int

    @property
    def slight(self) -> bool:
        return self.bad <= DAMAGED * (self.bad + self.good)


def detect_encoding(table: Table, given: str | None) -> str:
    """Return the encoding of a text file, and log a warning if it is not a Unicode encoding or if bytes are damaged.

    Args:
        table: the file, whose bytes are all read.
        given: the value of `--data.encoding`.

    Raises:
        OnionError: no encoding is likely enough, or too many bytes are not valid in the encoding.
    """
    with open_bytes(table) as stream:
        head = stream.read(4096)
    mark = next((name for mark, name in MARKS if head.startswith(mark)), None)
    if not given and not mark and head.count(0) > len(head) / 10:
        raise OnionError(
            f"--data.path {table.name}: is UTF-16 or UTF-32 without a byte-order mark, or not text; specify"
            " --data.encoding, such as utf-16-le."
        )
    known = "utf-8-sig" if given and codecs.lookup(given).name == "utf-8" else given or mark
    encoding = known or "utf-8-sig"
    damage = find_damage(table, encoding)
    if damage and not known and not damage.slight:
        encoding = guess_encoding(table, damage.first)
        damage = find_damage(table, encoding)
    if damage:
        check_damage(table, encoding, damage, given)
    return encoding


def check_damage(table: Table, encoding: str, damage: Damage, given: str | None) -> None:
    flag = f"--data.encoding {given}: {table.name}" if given else f"--data.path {table.name}:"
    if not damage.slight:
        raise OnionError(
            f"{flag} is not {encoding} (byte {damage.first} cannot be decoded, nor can {damage.bad:,} of"
            f" {damage.bad + damage.good:,} characters beyond ASCII); "
            + ("specify another encoding, or none to detect it." if given else "specify another with --data.encoding.")
        )
    log.warning(
        "%s: %d characters are not valid %s (the first at byte %d); they are replaced with U+FFFD.",
        *(table.name, damage.bad, encoding, damage.first),
    )


def chunks(table: Table) -> Iterator[bytes]:
    with open_bytes(table) as stream:
        while chunk := stream.read(CHUNK):
            yield chunk


def find_damage(table: Table, encoding: str) -> Damage | None:
    """Decode a whole file. Returns what cannot be decoded; None if everything can."""
    strict, position = codecs.getincrementaldecoder(encoding)("strict"), 0
    for final, chunk in ((not chunk, chunk) for chunk in chain(chunks(table), [b""])):
        pending = len(strict.getstate()[0])
        try:
            strict.decode(chunk, final)
        except UnicodeDecodeError as error:
            return count_damage(table, encoding, position - pending + error.start)
        position += len(chunk)
    return None


def count_damage(table: Table, encoding: str, first: int) -> Damage:
    decoder, bad, beyond = codecs.getincrementaldecoder(encoding)("replace"), 0, 0
    for chunk in chain(chunks(table), [b""]):
        text = decoder.decode(chunk, not chunk)
        bad += text.count("\ufffd")
        beyond += len(text) - len(text.encode("ascii", "ignore"))
    return Damage(first, bad, beyond - bad)


def guess_encoding(table: Table, first: int) -> str:
    """Guess the encoding of a file that is not UTF-8 from its lines with bytes beyond ASCII.

    Several encodings can be equally likely for a few accented letters. Then cp1252 is preferred if it is one of them.

    Raises:
        OnionError: no encoding is likely enough, or several equally likely ones give different texts.
    """
    from charset_normalizer import from_bytes

    sample = lines_beyond_ascii(table)
    likely = [match for match in from_bytes(sample, cp_isolation=CANDIDATES) if match.chaos <= 1 - CONFIDENCE]
    if likely:
        best = min(likely, key=lambda match: (match.chaos, -match.coherence))
        equal = [
            match for match in likely if match.chaos <= best.chaos + CLOSE and match.coherence >= best.coherence - CLOSE
        ]
        western = any("cp1252" in match.could_be_from_charset for match in equal) and not INSIDE_WORDS.search(sample)
        if western or len(equal) == 1:
            found = "cp1252" if western else best.encoding
            log.warning(
                "%s is not UTF-8 (byte %d); reading it as %s, with a confidence of %d%%; specify another encoding with"
                " --data.encoding.",
                *(table.name, first, found, 100 * (1 - best.chaos)),
            )
            return found
    raise OnionError(
        f"--data.path {table.name}: is not UTF-8 (byte {first}), and no other encoding can be detected with a confidence of"
        f" {CONFIDENCE:.0%}; specify it with --data.encoding, such as cp1252, cp1251, shift_jis or gb18030."
    )


def lines_beyond_ascii(table: Table) -> bytes:
    """Return the first lines that contain bytes beyond ASCII."""
    found, size = [], 0
    with open_bytes(table) as stream:
        while size < SAMPLE and (line := stream.readline(SAMPLE)):
            if not line.isascii():
                found.append(line)
                size += len(line)
    return b"".join(found)
