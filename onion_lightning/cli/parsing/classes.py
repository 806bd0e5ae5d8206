"""Chooses the module and the data module of a command, before its flags are parsed."""

from collections.abc import Callable, Sequence
from typing import Any

from onion_lightning.cli.parsing.arguments import given_setting
from onion_lightning.cli.parsing.precedence import TRAINING
from onion_lightning.data.module import OnionDataModule
from onion_lightning.data.preferences.module import PreferenceDataModule
from onion_lightning.model.module import OnionModule
from onion_lightning.model.preferences.module import PreferenceModule

__all__ = ["choose_classes"]


def choose_classes(args: Sequence[str]) -> tuple[Callable[..., OnionModule], Callable[..., OnionDataModule]]:
    """Return what builds the module and the data module, with their flags.

    With `--data.pairs`, commands that train learn preferences; others take the flags for that, which have no effect, so that
    one config serves all.
    """
    if given_setting(args, "data.pairs") is None:
        return OnionModule, OnionDataModule
    return (PreferenceModule, PreferenceDataModule) if args[0] in TRAINING else (without_preferences, without_pairs)


def without_preferences(
    beta: Any = None, length_normalized: Any = None, rpo_alpha: Any = None, **kwargs: Any
) -> OnionModule:
    """Build an `OnionModule`.

    Args:
        beta: for fit.
        length_normalized: for fit.
        rpo_alpha: for fit.
        kwargs: the flags of `OnionModule`.
    """
    return OnionModule(**kwargs)


def without_pairs(pairs: Any = None, **kwargs: Any) -> OnionDataModule:
    """Build an `OnionDataModule`.

    Args:
        pairs: for fit.
        kwargs: the flags of `OnionDataModule`.
    """
    return OnionDataModule(**kwargs)
