"""What training minimises.

Shapes: T time, B batch, E width of a word vector.

With z the logit of a review, p = sigmoid(z), and x the word vectors that the encoder reads:

    cross entropy          -y log p - (1 - y) log(1 - p)
    adversarial            cross entropy at x + r, r = s g / |g|, g its gradient at x
    virtual adversarial    KL(p(x) || p(x + r)), r = s g / |g|, g the gradient at a small random d
                           of KL(p(x) || p(x + d))
    entropy                -p log p - (1 - p) log(1 - p)

(Goodfellow et al., 2015; Miyato et al., 2016, and for texts 2017; Grandvalet & Bengio, 2004.) The
last two need no label. |g| is one norm per review. Word vectors that grew would make a perturbation
of a fixed size ever smaller; Miyato et al. (2017) normalise them, here s is `epsilon` times their
standard deviation over the tokens of the batch, which leaves the model as it is otherwise.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from sentiment.config import ObjectiveConfig

Logits = Callable[[Tensor], Tensor]
"""From perturbed word vectors `[T, B, E]` to logits `[B]`."""

SMALL = 0.1
"""Norm of the random perturbation whose effect is looked at first (Miyato et al., 2017)."""


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


def adversarial(
    logits: Logits, x_TBE: Tensor, loss: Callable[[Tensor], Tensor], epsilon: float
) -> Tensor:
    """Loss where it rises most.

    Args:
        logits: of the reviews, given their word vectors.
        x_TBE: the word vectors, 0 past each review's end.
        loss: of logits; a mean.
        epsilon: size of the perturbation of a review, in standard deviations of the word vectors.
    """
    start_TBE = x_TBE.detach().requires_grad_()
    (gradient_TBE,) = torch.autograd.grad(loss(logits(start_TBE)), start_TBE)
    return loss(logits(_moved(x_TBE, gradient_TBE, epsilon)))


def virtual_adversarial(logits: Logits, x_TBE: Tensor, epsilon: float) -> Tensor:
    """Mean divergence of the probabilities where they move most, from those that there are.

    Args:
        logits: as for `adversarial`.
        x_TBE: as for `adversarial`.
        epsilon: as for `adversarial`.
    """
    fixed_TBE = x_TBE.detach()
    with torch.no_grad():
        certain_B = logits(fixed_TBE)
    # What autocast keeps of the weights from here on is to be differentiated.
    torch.clear_autocast_cache()
    near_TBE = _moved(fixed_TBE, torch.randn_like(fixed_TBE), SMALL).requires_grad_()
    nearby = divergence(certain_B, logits(near_TBE)).mean()
    (gradient_TBE,) = torch.autograd.grad(nearby, near_TBE)
    return divergence(certain_B, logits(_moved(x_TBE, gradient_TBE, epsilon))).mean()


def divergence(certain_B: Tensor, logits_B: Tensor) -> Tensor:
    """KL(q || p) of each review, q given by the first logits and p by the second."""
    q_B = torch.sigmoid(certain_B)
    cross_B = binary_cross_entropy_with_logits(logits_B, q_B, reduction="none")
    return cross_B - binary_cross_entropy_with_logits(certain_B, q_B, reduction="none")


def entropy(logits_B: Tensor) -> Tensor:
    """Mean entropy of the probabilities."""
    return binary_cross_entropy_with_logits(logits_B, torch.sigmoid(logits_B))


def unit(x_TBE: Tensor) -> Tensor:
    """Scale each review to the norm 1, over time and features; zeros stay zeros."""
    # A gradient that has vanished would be lost when it is squared.
    x_TBE = x_TBE / (x_TBE.abs().amax(dim=(0, 2), keepdim=True) + 1e-12)
    norm_1B1: Tensor = x_TBE.norm(dim=(0, 2), keepdim=True)
    return x_TBE / (norm_1B1 + 1e-12)


def _moved(x_TBE: Tensor, direction_TBE: Tensor, epsilon: float) -> Tensor:
    """Word vectors that are moved by `epsilon` standard deviations; what is 0 stays it."""
    fixed_TBE = x_TBE.detach()
    is_token_TB1 = (fixed_TBE != 0).any(dim=2, keepdim=True)
    # Dropout may leave no token of short reviews, and rounding a variance below 0.
    numbers = (is_token_TB1.sum() * x_TBE.shape[2]).clamp(min=1)
    mean = fixed_TBE.sum() / numbers
    spread = (fixed_TBE.square().sum() / numbers - mean.square()).clamp(min=0).sqrt()
    moved_TBE: Tensor = x_TBE + epsilon * spread * unit(direction_TBE * is_token_TB1)
    return moved_TBE
