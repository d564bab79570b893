"""Where a classifier is right and how sure one can be of it, for the report.

Shapes: N reviews.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sentiment.report.metrics import Z_95, wilson_interval

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Flags = NDArray[np.bool_]

CALIBRATION_BINS, LENGTH_GROUPS = 10, 8
MOST_RATINGS = 20
"""Distinct ones: with more the column is no rating by stars."""


class Share(NamedTuple):
    """How many of some reviews, with the 95 % interval of the share (Wilson, 1927)."""

    name: str
    hits: int
    total: int
    low: float
    high: float

    @property
    def value(self) -> float:
        """The share itself."""
        return self.hits / self.total


class Bin(NamedTuple):
    """Reviews of about the same probability: its mean, and how many of them are positive."""

    mean: float
    positive: Share


def share(name: str, is_counted_N: Flags) -> Share:
    """The share of True, of at least one."""
    hits, total = int(is_counted_N.sum()), len(is_counted_N)
    return Share(name, hits, total, *wilson_interval(hits, total))


def by_length(lengths_N: Integers, is_right_N: Flags, groups: int = LENGTH_GROUPS) -> list[Share]:
    """Accuracy of about equally many reviews each, from the shortest to the longest."""
    inner = np.linspace(0, 1, groups + 1)[1:-1]
    group_N = np.searchsorted(np.unique(np.quantile(lengths_N, inner)), lengths_N)
    found = []
    for group in np.unique(group_N):
        lengths = lengths_N[group_N == group]
        name = f"{lengths.min()}–{lengths.max()}" if np.ptp(lengths) else f"{lengths[0]}"  # noqa: RUF001
        found.append(share(name, is_right_N[group_N == group]))
    return found


def by_rating(ratings_N: Floats, is_right_N: Flags) -> list[Share]:
    """Accuracy of reviews of each rating; of none where none, or too many, are known."""
    ratings = np.unique(ratings_N[np.isfinite(ratings_N)])
    if len(ratings) > MOST_RATINGS:
        return []
    return [share(f"{rating:g}", is_right_N[ratings_N == rating]) for rating in ratings]


def by_value(values: Sequence[object], is_right_N: Flags) -> list[Share]:
    """Accuracy for each value, the most frequent first; missing ones are a value, too."""
    named = np.array(["none" if value is None else str(value) for value in values], object)
    names, group_N = np.unique(named, return_inverse=True)
    totals, hits = np.bincount(group_N), np.bincount(group_N[is_right_N], minlength=len(names))
    found = []
    for group in np.argsort(-totals, kind="stable"):
        hit, total = int(hits[group]), int(totals[group])
        found.append(Share(names[group], hit, total, *wilson_interval(hit, total)))
    return found


def calibration(probability_N: Floats, is_positive_N: Flags) -> list[Bin]:
    """What comes of reviews of about the same probability, from 0 to 1 in ten steps."""
    bin_N = np.minimum((probability_N * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)
    found = []
    for number in np.unique(bin_N):
        name = f"{number / CALIBRATION_BINS:.1f}–{(number + 1) / CALIBRATION_BINS:.1f}"  # noqa: RUF001
        inside = bin_N == number
        found.append(Bin(probability_N[inside].mean(), share(name, is_positive_N[inside])))
    return found


def f1_interval(true_positives: int, errors: int) -> tuple[float, float]:
    """95 % interval of F1, a rising function of the share TP / (TP + errors)."""
    if true_positives + errors == 0:
        return 0.0, 1.0
    low, high = wilson_interval(true_positives, true_positives + errors)
    return 2 * low / (1 + low), 2 * high / (1 + high)


def auroc_interval(logits_N: Floats, is_positive_N: Flags) -> tuple[float, float]:
    """95 % interval of the area under the ROC curve (DeLong et al., 1988)."""
    positive, negative = np.sort(logits_N[is_positive_N]), np.sort(logits_N[~is_positive_N])
    if min(len(positive), len(negative)) < 2:
        return 0.0, 1.0
    below = _share_below(negative, positive), 1 - _share_below(positive, negative)
    area = below[0].mean()
    half = Z_95 * math.sqrt(sum(part.var(ddof=1) / len(part) for part in below))
    return max(0.0, area - half), min(1.0, area + half)


def _share_below(values: Floats, points: Floats) -> Floats:
    """Of each point the share of the sorted values below it, of equal ones the half."""
    sides = [np.searchsorted(values, points, side) for side in ("left", "right")]
    found: Floats = (sides[0] + sides[1]) / (2 * len(values))
    return found


def mean_interval(values_N: Floats) -> tuple[float, float]:
    """95 % interval of a mean."""
    half = Z_95 * values_N.std() / math.sqrt(len(values_N))
    return values_N.mean() - half, values_N.mean() + half
