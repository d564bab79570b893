"""The reviews that the sides read, and the tokenizer that is learned from them."""

import os
from pathlib import Path

import numpy as np
from datasets import Dataset, concatenate_datasets, load_dataset
from numpy.typing import NDArray
from tokenizers import Tokenizer

from sentiment.config import DataSource, TrainConfig
from sentiment.data.batches import sorted_batches
from sentiment.data.encoded import EncodedReviews
from sentiment.data.encoding import encode, fingerprint
from sentiment.data.reviews import FEATURES, load_split
from sentiment.text.tokenizer import cached_tokenizer


def training_reviews(config: TrainConfig) -> tuple[Dataset, str, Tokenizer]:
    """All training reviews, none set aside, their hash, and the tokenizer learned from them."""
    train = load_split(config.data, "train")
    sha256 = fingerprint(train)
    texts = (part["text"] for part in train.iter(10_000))
    tokenizer = cached_tokenizer(texts, sha256, config.tokenizer, cache_dir(config))
    return train, sha256, tokenizer


def encoded_reviews(config: TrainConfig) -> EncodedReviews:
    """All training reviews, cut to what the model reads."""
    encoded = encode(*training_reviews(config), cache_dir(config))
    return encoded.truncate(config.tokenizer.max_length, config.tokenizer.truncation_side)


def typical_reviews(config: TrainConfig, count: int) -> EncodedReviews:
    """Some of the training reviews, as long as they all are and hardly padded."""
    encoded = encoded_reviews(config)
    return encoded.select(spread(encoded.lengths_N.numpy(), config.trainer.batch_size, count))


def spread(lengths_N: NDArray[np.int64], batch_size: int, count: int) -> NDArray[np.int64]:
    """Rows of whole batches of similar length, at even distances from the longest to the shortest.

    Few batches at random would be longer or shorter than all reviews by a third, few reviews at
    random mostly padding.
    """
    batches = sorted_batches(lengths_N, batch_size)
    wanted = min(-(-count // batch_size), len(batches))
    middles = (np.arange(wanted) + 0.5) * len(batches) / wanted
    return np.concatenate([batches[int(middle)] for middle in middles])[:count]


def draw_test_texts(config: TrainConfig, count: int) -> list[str]:
    """Test reviews, drawn at random; all, where there are no more."""
    reviews = load_split(config.data, "test")
    rows = np.random.default_rng(0).permutation(len(reviews))[:count]
    texts: list[str] = reviews.select(rows)["text"][:]
    return texts


def all_reviews(config: TrainConfig, count: int) -> Dataset:
    """Train, test and, from a folder of parquet files, unsupervised reviews; the first of them."""
    parts = [load_split(config.data, name) for name in ("train", "test")]
    if config.data.source is DataSource.imdb and config.data.path is not None:
        folder = Path(os.path.expanduser(config.data.path))
        files = [str(file) for file in sorted(folder.rglob("unsupervised*.parquet"))]
        if files:
            more = load_dataset("parquet", data_files=files, split="train")
            parts.append(more.select_columns(list(FEATURES)).cast(FEATURES))
    reviews = concatenate_datasets([part.cast(FEATURES) for part in parts])
    return reviews.select(range(min(count, len(reviews))))


def cache_dir(config: TrainConfig) -> Path:
    """Where tokenizers and encoded reviews are kept."""
    return Path(os.path.expanduser(config.runtime.cache_dir))
