"""AdamW over groups of weights, and the learning rate as a function of the update."""

import math
import re
from collections import defaultdict

import torch
from torch import Tensor, nn

from sentiment.config import OptimizerConfig, Schedule

LAYER = re.compile(r"encoder\.(?:left_to_right|right_to_left)\.(\d+)\.")


def build_optimizer(model: nn.Module, config: OptimizerConfig) -> torch.optim.AdamW:
    """AdamW that decays weight matrices, but neither biases nor word vectors.

    A word that a batch lacks has no gradient, yet would be decayed all the same. The `share` of a
    group is that of its learning rate in the highest: what stands above the encoder learns at that
    rate, each of its layers at `layer_decay` times that of the one above, word vectors likewise
    below the first (discriminative fine-tuning: Howard & Ruder, 2018, section 3.2).
    """
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    found = (LAYER.match(name) for name in trained)
    layers = 1 + max((int(match[1]) for match in found if match), default=-1)
    weights: dict[tuple[float, float], list[nn.Parameter]] = defaultdict(list)
    for name, weight in trained.items():
        depth = 0
        if match := LAYER.match(name):
            depth = layers - int(match[1])
        elif name.startswith("embedding."):
            depth = layers + 1
        is_decayed = weight.ndim >= 2 and not name.startswith("embedding.")
        decay = config.weight_decay if is_decayed else 0.0
        weights[config.layer_decay**depth, decay].append(weight)
    groups = [
        {"params": weights[share, decay], "share": share, "weight_decay": decay}
        for share, decay in sorted(weights, reverse=True)
    ]
    return torch.optim.AdamW(groups, lr=config.learning_rate, fused=True)


def step_unless(broken: Tensor, optimizer: torch.optim.Optimizer) -> None:
    """Update the weights, unless the flag, which stays on their device, is set.

    Fused optimizers read it as `torch.amp.GradScaler` hands it to them.
    """
    optimizer.found_inf = broken.float()  # type: ignore[attr-defined]
    optimizer.step()


def learning_rate(update: int, total: int, config: OptimizerConfig) -> float:
    """Learning rate of an update.

    Args:
        update: counted from 0.
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
