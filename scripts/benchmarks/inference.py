"""`inference`: reviews that a model of the default sizes predicts in a second, read whole.

All sides have the same fresh weights and compute the same. From ids: the texts are encoded before
the clock starts; from texts: encoding is part of it.
"""

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from benchmarks.reviews import draw_test_texts, training_reviews
from benchmarks.roof import ROOF, rates
from benchmarks.sides import PIPELINE, Benchmark, Figures, Group, Side, as_pipeline, as_usual
from benchmarks.tutorial import TutorialModel, predict_one_at_a_time, predict_packed
from sentiment.config import TrainConfig
from sentiment.data.encoded import EncodedTexts, encode_texts
from sentiment.model.classifier import Classifier
from sentiment.text.tokenizer import vocabulary_size
from sentiment.training.checkpoint import Checkpoint
from sentiment.training.inference import predict_logits
from sentiment.training.predictor import SentimentPredictor
from sentiment.training.runtime import seed_everything

WARM_UP = 128
"""Reviews that are predicted before the clock starts."""


def fresh_checkpoint(config: TrainConfig) -> Checkpoint:
    """Random weights, and the tokenizer of the training reviews."""
    _, _, tokenizer = training_reviews(config)
    seed_everything(config.seed)
    assert config.embeddings.dimension is not None
    embedding = nn.Embedding(vocabulary_size(tokenizer), config.embeddings.dimension)
    weights = Classifier(embedding, config.model).state_dict()
    return Checkpoint(Path(), tokenizer, weights, {}, config)


def tutorial_model(checkpoint: Checkpoint, packed: bool) -> TutorialModel:
    """The tutorials' model with the checkpoint's weights."""
    size = vocabulary_size(checkpoint.tokenizer)
    model = TutorialModel(size, checkpoint.config, packed)
    model.copy_weights(checkpoint.build_model())
    return model.eval()


def encoded(checkpoint: Checkpoint, texts: list[str]) -> EncodedTexts:
    """As the model reads them."""
    tokenizing = checkpoint.config.tokenizer
    ids = encode_texts(checkpoint.tokenizer, texts)
    return ids.truncate(tokenizing.max_length, tokenizing.truncation_side)


def measure_packed(count: int, overrides: list[str]) -> Figures:
    """`nn.LSTM` on packed batches of 64, from ids."""
    checkpoint = fresh_checkpoint(as_usual(overrides))
    model = tutorial_model(checkpoint, packed=True)
    return _measure(partial(predict_packed, model), encoded, checkpoint, count)


def measure_one_at_a_time(count: int, overrides: list[str]) -> Figures:
    """`nn.LSTM` on one review after the other, from texts."""
    checkpoint = fresh_checkpoint(as_usual(overrides))
    model, tokenizer = tutorial_model(checkpoint, packed=False), checkpoint.tokenizer
    limit = checkpoint.config.tokenizer.max_length
    predict = partial(predict_one_at_a_time, model, tokenizer, limit)
    return _measure(predict, _as_texts, checkpoint, count)


def measure_pipeline(count: int, overrides: list[str], from_ids: bool) -> Figures:
    """This pipeline."""
    config, runtime = as_pipeline(overrides)
    checkpoint = fresh_checkpoint(config)
    predictor = SentimentPredictor(checkpoint, runtime)
    if not from_ids:
        return _measure(predictor, _as_texts, checkpoint, count)
    predict = partial(predict_logits, predictor.model, runtime=runtime)
    return _measure(predict, encoded, checkpoint, count)


def _as_texts(_: Checkpoint, texts: list[str]) -> list[str]:
    return texts


def _measure(
    predict: Callable[[Any], Any],
    make_input: Callable[[Checkpoint, list[str]], Any],
    checkpoint: Checkpoint,
    count: int,
) -> Figures:
    texts = draw_test_texts(checkpoint.config, count)
    predict(make_input(checkpoint, texts[:WARM_UP]))
    given = make_input(checkpoint, texts)
    started = time.perf_counter()
    predict(given)
    seconds = time.perf_counter() - started
    return rates(checkpoint.config, encoded(checkpoint, texts).lengths_N, seconds, training=False)


INFERENCE = Benchmark(
    unit="reviews/s",
    groups={
        "whole reviews": Group(
            ("tokenizer.max_length=null", "model.ngrams=0"),
            {
                "nn.LSTM, packed batches, from ids": Side(measure_packed),
                "nn.LSTM, one at a time, from texts": Side(measure_one_at_a_time),
                **{
                    f"{name}, from {source}": Side(
                        partial(measure_pipeline, from_ids=source == "ids"), settings
                    )
                    for name, settings in PIPELINE.items()
                    for source in ("ids", "texts")
                },
            },
        ),
        "large matrix product": ROOF,
    },
    reviews=1024,
)
