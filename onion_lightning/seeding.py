"""Derives reproducible random seeds."""

import hashlib

__all__ = ["mix_seed"]


def mix_seed(*parts: int) -> int:
    """Combine numbers into a seed in [0, 2**63). The result is the same on every machine."""
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1
