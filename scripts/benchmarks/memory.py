"""`memory`: the most memory that a process ever had resident (Linux), in MB of 1,000,000 bytes."""

import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from benchmarks.inference import fresh_checkpoint
from benchmarks.reviews import draw_test_texts, encoded_reviews
from benchmarks.sides import Benchmark, Figures, Group, Side, as_pipeline, as_usual
from benchmarks.training import TUTORIAL_SIZES, train_pipeline
from benchmarks.tutorial import BATCH, train_tutorial
from sentiment.cli import compose_train
from sentiment.config import TrainConfig
from sentiment.data.batches import sorted_batches
from sentiment.data.encoded import EncodedReviews
from sentiment.training.checkpoint import save_checkpoint

# A process starts with its parent's peak as its own (getrusage): a small one has to come between.
LAUNCHER = """
import resource, subprocess, sys
code = subprocess.call(sys.argv[1:], stdout=subprocess.DEVNULL)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(code)
"""
KIBIBYTE = 1024


def peak_of(command: Sequence[str], stdin: bytes = b"") -> Figures:
    """Of a command, which has to succeed."""
    launched = [sys.executable, "-c", LAUNCHER, *command]
    done = subprocess.run(launched, input=stdin, check=True, stdout=subprocess.PIPE)
    return {"peak MB": int(done.stdout) * KIBIBYTE / 1e6}


def peak_so_far() -> Figures:
    """Of this process."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return {"peak MB": int(found[1]) * KIBIBYTE / 1e6}


def longest_reviews(config: TrainConfig) -> EncodedReviews:
    """Two batches of the tutorial's."""
    reviews = encoded_reviews(config)
    return reviews.select(sorted_batches(reviews.lengths_N.numpy(), 2 * BATCH)[0])


def measure_tutorial(_: int, overrides: list[str], packed: bool) -> Figures:
    """The tutorial's loop over the longest reviews."""
    config = as_usual(overrides)
    train_tutorial(longest_reviews(config), config, packed)
    return peak_so_far()


def measure_pipeline(_: int, overrides: list[str]) -> Figures:
    """This pipeline's loop over the longest reviews."""
    config, runtime = as_pipeline(overrides)
    train_pipeline(longest_reviews(config), config, runtime)
    return peak_so_far()


def measure_training(count: int, overrides: list[str]) -> Figures:
    """The command, from reading the reviews to the test score, training on some of them only.

    Of IMDB's batches at the default sizes every sixth is full: 64 reviews cut to 400 tokens.
    """
    updates = max(1, count // compose_train(overrides).trainer.batch_size)
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "sentiment.train", *overrides, f"hydra.run.dir={folder}"]
        command += ["trainer.epochs=1", f"trainer.max_train_batches={updates}"]
        return peak_of(command)


def measure_prediction(count: int, overrides: list[str]) -> Figures:
    """The command, which gets a test review per line, over and over where they do not suffice."""
    config = compose_train(overrides)
    checkpoint = fresh_checkpoint(config)
    texts = [" ".join(text.split()) for text in draw_test_texts(config, count)]
    lines = (texts * (count // len(texts) + 1))[:count]
    with tempfile.TemporaryDirectory() as folder:
        model, tokenizer = checkpoint.build_model(), checkpoint.tokenizer
        save_checkpoint(Path(folder), model, tokenizer, config, {})
        command = [sys.executable, "-m", "sentiment.predict", "--checkpoint", folder]
        return peak_of([*command, "--device", "cpu"], "\n".join(lines).encode())


MEMORY = Benchmark(
    unit="peak MB",
    groups={
        "loop over the 128 longest reviews, sizes of the tutorials": Group(
            TUTORIAL_SIZES,
            {
                "tutorial": Side(partial(measure_tutorial, packed=False)),
                "tutorial, packed": Side(partial(measure_tutorial, packed=True)),
                "pipeline": Side(measure_pipeline),
            },
        ),
        "commands, default sizes": Group(
            (), {"train": Side(measure_training), "predict": Side(measure_prediction)}
        ),
    },
    reviews=6400,
)
