"""Drawings of how a classifier's answers and the labels go together.

Figures are built without pyplot, whose state is global, and with places and ticks given, not found:
so each takes a few hundredths of a second.
"""

import warnings
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from sentiment.report.metrics import Calibration

INK, BLUE, GRAY = "#222222", "#1f5fa8", "#9a9a9a"


def confusion_matrix(metrics: Mapping[str, float], names: tuple[str, str]) -> Figure:
    """How many reviews of each label were predicted to have which.

    Args:
        metrics: `binary_metrics`, of which the four counts are drawn.
        names: of the labels 0 and 1.
    """
    counts = ("true_negatives", "false_positives", "false_negatives", "true_positives")
    counts_22 = np.array([metrics[name] for name in counts]).reshape(2, 2)
    share_22 = counts_22 / counts_22.sum(axis=1, keepdims=True).clip(min=1)
    figure = Figure(figsize=(4, 4), dpi=100)
    axes = figure.add_axes((0.2, 0.14, 0.76, 0.76))
    axes.imshow(share_22, cmap="Blues", vmin=0, vmax=1)
    for label in (0, 1):
        for predicted in (0, 1):
            share = share_22[label, predicted]
            axes.text(
                *(predicted, label, f"{counts_22[label, predicted]:,}\n{share:.1%}"),
                ha="center",
                va="center",
                color="white" if share > 0.5 else INK,
                fontsize=13,
            )
    axes.set_xticks([0, 1], [_short(name) for name in names], parse_math=False)
    axes.set_yticks(
        [0, 1], [_short(name) for name in names], rotation=90, va="center", parse_math=False
    )
    axes.tick_params(length=0)
    axes.set(xlabel="predicted", ylabel="label", title="reviews, and share of their label")
    return figure


def reliability_diagram(found: Calibration, name: str) -> Figure:
    """What came true of the probabilities, bin by bin, over how many reviews that is.

    Args:
        found: to be drawn.
        name: of the label 1.
    """
    bins, most = len(found.reviews_K), int(found.reviews_K.max())
    figure = Figure(figsize=(4, 4.8), dpi=100)
    axes = figure.add_axes((0.18, 0.38, 0.78, 0.55), xlim=(0, 1), ylim=(0, 1))
    axes.plot([0, 1], [0, 1], color=GRAY, linewidth=1)
    has_reviews_K = found.reviews_K.numpy() > 0
    axes.plot(
        *(found.predicted_K.numpy()[has_reviews_K], found.observed_K.numpy()[has_reviews_K]),
        marker="o",
        markersize=4,
        color=BLUE,
        clip_on=False,
    )
    axes.set_xticks([0, 0.5, 1], [])
    axes.set_yticks([0, 0.5, 1], ["0", "0.5", "1"])
    axes.set_ylabel(f"share that is {_short(name)}", parse_math=False)
    axes.set_title(f"expected calibration error {found.error:.4f}")

    below = figure.add_axes((0.18, 0.12, 0.78, 0.22), xlim=(0, 1), ylim=(0, 1.6 * most))
    below.stairs(found.reviews_K.numpy(), np.linspace(0, 1, bins + 1), fill=True, color=BLUE)
    for place, count in enumerate(found.reviews_K.tolist()):
        if count > 0:
            at = ((place + 0.5) / bins, count + 0.05 * most)
            below.text(*at, f"{count:,}", size=7, rotation=90, ha="center", va="bottom")
    below.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
    below.set_yticks([])
    below.set_ylabel("reviews")
    below.set_xlabel(f"predicted probability of {_short(name)}", parse_math=False)
    return figure


def pixels(figure: Figure) -> NDArray[np.uint8]:
    """Render a figure: `[height, width, 3]`, the same bytes for the same figure."""
    canvas = FigureCanvasAgg(figure)
    with warnings.catch_warnings():
        # A label in a script that the font lacks is drawn as boxes, once per figure.
        warnings.filterwarnings("ignore", "Glyph .* missing from font", UserWarning)
        canvas.draw()  # type: ignore[no-untyped-call]
    return np.asarray(canvas.buffer_rgba())[:, :, :3]  # type: ignore[no-untyped-call]


def save(figure: Figure, path: Path) -> None:
    """Write a PNG that is whole or not there, with the same bytes for the same figure."""
    partial = path.with_name(path.name + ".partial")
    figure.savefig(
        partial, dpi=100, format="png", metadata={"Software": None}, pil_kwargs={"optimize": True}
    )
    partial.replace(path)


def _short(name: str) -> str:
    return name if len(name) <= 20 else name[:19] + "…"
