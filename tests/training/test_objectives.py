import math

import pytest
import torch

from sentiment.config import ObjectiveConfig
from sentiment.training.objectives import binary_cross_entropy


@pytest.mark.parametrize("weight", [1.0, 3.0])
def test_loss_by_hand(weight: float) -> None:
    loss = binary_cross_entropy(ObjectiveConfig(str(weight)))
    found = loss(torch.tensor([2.0, -1.0]), torch.tensor([1.0, 0.0])).item()
    expected = (weight * math.log(1 + math.exp(-2)) + math.log(1 + math.exp(-1))) / 2
    assert found == pytest.approx(expected, rel=1e-6)
