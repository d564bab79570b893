"""What training minimises."""

from torch import Tensor, nn

from sentiment.config import ObjectiveConfig


def binary_cross_entropy(config: ObjectiveConfig) -> nn.BCEWithLogitsLoss:
    """Loss of logits against labels 0 and 1, positive reviews weighted by `pos_weight`."""
    return nn.BCEWithLogitsLoss(pos_weight=Tensor([config.pos_weight]).squeeze())
