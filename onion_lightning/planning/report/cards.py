"""Common cards: their memory, dense 16-bit speed and memory bandwidth, and how to find one by name."""

import re
from difflib import get_close_matches
from typing import NamedTuple

from onion_lightning.errors import OnionError

__all__ = ["CARDS", "Card", "find_card", "match_card"]


class Card(NamedTuple):
    """A card.

    Attributes:
        name: as it is printed.
        gigabytes: memory, in 10**9 bytes.
        teraflops: 10**12 operations a second of dense matrix products in float16 or bfloat16, accumulated in float32; None if
            unknown.
        bandwidth: of the memory in 10**9 bytes a second; None if unknown.
        bfloat16: whether the hardware has bfloat16.
        words: further words for it, such as those in the name that the driver reports.
    """

    name: str
    gigabytes: float
    teraflops: float | None = None
    bandwidth: float | None = None
    bfloat16: bool = True
    words: str = ""


# Sources: NVIDIA's data sheets of T4, V100, A10, A30, A40, A100, L4, L40, L40S, H100, H200, HGX B200, RTX A4000, A5000 and
# A6000, and RTX 6000 Ada; that of A10G by AWS and NVIDIA; for GeForce cards, the appendices of NVIDIA's white papers on the
# architectures Turing (TU102), Ampere (GA102), Ada (AD102) and RTX Blackwell, whose rate with accumulation in float32 is half
# of that in float16. Data sheets from Ampere on print rates with 2:4 sparsity, which are twice those here. The memory is that
# of the data sheets in units of 10**9 bytes; cards have a little more.
CARDS = (
    Card("T4", 16, 65, 320, bfloat16=False),
    Card("V100 16GB", 16, 125, 900, bfloat16=False, words="sxm"),
    Card("V100 32GB", 32, 125, 900, bfloat16=False, words="sxm"),
    Card("RTX 2080 Ti", 11, 53.8, 616, bfloat16=False),
    Card("RTX 3080", 10, 59.5, 760),
    Card("RTX 3090", 24, 71, 936),
    Card("RTX 3090 Ti", 24, 80, 1008),
    Card("RTX 4070 Ti", 12, 80.2, 504),
    Card("RTX 4080", 16, 97.5, 717),
    Card("RTX 4090", 24, 165.2, 1008),
    Card("RTX 5080", 16, 112.6, 960),
    Card("RTX 5090", 32, 209.5, 1792),
    Card("RTX A4000", 16, 76.7, 448),
    Card("RTX A5000", 24, 111.1, 768),
    Card("RTX A6000", 48, 154.8, 768),
    Card("RTX 6000 Ada", 48, 364.2, 960),
    Card("A10", 24, 125, 600),
    Card("A10G", 24, 70, 600),
    Card("A30", 24, 165, 933),
    Card("A40", 48, 149.7, 696),
    Card("L4", 24, 121, 300),
    Card("L40", 48, 181, 864),
    Card("L40S", 48, 362, 864),
    Card("A100 40GB", 40, 312, 1555, words="sxm pcie"),
    Card("A100 80GB", 80, 312, 2039, words="sxm"),
    Card("A100 80GB PCIe", 80, 312, 1935),
    Card("H100 SXM", 80, 989, 3350),
    Card("H100 PCIe", 80, 756, 2000),
    Card("H100 NVL", 94, 835, 3900),
    Card("H200", 141, 989, 4800, words="sxm"),
    Card("H200 NVL", 141, 835, 4800),
    Card("B200", 180, 2250, 7700, words="sxm"),
)
SAME = {"sxm2": "sxm", "sxm4": "sxm", "sxm5": "sxm", "hbm3": "sxm", "hbm3e": "sxm"}
MAKER = {"nvidia", "geforce", "tesla", "generation", "rtx", "gpu", "tensor", "core"}


def find_card(asked: str) -> Card:
    """Return the card with a name such as "A100 80GB" or "rtx4090", or one with an amount of memory such as "24GB".

    Raises:
        OnionError: several cards have such a name, or none.
    """
    if amount := re.fullmatch(r"(\d+(?:\.\d+)?) ?GB", asked.strip(), re.IGNORECASE):
        return Card(f"{amount[1]} GB card", float(amount[1]))
    found = matches(asked)
    if len(found) == 1:
        return found[0]
    if found:
        raise OnionError(f"--gpu {asked}: may be {' or '.join(card.name for card in found)}; give one of these names.")
    names = {card.name.lower(): card.name for card in CARDS}
    close = get_close_matches(asked.lower(), names, n=3, cutoff=0.4)
    remedy = (
        f"give {', '.join(names[name] for name in close)}," if close else f"give one of {', '.join(names.values())},"
    )
    raise OnionError(f"--gpu {asked}: is not in the table of cards; {remedy} or the card's memory, such as 24GB.")


def match_card(name: str) -> Card | None:
    """Return the card with the name that a driver reports, such as "NVIDIA A100-SXM4-80GB"; None if it is not known."""
    found = matches(name)
    return found[0] if len(found) == 1 else None


def matches(asked: str) -> list[Card]:
    """Return the cards whose words include all those asked for; a card with no further words alone."""
    wanted = words_of(asked)
    exact = [card for card in CARDS if words_of(card.name) == wanted]
    return exact or [
        card for card in CARDS if wanted and wanted <= words_of(f"{card.name} {card.gigabytes:g}GB {card.words}")
    ]


def words_of(name: str) -> set[str]:
    """Return the words of a name: "NVIDIA A100-SXM4-80 GB" has a100, sxm and 80gb, and "RTX4090" has rtx and 4090."""
    text = re.sub(r"(\d)\s*gb?\b", r"\1gb", name.lower())
    text = re.sub(r"\brtx(?=[a\d])", "rtx ", text)
    return {SAME.get(word, word) for word in re.split(r"[\s\-_]+", text) if word} - MAKER
