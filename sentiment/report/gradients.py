"""How far a gradient reaches, and what gates do: figures of the inside of the encoder.

Shapes: T time, H hidden size of one direction.
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

NOTICEABLE = 0.01
TOKENS_SHOWN = 28
LONGEST_LABEL = 14


class Curve(NamedTuple):
    """Gradient norms of one direction of a layer.

    Attributes:
        layer: counted from 1.
        direction: `left_to_right` or `right_to_left`.
        norms: by distance from the last token that this direction reads, which is at 0.
    """

    layer: int
    direction: str
    norms: list[float]

    @property
    def name(self) -> str:
        """As part of a tag."""
        return f"layer_{self.layer}_{self.direction}"

    @property
    def reach(self) -> int:
        """Tokens, counted from the end, before the norm first falls under 1 % of that at the end.

        All of them, where it never does.
        """
        faded = (n for n, norm in enumerate(self.norms) if norm <= NOTICEABLE * self.norms[0])
        return next(faded, len(self.norms))


class Gate(NamedTuple):
    """A gate of one direction over a review.

    Attributes:
        name: with its direction.
        values_TH: from 0, closed, to 1, open; in the order of the text.
    """

    name: str
    values_TH: "NDArray[np.float64]"


class Gates(NamedTuple):
    """The gates of a layer over a review, whose tokens these are."""

    layer: int
    tokens: list[str]
    gates: list[Gate]


def draw_gradients(curves: Sequence[Curve], title: str) -> "Figure":
    """Draw gradient norms by distance, a line per layer and direction."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 3.6))
    axes = figure.add_axes((0.11, 0.13, 0.86, 0.79))
    for curve in curves:
        style = "-" if curve.direction == "left_to_right" else "--"
        direction = curve.direction.replace("_", " ")
        plot_norms(
            axes, curve.norms, f"C{curve.layer - 1}{style}", f"layer {curve.layer}, {direction}"
        )
    axes.set_ylabel("gradient norm of the hidden state")
    axes.set_title(title, fontsize=10)
    axes.legend(fontsize=8)
    return figure


def plot_norms(axes: "Axes", norms: Sequence[float], style: str, label: str) -> None:
    """Add a line to axes over distance, whose norms are logarithmic."""
    from matplotlib.ticker import LogLocator, NullLocator

    # What is 0 has no logarithm, and a figure of nothing else no limits.
    axes.plot([norm if norm > 0 else math.nan for norm in norms], style, lw=1.2, label=label)
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(numticks=8))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter("{x:.0e}")  # drawn in half the time of powers
    axes.set_xlabel("tokens from the one read last")


def draw_gates(layer: Gates, title: str) -> "Figure":
    """Draw gates over the last tokens of a review, a row per unit, bright where a gate is open."""
    import numpy as np
    from matplotlib.figure import Figure

    tokens = layer.tokens[-TOKENS_SHOWN:]
    figure = Figure(figsize=(8, 5))
    axes = figure.add_axes((0.16, 0.16, 0.82, 0.78))
    blocks, middles, height = [], [], 0
    for _, values_TH in layer.gates:
        shown_HT = values_TH[-TOKENS_SHOWN:].T
        space = max(1, len(shown_HT) // 8)
        blocks += [shown_HT, np.full((space, len(tokens)), np.nan)]
        middles.append(height + (len(shown_HT) - 1) / 2)
        height += len(shown_HT) + space
    axes.imshow(np.concatenate(blocks[:-1]), aspect="auto", vmin=0, vmax=1, interpolation="nearest")
    axes.set_yticks(middles, [gate.name for gate in layer.gates], fontsize=8)
    labels = [token[:LONGEST_LABEL] for token in tokens]
    axes.set_xticks([])  # a tick takes as long as its label
    for place, label in enumerate(labels):
        text = axes.text(place, height, label, ha="center", va="top", rotation=90, fontsize=8)
        text.set_parse_math(False)
    axes.set_title(title, fontsize=10)
    return figure
