"""An explained text on a terminal."""

import unicodedata
from collections.abc import Sequence

from sentiment.report.words import cut

# Of the 256 colours, from pale to strong; black letters can be read on each.
GREENS, REDS = (194, 157, 120, 83), (224, 217, 210, 203)
LEVEL_TO_NAME = 2
"""From here on a word's weight is written beside it where there are no colours."""


def explained(
    text: str,
    label: str | None,
    probability: float | None,
    tokens: Sequence[tuple[int, int, float]],
    *,
    coloured: bool,
) -> str:
    """Label and probability, and the text with its words coloured.

    Args:
        text: as it was given; signs that would steer the terminal are replaced.
        label: `None` for an empty text.
        probability: of the positive label.
        tokens: start, end and weight of each.
        coloured: green adds to the positive label, red to the negative one; else the weights of the
            strongest words stand beside them.
    """
    if label is None:
        return "empty text\n"
    head = f"{label} {probability}"
    shown = []
    for piece, weight, level in cut(text, tokens):
        word = "".join(map(_harmless, piece))
        if weight is not None and coloured and level > 0:
            colour = (GREENS if weight > 0 else REDS)[level - 1]
            word = f"\x1b[38;5;16;48;5;{colour}m{word}\x1b[0m"
        elif weight is not None and not coloured and level >= LEVEL_TO_NAME:
            word = f"{word}[{weight:+.2f}]"
        shown.append(word)
    head = f"\x1b[1m{head}\x1b[0m" if coloured else head
    return f"{head}\n{''.join(shown)}\n"


def _harmless(sign: str) -> str:
    is_control = unicodedata.category(sign) == "Cc" and sign not in "\n\t"
    return "\N{REPLACEMENT CHARACTER}" if is_control else sign
