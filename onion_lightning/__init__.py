"""Fine-tune Llama-2 7B on headlines and articles, and write satirical news articles for new headlines.

The command is `python -m onion_lightning` or `onion-lightning`. The names in `__all__` are imported when they are first used:
importing the package alone does not import torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from onion_lightning.attention.effects.experiment import EffectSettings
    from onion_lightning.attention.phrase_attention import attend
    from onion_lightning.data.module import OnionDataModule
    from onion_lightning.model.decoding import Decoding
    from onion_lightning.model.module import OnionModule
    from onion_lightning.model.writing.best_of import write_articles

__all__ = ["Decoding", "EffectSettings", "OnionDataModule", "OnionModule", "attend", "write_articles"]

__version__ = "0.2.0"

MODULES = {
    "Decoding": "onion_lightning.model.decoding",
    "EffectSettings": "onion_lightning.attention.effects.experiment",
    "OnionDataModule": "onion_lightning.data.module",
    "OnionModule": "onion_lightning.model.module",
    "attend": "onion_lightning.attention.phrase_attention",
    "write_articles": "onion_lightning.model.writing.best_of",
}


def __getattr__(name: str) -> Any:
    if name in MODULES:
        return getattr(import_module(MODULES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
