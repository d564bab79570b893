"""What a benchmark is made of: sides that run in turn, each in a process of its own."""

import time
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import torch

from sentiment import cli
from sentiment.config import Device, Kernel, Precision, TrainConfig
from sentiment.errors import UserError
from sentiment.training.runtime import Runtime, prepare

Figures = dict[str, float]
"""What one run of a side gave, by unit: `{"reviews/s": 20.1, "tokens/s": 5310.0}`."""

PIPELINE: dict[str, tuple[str, ...]] = {
    "pipeline, float32, plain": ("runtime.precision=float32", "runtime.kernel=plain"),
    "pipeline, float32, compiled": ("runtime.precision=float32", "runtime.kernel=compiled"),
    "pipeline, bfloat16, plain": ("runtime.precision=bfloat16", "runtime.kernel=plain"),
    "pipeline, bfloat16, compiled": ("runtime.precision=bfloat16", "runtime.kernel=compiled"),
}
"""The ways to compute in which this pipeline trains and predicts, by the name of their rows."""


def stopwatch(device: torch.device) -> Callable[[], float]:
    """Start to measure: what is returned says how many seconds it is, the device's work done."""

    def now() -> float:
        if device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()

    started = now()
    return lambda: now() - started


class SkippedError(Exception):
    """A side cannot run here; the message says why."""


class Side(NamedTuple):
    """One row of the table.

    Attributes:
        measure: is given how many reviews, and the command-line overrides.
        overrides: that make this side what it is; they win over the user's.
    """

    measure: Callable[[int, list[str]], Figures]
    overrides: tuple[str, ...] = ()

    @property
    def precision(self) -> str:
        """Of its products; all but this pipeline compute in float32."""
        return "bfloat16" if "runtime.precision=bfloat16" in self.overrides else "float32"


class Group(NamedTuple):
    """Sides that compare with the first of them.

    Attributes:
        settings: overrides of all of them; the user's win.
        sides: by name.
    """

    settings: tuple[str, ...]
    sides: dict[str, Side]


class Benchmark(NamedTuple):
    """One table.

    Attributes:
        unit: of the figures that are compared.
        groups: by name.
        reviews: of each run, where not said otherwise; `None`: their number is no matter.
    """

    unit: str
    groups: dict[str, Group]
    reviews: int | None


def as_usual(overrides: list[str]) -> TrainConfig:
    """The configuration, in a process that is as torch makes it, but for a given `threads`."""
    config = cli.compose_train(overrides)
    if config.runtime.threads is not None:
        torch.set_num_threads(config.runtime.threads)
    return config


def as_pipeline(overrides: list[str]) -> tuple[TrainConfig, Runtime]:
    """The configuration, in a process that is set up as this pipeline's are.

    Raises:
        SkippedError: bfloat16 on a processor that would only emulate it, or no compiled kernel.
    """
    config = cli.compose_train(overrides)
    if config.runtime.kernel is Kernel.compiled and config.runtime.device is Device.cuda:
        raise SkippedError("the kernel is for processors")
    automatic = replace(config.runtime, precision=Precision.auto, kernel=Kernel.plain)
    native = prepare(automatic).precision
    if config.runtime.precision is Precision.bfloat16 is not native:
        raise SkippedError("this processor has no bfloat16 of its own")
    try:
        return config, prepare(config.runtime)
    except UserError as error:
        if config.runtime.kernel is Kernel.compiled:
            raise SkippedError(str(error)) from error
        raise
