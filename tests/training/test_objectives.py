import math

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from sentiment.config import ObjectiveConfig
from sentiment.training import objectives
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


T, B, E = 5, 3, 4
LENGTHS = (5, 3, 1)


def word_vectors() -> Tensor:
    """Random ones, 0 past each review's end."""
    generator = torch.Generator().manual_seed(0)
    x_TBE = torch.randn(T, B, E, generator=generator, dtype=torch.float64)
    for review, length in enumerate(LENGTHS):
        x_TBE[length:, review] = 0
    return x_TBE


def spread(x_TBE: Tensor) -> float:
    numbers = [x_TBE[t, b].numpy() for b, length in enumerate(LENGTHS) for t in range(length)]
    return float(np.concatenate(numbers).std())


class Recorder:
    """A model that is not linear, and what it was asked."""

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(1)
        self.w_TE = torch.randn(T, E, generator=generator, dtype=torch.float64)
        self.asked: list[Tensor] = []

    def __call__(self, x_TBE: Tensor) -> Tensor:
        self.asked.append(x_TBE.detach().clone())
        return (torch.tanh(x_TBE) * self.w_TE[:, None]).sum(dim=(0, 2))


def differences(function: object, x_TBE: Tensor, step: float = 1e-6) -> Tensor:
    """The gradient of a number by central differences."""
    gradient_TBE = torch.zeros_like(x_TBE)
    for index in np.ndindex(*x_TBE.shape):
        up, down = x_TBE.clone(), x_TBE.clone()
        up[index] += step
        down[index] -= step
        gradient_TBE[index] = (function(up) - function(down)) / (2 * step)  # type: ignore[operator]
    return gradient_TBE


def per_review(gradient_TBE: Tensor) -> Tensor:
    """Each review's direction, over its own tokens."""
    norm_B = gradient_TBE.square().sum(dim=(0, 2)).sqrt()
    return gradient_TBE / norm_B[:, None]


def test_adversarial_goes_where_differences_say_that_the_loss_rises() -> None:
    model, x_TBE = Recorder(), word_vectors()
    labels_B = torch.tensor([1.0, 0.0, 1.0], dtype=torch.float64)

    def loss(logits_B: Tensor) -> Tensor:
        return binary_cross_entropy_with_logits(logits_B, labels_B)

    found = objectives.adversarial(model, x_TBE, loss, 0.7)
    gradient_TBE = differences(lambda x: loss(Recorder()(x)), x_TBE)
    for review, length in enumerate(LENGTHS):  # padding is not read
        gradient_TBE[length:, review] = 0
    expected_TBE = x_TBE + 0.7 * spread(x_TBE) * per_review(gradient_TBE)
    torch.testing.assert_close(model.asked[1], expected_TBE, rtol=0, atol=1e-6)
    torch.testing.assert_close(found, loss(model(expected_TBE)), rtol=0, atol=1e-6)
    assert found > loss(model(x_TBE))


def test_virtual_adversarial_goes_where_differences_say_that_probabilities_move() -> None:
    torch.manual_seed(2)
    model, x_TBE = Recorder(), word_vectors()
    found = objectives.virtual_adversarial(model, x_TBE, 0.7)
    certain_TBE, near_TBE, moved_TBE = model.asked
    assert torch.equal(certain_TBE, x_TBE)
    norm_B = (near_TBE - x_TBE).square().sum(dim=(0, 2)).sqrt()
    expected_B = torch.full((B,), 0.1 * spread(x_TBE), dtype=torch.float64)
    torch.testing.assert_close(norm_B, expected_B)

    def divergence(x_TBE: Tensor) -> Tensor:
        q, p = (torch.sigmoid(Recorder()(x)) for x in (certain_TBE, x_TBE))
        return (q * (q / p).log() + (1 - q) * ((1 - q) / (1 - p)).log()).mean()

    gradient_TBE = differences(divergence, near_TBE)
    for review, length in enumerate(LENGTHS):
        gradient_TBE[length:, review] = 0
        assert not moved_TBE[length:, review].any()
    expected_TBE = x_TBE + 0.7 * spread(x_TBE) * per_review(gradient_TBE)
    torch.testing.assert_close(moved_TBE, expected_TBE, rtol=0, atol=1e-5)
    torch.testing.assert_close(found, divergence(moved_TBE))
    assert found > 0


def test_a_model_learns_from_the_moved_reviews_and_not_from_how_they_were_moved() -> None:
    w_TE = Recorder().w_TE.requires_grad_()

    def logits(x_TBE: Tensor) -> Tensor:
        return (x_TBE * w_TE[:, None]).sum(dim=(0, 2))

    x_TBE, labels_B = word_vectors(), torch.tensor([1.0, 0.0, 1.0], dtype=torch.float64)

    def loss(logits_B: Tensor) -> Tensor:
        return binary_cross_entropy_with_logits(logits_B, labels_B)

    objectives.adversarial(logits, x_TBE, loss, 0.7).backward()
    assert w_TE.grad is not None
    # The direction of a linear model's gradient is its weights'; it is a constant here.
    sign_B = 1 - 2 * labels_B
    with torch.no_grad():
        unit_TBE = per_review(w_TE[:, None] * (x_TBE != 0))
        moved_TBE = x_TBE + 0.7 * spread(x_TBE) * sign_B[:, None] * unit_TBE
        slope_B = (torch.sigmoid(logits(moved_TBE)) - labels_B) / B
        expected_TE = (slope_B[:, None] * moved_TBE).sum(dim=1)
    torch.testing.assert_close(w_TE.grad, expected_TE)


def test_divergence_and_entropy_by_hand_and_by_differences() -> None:
    certain_B = torch.tensor([0.3, -2.0, 5.0], dtype=torch.float64)
    logits_B = torch.tensor([0.1, 3.0, 5.0], dtype=torch.float64, requires_grad=True)
    q, p = torch.sigmoid(certain_B), torch.sigmoid(logits_B.detach())
    expected_B = q * (q / p).log() + (1 - q) * ((1 - q) / (1 - p)).log()
    torch.testing.assert_close(objectives.divergence(certain_B, logits_B).detach(), expected_B)
    expected = -(p * p.log() + (1 - p) * (1 - p).log()).mean()
    torch.testing.assert_close(objectives.entropy(logits_B).detach(), expected)
    assert torch.autograd.gradcheck(lambda z: objectives.divergence(certain_B, z), logits_B)
    assert torch.autograd.gradcheck(objectives.entropy, logits_B)


def test_a_gradient_that_has_nearly_vanished_still_has_a_direction() -> None:
    x_TBE = torch.zeros(2, 3, 1)
    x_TBE[:, 0], x_TBE[:, 1] = 3e-9, 4e9
    norms = objectives.unit(x_TBE).square().sum(dim=(0, 2)).sqrt()
    torch.testing.assert_close(norms, torch.tensor([1.0, 1.0, 0.0]), rtol=1e-3, atol=0)


def test_where_dropout_has_left_no_token_the_loss_stays_finite() -> None:
    nothing_TBE = torch.zeros(T, B, E, dtype=torch.float64)
    found = objectives.adversarial(Recorder(), nothing_TBE, lambda z_B: z_B.exp().mean(), 0.7)
    assert found == 1
    assert objectives.virtual_adversarial(Recorder(), nothing_TBE, 0.7) == 0
