"""What training minimises."""

from torch import Tensor, nn

from sentiment.config import ObjectiveConfig


def resolve_pos_weight(config: ObjectiveConfig, labels_N: Tensor) -> float:
    """`pos_weight` as a number; `auto` is negative over positive reviews.

    Args:
        config: the setting.
        labels_N: 0 or 1 per training review, both of them present.
    """
    if config.pos_weight == "auto":
        positive = int(labels_N.sum())
        return (len(labels_N) - positive) / positive
    return float(config.pos_weight)


def binary_cross_entropy(config: ObjectiveConfig) -> nn.BCEWithLogitsLoss:
    """Loss of logits against labels 0 and 1, positive reviews weighted by `pos_weight`."""
    return nn.BCEWithLogitsLoss(pos_weight=Tensor([float(config.pos_weight)]).squeeze())
