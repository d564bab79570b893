"""Measure speed claims side by side: python scripts/benchmark.py training data.path=DIR.

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
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hydra import compose, initialize_config_dir
from torch import Tensor, nn

from sentiment import cli
from sentiment.config import TrainConfig
from sentiment.data.batches import collate, shuffled_batches, sorted_batches
from sentiment.data.encoded import EncodedReviews
from sentiment.data.encoding import encode, fingerprint
from sentiment.data.reviews import load_split
from sentiment.model.classifier import Classifier
from sentiment.model.embedding import random_embedding
from sentiment.report.tensorboard import Dashboard
from sentiment.text.tokenizer import PAD_ID, cached_tokenizer
from sentiment.training.loop import fit
from sentiment.training.runtime import prepare, seed_everything

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
    """Seconds that this pipeline's own loop needs for one pass."""
    runtime = prepare(config.runtime)
    seed_everything(config.seed)
    model = Classifier(random_embedding(VOCABULARY, EMBEDDING), config.model)
    labels_N = reviews.labels_N
    one_each = reviews.select(np.array([int(labels_N.argmin()), int(labels_N.argmax())]))
    with tempfile.TemporaryDirectory() as folder:
        dashboard = Dashboard(Path(folder))
        fit(model, reviews, one_each, config, runtime, Path(folder), dashboard, lambda *_: None)
        dashboard.close()
        _, row = (Path(folder) / "history.csv").read_text().splitlines()
    return float(row.rpartition(",")[2])


def measure(side: str, count: int, overrides: list[str]) -> float:
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
    cli.register()
    with initialize_config_dir(version_base="1.3", config_dir=str(cli.CONF)):
        config = cli.to_dataclass(compose("train", [*SIZES, *overrides]), TrainConfig)
    if side == "pipeline":
        prepare(config.runtime)
    train = load_split(config.data, "train")
    sha256, cache_dir = fingerprint(train), Path(os.path.expanduser(config.runtime.cache_dir))
    texts = (part["text"] for part in train.iter(1000))
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


def compare_training(count: int, rounds: int, overrides: list[str]) -> dict[str, Any]:
    """Let both sides train in turn, in processes of their own."""
    sides = ("tutorial", "pipeline")
    rates: dict[str, list[float]] = {side: [] for side in sides}
    for number in range(rounds):
        for side in sides:
            command = [sys.executable, __file__, "training", "--side", side]
            command += ["--reviews", str(count), *overrides]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            rates[side].append(float(done.stdout.splitlines()[-1]))
            print(f"round {number + 1}: {side} {rates[side][-1]:.1f} reviews/s", flush=True)
    medians = {side: statistics.median(values) for side, values in rates.items()}
    return {
        "benchmark": "training",
        "sizes": {"embedding": EMBEDDING, "hidden": HIDDEN, "vocabulary": VOCABULARY, "layers": 2},
        "reviews": count,
        "torch": torch.__version__,
        "reviews_per_second": rates,
        "median": medians,
        "ratio": medians["pipeline"] / medians["tutorial"],
    }


def main() -> None:
    """Parse the command line, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("benchmark", choices=["training"])
    parser.add_argument("--reviews", type=int, default=384, help="reviews to train on (384)")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each side (3)")
    parser.add_argument("--output", type=Path, help="also write the figures here, as JSON")
    parser.add_argument("--side", choices=["tutorial", "pipeline"], help=argparse.SUPPRESS)
    parser.add_argument("overrides", nargs="*", help="where the reviews are: data.path=DIR")
    arguments = parser.parse_intermixed_args()
    if arguments.side:
        print(measure(arguments.side, arguments.reviews, arguments.overrides))
        return
    result = compare_training(arguments.reviews, arguments.rounds, arguments.overrides)
    for side, rate in result["median"].items():
        print(f"{side:>10}: {rate:8.1f} reviews/s (median of {arguments.rounds})")
    print(f"{'ratio':>10}: {result['ratio']:8.1f}")
    if arguments.output:
        arguments.output.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
