"""How much there is to compute, and how much of it the machine could do in a second."""

import statistics
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from benchmarks.sides import Figures, Group, Side, as_pipeline, stopwatch
from sentiment.config import TrainConfig
from sentiment.model import kernel
from sentiment.model.encoder import GATES
from sentiment.model.ngrams import FEATURES

WIDTH = {"cpu": 2048, "cuda": 8192}
SECONDS = 1.0


def flops_per_token(config: TrainConfig) -> int:
    """Floating-point operations that a token costs in the forward pass of the layers.

    Each direction of a layer multiplies its input and its last state with the weights of its gates
    (four of an LSTM), an addition going with each multiplication. What is not a matrix product
    (gates, dropout, embedding) does not count, nor does the output layer, which a review passes
    once.
    """
    hidden, directions = config.model.hidden_size, 2 if config.model.bidirectional else 1
    assert config.embeddings.dimension is not None
    read = config.embeddings.dimension + FEATURES * config.model.ngrams
    widths = [read] + [directions * hidden] * (config.model.layers - 1)
    rows = directions * GATES[config.model.cell] * hidden
    return sum(2 * rows * (width + hidden) for width in widths)


def rates(config: TrainConfig, lengths_N: Tensor, seconds: float, training: bool) -> Figures:
    """What reading these reviews in so many seconds comes to.

    Args:
        config: has the model's sizes.
        lengths_N: tokens of each review that were read; padding is no useful work.
        seconds: that it took.
        training: the backward pass, which takes two products for each of the forward pass, is part
            of it.
    """
    tokens = int(lengths_N.sum())
    flops = tokens * flops_per_token(config) * (3 if training else 1)
    return {
        "reviews/s": len(lengths_N) / seconds,
        "tokens/s": tokens / seconds,
        "GFLOP/s": flops / seconds / 1e9,
    }


def measure_roof(count: int, overrides: list[str]) -> Figures:
    """Multiply large matrices, in the side's number format, into memory already touched.

    On a CPU, by the faster of PyTorch's two libraries.

    Args:
        count: does not matter.
        overrides: which number format.
    """
    _, runtime = as_pipeline(overrides)
    dtype, width = getattr(torch, runtime.precision.value), WIDTH[runtime.device.type]
    a, b = torch.rand(2, width, width).to(dtype).to(runtime.device)
    seconds = _seconds(partial(torch.mm, out=torch.zeros_like(a)), a, b)
    if runtime.device.type == "cpu":
        seconds = min(seconds, _seconds(kernel.product, a, b))
    return {"GFLOP/s": 2 * width**3 / seconds / 1e9}


def _seconds(multiply: Callable[[Tensor, Tensor], Tensor], a: Tensor, b: Tensor) -> float:
    """The median over `SECONDS`."""
    multiply(a, b)
    seconds: list[float] = []
    while sum(seconds) < SECONDS:
        needed = stopwatch(a.device)
        multiply(a, b)
        seconds.append(needed())
    return statistics.median(seconds)


ROOF = Group(
    (),
    {
        "float32": Side(measure_roof, ("runtime.precision=float32",)),
        "bfloat16": Side(measure_roof, ("runtime.precision=bfloat16",)),
    },
)
