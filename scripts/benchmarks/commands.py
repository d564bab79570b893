"""Benchmarks of the commands themselves: `startup`, `checkpoints` and `scaling`."""

import os
import subprocess
import sys
import tempfile
import time
from functools import partial

import numpy as np
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator, ScalarEvent

from benchmarks.sides import Benchmark, Figures, Group, Side
from benchmarks.training import TUTORIAL_SIZES
from sentiment.cli import compose_train
from sentiment.data.reviews import load_split

TRAIN = (sys.executable, "-m", "sentiment.train")


def train_point(run_directory: str, name: str) -> ScalarEvent:
    """The first point of a training curve, as TensorBoard has it."""
    events = EventAccumulator(run_directory)
    events.Reload()
    point: ScalarEvent = events.Scalars(f"train/{name}")[0]
    return point


def measure_start(command: tuple[str, ...], _: int, __: list[str]) -> Figures:
    """A command that has nothing to do, from start to end."""
    started = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return {"seconds": time.perf_counter() - started}


def measure_first_step(_: int, overrides: list[str], again: bool) -> Figures:
    """From the start of the command to the first point of the curves, after the first update.

    Args:
        overrides: which reviews.
        again: they have been read and encoded by the same command before.
    """
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {"HF_DATASETS_CACHE": f"{folder}/datasets"}
        command = [*TRAIN, *overrides, f"runtime.cache_dir={folder}/cache", "trainer.epochs=1"]
        command += ["trainer.max_train_batches=1", "trainer.log_every=1"]
        for number in range(2 if again else 1):
            run_directory = f"{folder}/run{number}"
            started = time.time()
            subprocess.run(
                [*command, f"hydra.run.dir={run_directory}"],
                check=True,
                env=environment,
                stdout=subprocess.DEVNULL,
            )
        return {"seconds": train_point(run_directory, "loss").wall_time - started}


def measure_command(count: int, overrides: list[str], processes: int) -> Figures:
    """Train by the very command, everything at its default but what the overrides say.

    The run is given the training reviews as files, a hundredth of them to validate and test on:
    to score all test reviews takes longer than the training that is measured.

    Args:
        count: how many reviews; an epoch of as many whole batches.
        overrides: where the reviews are, and more.
        processes: that train together.

    Returns:
        Reviews per second, as TensorBoard has it, checkpoints included.
    """
    config = compose_train(overrides)
    updates = max(1, count // config.trainer.batch_size)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += [f"--nproc-per-node={processes}", "-m", "sentiment.train"]
    command += [
        setting
        for setting in overrides
        if not setting.startswith(("data=", "data.")) or "max_tokens_per_batch" in setting
    ]
    with tempfile.TemporaryDirectory() as folder:
        reviews = load_split(config.data, "train")
        rows = np.arange(len(reviews))
        parts = {"validation": rows[::200], "test": rows[100::200], "train": rows[rows % 100 != 0]}
        for name, of_part in parts.items():
            reviews.select(of_part).to_parquet(f"{folder}/{name}.parquet")
            command += [f"data.{name}={folder}/{name}.parquet"]
        command += ["data=files", f"hydra.run.dir={folder}/run", "checkpoint.every_minutes=null"]
        command += ["trainer.epochs=1", f"trainer.max_train_batches={updates}"]
        command += [f"trainer.log_every={updates}"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        return {"reviews/s": train_point(f"{folder}/run", "reviews_per_second").value}


STARTUP = Benchmark(
    unit="seconds",
    groups={
        "from the start of the command": Group(
            ("data=sample",),
            {
                "python -c 'import torch'": Side(
                    partial(measure_start, (sys.executable, "-c", "import torch"))
                ),
                "train --help": Side(partial(measure_start, (*TRAIN, "--help"))),
                "first update, empty caches": Side(partial(measure_first_step, again=False)),
                "first update, filled caches": Side(partial(measure_first_step, again=True)),
            },
        )
    },
    reviews=None,
)

# One checkpoint after every 100 updates costs a hundredth of one after each, which timing alone
# cannot tell from noise.
CHECKPOINTS = Benchmark(
    unit="reviews/s",
    groups={
        "training, default sizes": Group(
            (),
            {
                "no checkpoint": Side(partial(measure_command, processes=1)),
                "one after every update": Side(
                    partial(measure_command, processes=1), ("checkpoint.every_updates=1",)
                ),
            },
        )
    },
    reviews=1280,
)

SCALING_SIDES = {
    "1 process": Side(partial(measure_command, processes=1)),
    "2 processes": Side(partial(measure_command, processes=2)),
}
SCALING = Benchmark(
    unit="reviews/s",
    groups={
        "training, default sizes": Group(("runtime.threads=1",), SCALING_SIDES),
        "training, sizes of the tutorials": Group(
            ("runtime.threads=1", *TUTORIAL_SIZES), SCALING_SIDES
        ),
    },
    # The first batch of each length waits for oneDNN to make its products, as long in each process.
    reviews=12800,
)
