"""Mends a dateline whose dash was lost, and finds where an aggregator cut an article off."""

import re

__all__ = ["find_cut", "mend_dateline"]

# Certain are two words or a state in capitals, or one word too long to be an acronym, followed by a capitalized word. A
# short one may be the end of an acronym ("US CEOs").
CITY = r"[A-Z]{2,}(?:[ .-]+[A-Z]{2,})+|[A-Z]{7,}|[A-Z]{2,}(?:[ .-]+[A-Z]{2,})*, [A-Z]{2}"
FUSED = re.compile(rf"(?P<city>{CITY})(?=(?:[A-Z][a-z]{{2,}}|In|At|On|An|It|He|By|If|We|To|No|So)[ ,])")

ELLIPSIS = r"(?:\.\.\.|…)"
STORY = r"(?:story|article|post|piece|report|column|interview)"
FULL = rf"(?:click here to )?(?:read|see|view|get) (?:the )?(?:full|whole|entire|complete|rest of (?:the|this)) {STORY}"
# A sentence of its own at the end, or a line of its own on one of the last lines.
ALONE = rf"(?:^|(?<=[.!?…\"”»)]\s))\W*(?:{FULL}|(?:continue|keep) reading)\b[^\n.!?]{{0,40}}\W*$"
CUTS = [
    re.compile(pattern, re.IGNORECASE | re.MULTILINE)
    for pattern in (
        rf"{ELLIPSIS}?\s*\[\s*\+\s*\d[\d,.]*\s*(?:chars?|characters|words)\s*\]",  # "… [+2101 chars]"
        rf"{ELLIPSIS}?\s*(?:\[\s*{ELLIPSIS}\s*\]|\(\s*(?:more|continued)\s*{ELLIPSIS}?\s*\))\W*\Z",  # "[...]", "(more…)"
        ALONE,  # "Read the full story"
        r"(?:^|(?<=[.!?…\"”»)]\s))\W*read (?:on|more)\W*\Z",
    )
]
# Contained in whatever `CUTS` find, in lower case
HINTS = (
    "[",
    "(more",
    "(cont",
    "ue reading",
    "ep reading",
    "read on",
    "read more",
    " full ",
    " whole ",
    " entire ",
    " complete ",
    "rest of th",
)
REACH = 300  # characters at the end that are searched


def mend_dateline(article: str) -> str:
    """Put a dash between a dateline and the first word of an article ("LOS ANGELESEarly reviews"), where it is certain."""
    match = FUSED.match(article)
    return article if match is None else f"{match['city']}—{article[match.end() :]}"


def find_cut(article: str) -> int | None:
    """Return the position at which an article was cut off, before the marker that says so; None if it was not."""
    start = max(len(article) - REACH, 0)
    tail = article[start:].lower()
    if not any(hint in tail for hint in HINTS):
        return None
    found = [match.start() for match in (cut.search(article, start) for cut in CUTS) if match]
    return len(article[: min(found)].rstrip()) if found else None
