"""Probabilities that come true, fitted on validation reviews.

Shapes: N reviews.
"""

from dataclasses import replace

import torch
from torch import Tensor

from sentiment.errors import UserError
from sentiment.training.checkpoint import Checkpoint

LOWEST, HIGHEST = 1e-3, 1e3
"""Between which a temperature is looked for."""
HALVINGS = 60
OUTPUT = ("output.weight", "output.bias")
"""Weights that a logit is a linear function of."""


def fit_temperature(logits_N: Tensor, labels_N: Tensor) -> float:
    """The number by which to divide logits so that their cross entropy is lowest.

    It moves no review across one half (Guo et al., 2017).

    Args:
        logits_N: float32.
        labels_N: 0 or 1.

    Raises:
        UserError: the lowest cross entropy is that of no temperature.
    """
    logits_N, labels_N = logits_N.double(), labels_N.double()

    def slope(temperature: float) -> float:
        """Of the cross entropy over 1 / temperature; it falls as the temperature rises."""
        return float((logits_N * (torch.sigmoid(logits_N / temperature) - labels_N)).mean())

    low, high = LOWEST, HIGHEST
    if not slope(high) < 0 < slope(low):
        found = "worse than by chance" if slope(high) >= 0 else "all right"
        raise UserError(
            f"calibrate=true: the labels of the {len(labels_N)} validation reviews are told "
            f"{found}, which no temperature fits; calibrate with other or more reviews"
        )
    for _ in range(HALVINGS):
        middle = (low * high) ** 0.5
        low, high = (middle, high) if slope(middle) > 0 else (low, middle)
    return high


def best_threshold(logits_N: Tensor, labels_N: Tensor) -> tuple[float, float]:
    """The probability above which to call a review positive, and the accuracy that this gives.

    Of equally good ones it is the nearest to one half.

    Args:
        logits_N: float32.
        labels_N: 0 or 1.
    """
    sorted_N, order_N = logits_N.double().sort()
    is_positive_N = labels_N[order_N] == 1
    # Called negative are none, the lowest one, the lowest two, ...
    none = torch.zeros(1, dtype=torch.int64)
    negatives = torch.cat([none, (~is_positive_N).cumsum(0)])
    positives = is_positive_N.sum() - torch.cat([none, is_positive_N.cumsum(0)])
    right = negatives + positives
    edges = torch.cat([sorted_N[:1].clamp(max=1) - 1, sorted_N, sorted_N[-1:].clamp(min=0) + 1])
    holds_zero = (edges[:-1] <= 0) & (edges[1:] > 0)
    between = torch.sigmoid(torch.where(holds_zero, 0, (edges[:-1] + edges[1:]) / 2))
    is_possible = edges[:-1] < edges[1:]
    best = right[is_possible].max()
    candidates = between[is_possible & (right == best)]
    threshold = candidates[(candidates - 0.5).abs().argmin()]
    return float(threshold), float(best) / len(labels_N)


def divide_logits(checkpoint: Checkpoint, temperature: float) -> Checkpoint:
    """A checkpoint whose logits are those of another, divided by a number."""
    scaled = {name: checkpoint.weights[name] / temperature for name in OUTPUT}
    return replace(checkpoint, weights=checkpoint.weights | scaled)
