"""Measure speed claims side by side: python scripts/benchmark.py BENCHMARK data.path=DIR.

`training` compares this pipeline's loop with that of the usual tutorial, `inference` compares
`sentiment.predict` with a loop that predicts one review at a time, `checkpoints` compares training
that saves its state after every update with training that does not, `scaling` compares two
processes, each on a core, with one.

Each side runs in a process of its own, in turn, several times, on the same reviews: what one side
tells its process (threads, memory, number formats) cannot help or hinder the other. Figures are
medians over the rounds, and the claim is their ratio.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from hydra import compose, initialize_config_dir
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor, nn

from sentiment import cli
from sentiment.config import TrainConfig
from sentiment.data.batches import collate, shuffled_batches, sorted_batches
from sentiment.data.encoded import EncodedReviews
from sentiment.data.encoding import encode, fingerprint
from sentiment.data.reviews import load_split
from sentiment.model.classifier import Classifier
from sentiment.report.journal import Journal
from sentiment.text.tokenizer import PAD_ID, cached_tokenizer, vocabulary_size
from sentiment.training.checkpoint import Checkpoint
from sentiment.training.inference import BATCH_SIZE
from sentiment.training.loop import fit
from sentiment.training.optimizer import build_optimizer
from sentiment.training.predictor import SentimentPredictor
from sentiment.training.runtime import prepare, seed_everything
from sentiment.training.state import Progress, TrainingState

# The sizes of the tutorial loop, for both sides.
VOCABULARY, EMBEDDING, HIDDEN = 10_000, 100, 256
TUTORIAL_BATCH = 30
SIZES = (
    f"tokenizer.vocabulary_size={VOCABULARY}",
    "tokenizer.max_length=null",
    f"embeddings.dimension={EMBEDDING}",
    f"model.hidden_size={HIDDEN}",
    "trainer.epochs=1",
    "trainer.log_every=1000000",
)


class Benchmark(NamedTuple):
    """Two sides of a claim; the ratio is that of the second to the first."""

    measure: Callable[[str, int, list[str]], float]
    sides: tuple[str, str]
    reviews: int
    sizes: dict[str, int]


class TutorialModel(nn.Module):
    """The bidirectional LSTM of the usual tutorials: one `nn.LSTM` over padded reviews."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, EMBEDDING, padding_idx=PAD_ID)
        self.rnn = nn.LSTM(EMBEDDING, HIDDEN, num_layers=2, bidirectional=True, dropout=0.5)
        self.fc = nn.Linear(2 * HIDDEN, 1)
        self.dropout = nn.Dropout(0.5)

    def forward(self, ids_TB: Tensor) -> Tensor:
        """Return logits `[B]`."""
        _, (hidden, _) = self.rnn(self.dropout(self.embedding(ids_TB)))
        logits_B1: Tensor = self.fc(self.dropout(torch.cat((hidden[-2], hidden[-1]), dim=1)))
        return logits_B1.squeeze(1)


def train_tutorial(reviews: EncodedReviews) -> float:
    """Seconds that the tutorial loop needs for one pass, in buckets of similar length."""
    torch.manual_seed(0)
    model = TutorialModel()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    criterion = nn.BCEWithLogitsLoss()
    batches = sorted_batches(reviews.lengths_N.numpy(), TUTORIAL_BATCH)
    order = np.random.default_rng(0).permutation(len(batches))
    started = time.perf_counter()
    for index in order:
        batch = collate(reviews, batches[index], torch.device("cpu"))
        optimizer.zero_grad()
        criterion(model(batch.ids_TB), batch.labels_B).backward()
        optimizer.step()
    return time.perf_counter() - started


def train_pipeline(reviews: EncodedReviews, config: TrainConfig) -> float:
    """Seconds that this pipeline's own loop needs for one pass, validation on two included."""
    runtime = prepare(config.runtime)
    seed_everything(config.seed)
    model = Classifier(nn.Embedding(VOCABULARY, EMBEDDING), config.model)
    state = TrainingState(model, build_optimizer(model, config.optimizer), Progress())
    labels_N = reviews.labels_N
    one_each = reviews.select(np.array([int(labels_N.argmin()), int(labels_N.argmax())]))
    with tempfile.TemporaryDirectory() as folder, Journal(Path(folder)) as journal:
        started = time.perf_counter()
        fit(state, reviews, one_each, config, runtime, journal, lambda *_: None)
        return time.perf_counter() - started


def predict_one_at_a_time(checkpoint: Checkpoint, texts: list[str]) -> None:
    """The loop around `predict_sentiment(text)` of the usual tutorials."""
    model, tokenizer = checkpoint.build_model().eval(), checkpoint.tokenizer
    limit = checkpoint.config.tokenizer.max_length or 0
    with torch.no_grad():
        for text in texts:
            ids = tokenizer.encode(text).ids[-limit:]
            ids_T1 = torch.tensor(ids).unsqueeze(1)
            torch.sigmoid(model(ids_T1, torch.tensor([len(ids)]))).item()


def compose_config(overrides: list[str]) -> TrainConfig:
    """The configuration that these command-line overrides stand for."""
    cli.register()
    with initialize_config_dir(version_base="1.3", config_dir=str(cli.CONF)):
        return cli.to_dataclass(compose("train", overrides), TrainConfig)


def measure_inference(side: str, count: int, overrides: list[str]) -> float:
    """Predict test reviews with a freshly initialised model of the default sizes.

    Args:
        side: `one at a time` or `pipeline`.
        count: how many reviews, drawn at random; a batch of them warms up.
        overrides: where the reviews are.

    Returns:
        Reviews per second, from text to probability.
    """
    config = compose_config(overrides)
    cache_dir = Path(os.path.expanduser(config.runtime.cache_dir))
    reviews = load_split(config.data, "test")
    parts = (part["text"] for part in reviews.iter(10_000))
    tokenizer = cached_tokenizer(parts, fingerprint(reviews), config.tokenizer, cache_dir)
    seed_everything(config.seed)
    assert config.embeddings.dimension is not None
    embedding = nn.Embedding(vocabulary_size(tokenizer), config.embeddings.dimension)
    weights = Classifier(embedding, config.model).state_dict()
    checkpoint = Checkpoint(Path(), config, tokenizer, weights, {})
    rows = np.random.default_rng(0).choice(len(reviews), count, replace=False)
    texts = reviews.select(rows)["text"][:]
    if side == "pipeline":
        predict: Callable[[list[str]], Any] = SentimentPredictor(
            checkpoint, prepare(config.runtime)
        )
    else:
        predict = partial(predict_one_at_a_time, checkpoint)
    predict(texts[: 2 * BATCH_SIZE])
    started = time.perf_counter()
    predict(texts)
    return len(texts) / (time.perf_counter() - started)


def measure_training(side: str, count: int, overrides: list[str]) -> float:
    """Train one side on the reviews, from freshly initialised weights, after a warm-up.

    The warm-up, on weights that are thrown away, lasts until memory and kernels are in place: a
    batch of the tutorial loop, which takes seconds, or all batches of the pipeline.

    Args:
        side: `tutorial` or `pipeline`.
        count: how many reviews.
        overrides: where the reviews are.

    Returns:
        Reviews per second.
    """
    config = compose_config([*SIZES, *overrides])
    if side == "pipeline":
        prepare(config.runtime)
    train = load_split(config.data, "train")
    sha256, cache_dir = fingerprint(train), Path(os.path.expanduser(config.runtime.cache_dir))
    texts = (part["text"] for part in train.iter(10_000))
    tokenizer = cached_tokenizer(texts, sha256, config.tokenizer, cache_dir)
    encoded = encode(train, sha256, tokenizer, cache_dir)
    # Whole batches of the first epoch: a small random draw would be mostly padding.
    lengths_N, size = encoded.lengths_N.numpy(), config.trainer.batch_size
    batches = shuffled_batches(lengths_N, size, config.seed, epoch=0)
    rows = np.concatenate(batches)[:count]
    reviews = encoded.select(rows)
    if side == "tutorial":
        train_tutorial(encoded.select(rows[:TUTORIAL_BATCH]))
        return len(reviews) / train_tutorial(reviews)
    train_pipeline(reviews, config)
    return len(reviews) / train_pipeline(reviews, config)


def measure_command(processes: int, count: int, overrides: list[str]) -> float:
    """Train by the very command, everything at its default but what the overrides say.

    Args:
        processes: that train together.
        count: how many reviews; an epoch of as many whole batches.
        overrides: where the reviews are, and more.

    Returns:
        Reviews per second, as TensorBoard has it, checkpoints included.
    """
    updates = max(1, count // compose_config(overrides).trainer.batch_size)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += [f"--nproc-per-node={processes}", "-m", "sentiment.train", *overrides]
    with tempfile.TemporaryDirectory() as folder:
        command += [f"hydra.run.dir={folder}", "trainer.epochs=1", "checkpoint.every_minutes=null"]
        command += [f"trainer.max_train_batches={updates}", f"trainer.log_every={updates}"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        events = EventAccumulator(folder)
        events.Reload()
        (point,) = events.Scalars("train/reviews_per_second")
    return float(point.value)


def measure_checkpoints(side: str, count: int, overrides: list[str]) -> float:
    """Reviews per second with a checkpoint after every update but the last, or with none.

    One after every 100 costs a hundredth of that, which timing alone cannot tell from noise.
    """
    cadence = 1 if side == "every update" else "null"
    return measure_command(1, count, [*overrides, f"checkpoint.every_updates={cadence}"])


def measure_scaling(side: str, count: int, overrides: list[str]) -> float:
    """Reviews per second of one or two processes with a thread each."""
    processes = 1 if side == "1 process" else 2
    return measure_command(processes, count, [*overrides, "runtime.threads=1"])


BENCHMARKS: dict[str, Benchmark] = {
    "training": Benchmark(
        measure_training,
        ("tutorial", "pipeline"),
        384,
        {"embedding": EMBEDDING, "hidden": HIDDEN, "vocabulary": VOCABULARY, "layers": 2},
    ),
    "inference": Benchmark(measure_inference, ("one at a time", "pipeline"), 1024, {}),
    "checkpoints": Benchmark(measure_checkpoints, ("none", "every update"), 1280, {}),
    "scaling": Benchmark(measure_scaling, ("1 process", "2 processes"), 3200, {}),
}


def compare(name: str, count: int, rounds: int, overrides: list[str]) -> dict[str, Any]:
    """Let both sides run in turn, in processes of their own."""
    sides = BENCHMARKS[name].sides
    rates: dict[str, list[float]] = {side: [] for side in sides}
    for number in range(rounds):
        for side in sides:
            command = [sys.executable, __file__, name, "--side", side]
            command += ["--reviews", str(count), *overrides]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            rates[side].append(float(done.stdout.splitlines()[-1]))
            print(f"round {number + 1}: {side} {rates[side][-1]:.1f} reviews/s", flush=True)
    medians = {side: statistics.median(values) for side, values in rates.items()}
    return {
        "benchmark": name,
        "sizes": BENCHMARKS[name].sizes,
        "reviews": count,
        "torch": torch.__version__,
        "reviews_per_second": rates,
        "median": medians,
        "ratio": medians[sides[1]] / medians[sides[0]],
    }


def main() -> None:
    """Parse the command line, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("benchmark", choices=list(BENCHMARKS))
    parser.add_argument("--reviews", type=int, help="of each run (384 to 3200)")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each side (3)")
    parser.add_argument("--output", type=Path, help="also write the figures here, as JSON")
    parser.add_argument("--side", help=argparse.SUPPRESS)
    parser.add_argument("overrides", nargs="*", help="where the reviews are: data.path=DIR")
    arguments = parser.parse_intermixed_args()
    benchmark = BENCHMARKS[arguments.benchmark]
    count = arguments.reviews or benchmark.reviews
    if arguments.side:
        print(benchmark.measure(arguments.side, count, arguments.overrides))
        return
    result = compare(arguments.benchmark, count, arguments.rounds, arguments.overrides)
    for side, rate in result["median"].items():
        print(f"{side:>13}: {rate:8.1f} reviews/s (median of {arguments.rounds})")
    print(f"{'ratio':>13}: {result['ratio']:8.3g}")
    if arguments.output:
        arguments.output.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
