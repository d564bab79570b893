"""A text cut at its tokens, each with its weight and how strong that is, to be shown in colour."""

from collections.abc import Sequence
from typing import NamedTuple

LEVELS = 4
"""Shades of a colour."""


class Word(NamedTuple):
    """A piece of a text.

    Attributes:
        text: as it stands there.
        weight: what it adds to the logit; `None` of what lies between tokens or is not read.
        level: 0 to `LEVELS`, compared with the strongest word of the text.
    """

    text: str
    weight: float | None
    level: int


def cut(text: str, tokens: Sequence[tuple[int, int, float]]) -> list[Word]:
    """Cut a text into words which together are the text again.

    Args:
        text: as it was given.
        tokens: start, end and weight of each, in their order. Those that share a character, as
            several of one sign do, become one word.
    """
    joined: list[tuple[int, int, float]] = []
    for start, end, weight in tokens:
        if joined and start < joined[-1][1]:
            first, last, sum_before = joined.pop()
            start, end, weight = first, max(last, end), sum_before + weight
        joined.append((start, end, weight))
    largest = max((abs(weight) for _, _, weight in joined), default=0) or 1
    words, before = [], 0
    for start, end, weight in joined:
        words.append(Word(text[before:start], None, 0))
        words.append(Word(text[start:end], weight, round(LEVELS * abs(weight) / largest)))
        before = end
    return [word for word in [*words, Word(text[before:], None, 0)] if word.text]
