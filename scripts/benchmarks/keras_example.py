"""Keras' own example, https://keras.io/examples/nlp/bidirectional_lstm_imdb, on torch."""

import os
import time
from typing import Any

from benchmarks.sides import SkippedError
from sentiment.config import TrainConfig
from sentiment.data.encoded import EncodedReviews

SIZES = (
    "tokenizer.vocabulary_size=20000",
    "tokenizer.max_length=200",
    "embeddings.dimension=128",
    "model.layers=2",
    "model.hidden_size=64",
    "model.ngrams=0",
    "model.word_dropout=0",
    "model.embedding_dropout=0",
    "model.dropout=0",
    "trainer.batch_size=32",
)
"""The example's sizes, as settings of this pipeline."""


def import_keras() -> Any:
    """Keras with its torch backend.

    Raises:
        SkippedError: it is not installed.
    """
    os.environ["KERAS_BACKEND"] = "torch"
    try:
        import keras
    except ImportError as error:
        raise SkippedError("Keras is not installed (pip install -e '.[bench]')") from error
    return keras


def train_keras(reviews: EncodedReviews, config: TrainConfig) -> float:
    """Seconds that `fit` needs for one pass over reviews padded to the cap, as the example does.

    Raises:
        SkippedError: Keras is not installed.
    """
    keras = import_keras()
    keras.utils.set_random_seed(0)
    layers, hidden = keras.layers, config.model.hidden_size
    with keras.device("cpu"):
        inputs = keras.Input(shape=(None,), dtype="int32")
        x = layers.Embedding(config.tokenizer.vocabulary_size, config.embeddings.dimension)(inputs)
        for layer in range(config.model.layers):
            rest = layer + 1 < config.model.layers
            x = layers.Bidirectional(layers.LSTM(hidden, return_sequences=rest))(x)
        model = keras.Model(inputs, layers.Dense(1, activation="sigmoid")(x))
        model.compile(optimizer="adam", loss="binary_crossentropy", metrics=["accuracy"])
        spans = zip(reviews.starts_N.tolist(), reviews.lengths_N.tolist(), strict=True)
        ids = [reviews.ids[start : start + length].tolist() for start, length in spans]
        x_train = keras.utils.pad_sequences(ids, maxlen=config.tokenizer.max_length)
        started = time.perf_counter()
        model.fit(
            x_train,
            reviews.labels_N.numpy(),
            batch_size=config.trainer.batch_size,
            epochs=1,
            verbose=0,
        )
        return time.perf_counter() - started
