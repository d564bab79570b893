import math

import pytest
import torch

from sentiment.config import ObjectiveConfig
from sentiment.training.objectives import binary_cross_entropy, resolve_pos_weight


@pytest.mark.parametrize("weight", [1.0, 3.0])
def test_loss_by_hand(weight: float) -> None:
    loss = binary_cross_entropy(ObjectiveConfig(str(weight)))
    found = loss(torch.tensor([2.0, -1.0]), torch.tensor([1.0, 0.0])).item()
    expected = (weight * math.log(1 + math.exp(-2)) + math.log(1 + math.exp(-1))) / 2
    assert found == pytest.approx(expected, rel=1e-6)


def test_auto_weighs_both_classes_alike() -> None:
    labels_N = torch.tensor([1, 0, 0, 0, 1, 0, 0, 0])
    weight = resolve_pos_weight(ObjectiveConfig("auto"), labels_N)
    assert weight * (labels_N == 1).sum() == (labels_N == 0).sum()
    assert resolve_pos_weight(ObjectiveConfig("2.5"), labels_N) == 2.5
