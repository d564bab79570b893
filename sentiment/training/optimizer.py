"""AdamW over two groups of weights, and the learning rate as a function of the update."""

import inspect
import math
from typing import Any

import torch
from torch import Tensor, nn

from sentiment.config import OptimizerConfig, Schedule


class _AdamW(torch.optim.AdamW):
    # Torch's own wrapper of it imports the compiler, to tell it where not to compile across.
    step = torch.no_grad()(inspect.unwrap(torch.optim.Adam.step))


def build_optimizer(model: nn.Module, config: OptimizerConfig) -> torch.optim.AdamW:
    """AdamW that decays weight matrices, but neither biases nor word vectors.

    A word that a batch lacks has no gradient, yet would be decayed all the same.
    """
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    decayed = {n for n, p in trained.items() if p.ndim >= 2 and not n.startswith("embedding.")}
    groups: list[dict[str, Any]] = [
        {"params": [trained[n] for n in trained if n in decayed]},
        {"params": [trained[n] for n in trained if n not in decayed], "weight_decay": 0.0},
    ]
    return _AdamW(groups, lr=config.learning_rate, weight_decay=config.weight_decay, fused=True)


def step_unless(broken: Tensor, optimizer: torch.optim.Optimizer) -> None:
    """Update the weights, unless the flag, which stays on their device, is set.

    Fused optimizers read it as `torch.amp.GradScaler` hands it to them.
    """
    optimizer.found_inf = broken.float()  # type: ignore[attr-defined]
    optimizer.step()


def learning_rate(update: int, total: int, config: OptimizerConfig) -> float:
    """Learning rate of an update.

    Args:
        update: counted from 0, with those that were skipped.
        total: updates of the whole run.
        config: peak, warm-up and shape.

    Returns:
        A linear rise to the peak, then the peak (`constant`) or half a cosine down to 0
        (Loshchilov & Hutter, 2017, without restarts).
    """
    warmup = round(total * config.warmup_fraction)
    if update < warmup:
        return config.learning_rate * (update + 1) / warmup
    if config.schedule is Schedule.constant:
        return config.learning_rate
    # `total` is an estimate where a bound on tokens makes the number of batches vary by epoch.
    progress = min((update - warmup) / max(total - warmup, 1), 1.0)
    return config.learning_rate * (1 + math.cos(math.pi * progress)) / 2
