"""Hashes of texts."""

import hashlib

__all__ = ["hash64"]


def hash64(text: str) -> int:
    """Return a signed 64-bit hash that is the same on every machine."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big", signed=True)
