"""Figures of a classifier over a whole data set."""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torchmetrics.functional.classification import (
    binary_auroc,
    binary_calibration_error,
    binary_confusion_matrix,
    binary_stat_scores,
)

from sentiment.config import THRESHOLD

BINS = 15
Z_95 = 1.959963984540054  # the normal distribution's 97.5 % quantile


def binary_metrics(logits_N: Tensor, labels_N: Tensor) -> dict[str, float]:
    """Count and average over all N reviews at once, never over batch means.

    Args:
        logits_N: float32.
        labels_N: 0 or 1.

    Returns:
        Mean loss (without `pos_weight`), accuracy with the ends of its 95 % interval, F1 of the
        positive class, area under the ROC curve, expected calibration error, the four counts, and
        N, by name.
    """
    logits_N, labels_N = logits_N.double().cpu(), labels_N.long().cpu()
    # torchmetrics guesses from the values whether it is given logits; probabilities are explicit.
    probability_N = torch.sigmoid(logits_N)
    (tn, fp), (fn, tp) = binary_confusion_matrix(probability_N, labels_N, THRESHOLD).tolist()
    low, high = wilson_interval(tn + tp, len(labels_N))
    return {
        "loss": nn.functional.binary_cross_entropy_with_logits(logits_N, labels_N.double()).item(),
        "accuracy": (tn + tp) / len(labels_N),
        "accuracy_low": low,
        "accuracy_high": high,
        "f1": 2 * tp / max(2 * tp + fp + fn, 1),
        "auroc": binary_auroc(probability_N, labels_N).item(),
        "calibration_error": calibration(logits_N, labels_N).error,
        "true_negatives": tn,
        "false_positives": fp,
        "false_negatives": fn,
        "true_positives": tp,
        "reviews": len(labels_N),
    }


def wilson_interval(successes: int, trials: int) -> tuple[float, float]:
    """95 % confidence interval of a proportion (Wilson, 1927)."""
    proportion, z2 = successes / trials, Z_95**2
    center = (proportion + z2 / (2 * trials)) / (1 + z2 / trials)
    spread = math.sqrt(proportion * (1 - proportion) / trials + z2 / (4 * trials**2))
    half = Z_95 * spread / (1 + z2 / trials)
    return max(0.0, center - half), min(1.0, center + half)


class Calibration(NamedTuple):
    """What came true of the probabilities, in K bins of equal width (Guo et al., 2017).

    Attributes:
        reviews_K: how many fall into each bin.
        predicted_K: mean probability of being positive, NaN in a bin without reviews.
        observed_K: share of the reviews that are positive, NaN in a bin without reviews.
        error: mean over all reviews of the difference between the two, the expected calibration
            error.
    """

    reviews_K: Tensor
    predicted_K: Tensor
    observed_K: Tensor
    error: float


def calibration(logits_N: Tensor, labels_N: Tensor, bins: int = BINS) -> Calibration:
    """Compare the probability of being positive with how often this is the case.

    Args:
        logits_N: float32.
        labels_N: 0 or 1.
        bins: K.
    """
    probability_N, labels_N = torch.sigmoid(logits_N.double().cpu()), labels_N.long().cpu()
    bounds = torch.linspace(0, 1, bins + 1, dtype=torch.float64)
    bin_N = (torch.bucketize(probability_N, bounds, right=True) - 1).clamp(max=bins - 1)
    reviews_K, probability_K, positive_K = (
        torch.bincount(bin_N, weights, bins)
        for weights in (torch.ones_like(probability_N), probability_N, labels_N.double())
    )
    error = binary_calibration_error(probability_N, labels_N, bins, norm="l1")
    return Calibration(
        reviews_K.long(), probability_K / reviews_K, positive_K / reviews_K, error.item()
    )


class RunningMeans:
    """Means over the training batches since the last reset, kept on the device.

    Args:
        names: of the K figures that are averaged.
        device: that the batches are on.

    Attributes:
        sums: float64 `[K + 1]`: each figure's sum over all it is a mean of, and their number.
    """

    def __init__(self, names: Sequence[str], device: torch.device) -> None:
        self.names = tuple(names)
        self.sums = torch.zeros(len(names) + 1, dtype=torch.float64, device=device)

    def update(self, sums: Tensor, broken: Tensor) -> None:
        """Add a batch's sums and number, but where `broken`, a flag on the device, is set."""
        self.sums += sums.masked_fill(broken, 0)

    def compute(self, over_all: Callable[[Tensor], Tensor] = Tensor.clone) -> dict[str, float]:
        """Return the means by name, NaN where there was no batch, and start anew.

        Args:
            over_all: adds up the sums of all processes that train together.
        """
        *sums, number = over_all(self.sums).tolist()
        self.sums.zero_()
        return {
            name: total / number if number else math.nan
            for name, total in zip(self.names, sums, strict=True)
        }


def binary_sums(loss: Tensor, logits_B: Tensor, labels_B: Tensor) -> Tensor:
    """What `RunningMeans` of `loss` and `accuracy` adds up for a batch, `[3]`.

    Args:
        loss: mean of the batch.
        logits_B: float32.
        labels_B: from 0 to 1; above one half a review counts as positive.
    """
    # Given probabilities, torchmetrics would look whether they are logits.
    called_positive_B = (torch.sigmoid(logits_B) > THRESHOLD).int()
    tp, _, tn, _, _ = binary_stat_scores(
        called_positive_B, (labels_B > 0.5).int(), validate_args=False
    )
    reviews = torch.full_like(loss, len(labels_B))
    return torch.stack([loss * reviews, tp + tn, reviews])
