"""Exports of a tiny model with trained adapters."""

from tests.export.conftest import checkpoint, exported

__all__ = ["checkpoint", "exported"]
