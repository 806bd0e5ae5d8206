"""Seeds and hashes that are the same on every machine."""

import hashlib

__all__ = ["hash64", "mix_seed"]


def mix_seed(*parts: int) -> int:
    """Combine numbers into a seed in [0, 2**63)."""
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def hash64(text: str) -> int:
    """Return a signed 64-bit hash of a text."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big", signed=True)
