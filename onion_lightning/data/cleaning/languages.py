"""Detects the language of articles, offline."""

from functools import cache
from typing import Any

__all__ = ["detect_language", "known_languages"]

READ = 600  # characters of an article that are looked at


@cache
def detector() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier  # late: its model is as large as all of this package

    return LanguageIdentifier.from_model_file(MODEL_FILE)


def detect_language(text: str) -> str:
    """Return the ISO 639-1 code of a text's language, by the n-grams of langid (Lui and Baldwin 2012)."""
    return str(detector().classify(text[:READ])[0])


def known_languages() -> list[str]:
    """Return the codes that `detect_language` can return."""
    return sorted(map(str, detector().labels))
