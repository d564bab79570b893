"""`training`: reviews that a training loop reads in a second, from the first weights on.

Every side first trains weights that are thrown away, until memory and kernels are in place: the
pipeline twice on all its batches (in the second pass the system still hands out memory), the
others, which take seconds for one, on one.
"""

import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import nn

from benchmarks import keras_example
from benchmarks.reviews import typical_reviews
from benchmarks.roof import ROOF, rates
from benchmarks.sides import (
    PIPELINE,
    Benchmark,
    Figures,
    Group,
    Side,
    as_pipeline,
    as_usual,
    stopwatch,
)
from benchmarks.tutorial import BATCH, train_tutorial
from sentiment.config import TrainConfig
from sentiment.data.encoded import EncodedReviews
from sentiment.model.classifier import Classifier
from sentiment.report.journal import Journal
from sentiment.training.classification import Classification
from sentiment.training.loop import fit
from sentiment.training.optimizer import build_optimizer
from sentiment.training.runtime import Runtime, seed_everything
from sentiment.training.state import Progress, TrainingState

TUTORIAL_SIZES = (
    "tokenizer.vocabulary_size=10000",
    "tokenizer.max_length=null",
    "embeddings.dimension=100",
    "model.layers=2",
    "model.hidden_size=256",
    "model.ngrams=0",
)
"""The tutorials' sizes; they read whole reviews."""


def train_pipeline(reviews: EncodedReviews, config: TrainConfig, runtime: Runtime) -> float:
    """Seconds that this pipeline's own loop needs for one pass, validation on two included."""
    seed_everything(config.seed)
    config.trainer.epochs, config.trainer.log_every = 1, len(reviews) + 1
    assert config.embeddings.dimension is not None
    embedding = nn.Embedding(config.tokenizer.vocabulary_size, config.embeddings.dimension)
    model = Classifier(embedding, config.model).to(runtime.device)
    optimizer = build_optimizer(model, config.optimizer)
    state = TrainingState(model, optimizer, Progress(), ("loss", "accuracy"))
    labels_N = reviews.labels_N
    one_each = reviews.select(np.array([int(labels_N.argmin()), int(labels_N.argmax())]))

    def ignore(*_: object) -> None:
        pass

    with tempfile.TemporaryDirectory() as folder, Journal(Path(folder)) as journal:
        seconds = stopwatch(runtime.device)
        task = Classification(model, reviews, one_each, config, runtime, observe=ignore)
        fit(state, task, config, runtime, journal, save=ignore)
        return seconds()


def measure_pipeline(count: int, overrides: list[str]) -> Figures:
    """This pipeline's loop."""
    config, runtime = as_pipeline(overrides)
    reviews = typical_reviews(config, count)
    *_, seconds = (train_pipeline(reviews, config, runtime) for _ in range(3))
    return rates(config, reviews.lengths_N, seconds, training=True)


def measure_tutorial(
    count: int, overrides: list[str], packed: bool = False, flush_subnormals: bool = False
) -> Figures:
    """The tutorial's loop."""
    torch.set_flush_denormal(flush_subnormals)  # inherited by threads, so before there are any
    config = as_usual(overrides)
    return _measure(partial(train_tutorial, packed=packed), BATCH, config, count)


def measure_keras(count: int, overrides: list[str]) -> Figures:
    """Keras' `fit`."""
    keras_example.import_keras()
    config = as_usual(overrides)
    return _measure(keras_example.train_keras, config.trainer.batch_size, config, count)


def _measure(
    train: Callable[[EncodedReviews, TrainConfig], float],
    batch_size: int,
    config: TrainConfig,
    count: int,
) -> Figures:
    reviews = typical_reviews(config, count)
    train(reviews.select(np.arange(min(batch_size, len(reviews)))), config)
    return rates(config, reviews.lengths_N, train(reviews, config), training=True)


PIPELINE_SIDES = {name: Side(measure_pipeline, settings) for name, settings in PIPELINE.items()}

TRAINING = Benchmark(
    unit="reviews/s",
    groups={
        "sizes of the tutorials": Group(
            TUTORIAL_SIZES,
            {
                "tutorial": Side(measure_tutorial),
                "tutorial, subnormals flushed": Side(
                    partial(measure_tutorial, flush_subnormals=True)
                ),
                "tutorial, packed": Side(partial(measure_tutorial, packed=True)),
                **PIPELINE_SIDES,
            },
        ),
        "sizes of Keras' example": Group(
            keras_example.SIZES, {"Keras": Side(measure_keras), **PIPELINE_SIDES}
        ),
        "large matrix product": ROOF,
    },
    reviews=384,
)
