"""Finds the instruction that all prompts share around their headlines ("Write a satirical article for: ...")."""

import re
from collections.abc import Sequence
from itertools import takewhile

__all__ = ["find_instruction", "measure_instruction"]

ENOUGH = 0.95  # share of the prompts that begin or end with it
FEWEST = 3  # different prompts: two headlines may begin alike
WORDS = 3  # a beginning of as many is an instruction; a shorter one is, if a sign ends it ("Headline:")


def find_instruction(prompts: Sequence[str]) -> tuple[str, str]:
    """Return the beginning and the end that nearly all prompts share, "" for none. Neither ends inside a word."""
    before = re.sub(r"\w+\Z", "", shared(prompts)).rstrip()
    if not is_instruction(before, before[-1:]):
        before = ""
    rests = [prompt.strip().removeprefix(before)[::-1] for prompt in prompts]
    after = re.sub(r"\A\w+", "", shared(rests)[::-1]).lstrip()
    if not before and not is_instruction(after, after[:1], after[-1:]):
        after = ""
    return before, after


def is_instruction(text: str, *edges: str) -> bool:
    words = len(re.findall(r"\w+", text))
    return words >= WORDS or (words > 0 and not all(map(str.isalnum, edges)))


def shared(texts: Sequence[str]) -> str:
    """Return the longest beginning that enough texts have in common; "" if there are too few different ones."""
    ordered = sorted(text.strip() for text in texts)
    count = -int(-ENOUGH * len(ordered) // 1)
    if len(set(ordered)) < FEWEST:
        return ""
    pairs = zip(ordered, ordered[count - 1 :], strict=False)  # the first and the last of those that may begin alike
    return max((common_beginning(*pair) for pair in pairs), key=len)


def common_beginning(first: str, second: str) -> str:
    alike = takewhile(lambda pair: pair[0] == pair[1], zip(first, second, strict=False))
    return "".join(sign for sign, _ in alike)


def measure_instruction(prompt: str, before: str, after: str) -> tuple[int, int]:
    """Return how many characters of a prompt are the instruction before and after its headline, with the spaces there.

    A prompt without the beginning has no instruction.
    """
    start, end = len(prompt) - len(prompt.lstrip()), len(prompt.rstrip())
    begins = prompt.startswith(before, start)
    start += len(before) if begins else 0
    ends = after != "" and prompt.endswith(after, start, end)
    if not begins or not (before or ends):
        return 0, 0
    headline = prompt[start : end - len(after) if ends else end]
    start += len(headline) - len(headline.lstrip())
    return start, len(prompt) - start - len(headline.strip())
