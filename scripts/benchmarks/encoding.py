"""`tokenize`: reviews that become token ids in a second, on all cores.

A vocabulary is known before the clock starts. The two references leave ids in memory, the pipeline
also writes them to its cache. The hash, which names the file there, every run computes anew.
"""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from datasets import Dataset
from tokenizers import Tokenizer, normalizers, pre_tokenizers
from tokenizers.models import WordLevel

from benchmarks.reviews import all_reviews, training_reviews
from benchmarks.sides import Benchmark, Figures, Group, Side, as_usual
from benchmarks.tutorial import look_up_words
from sentiment.data.encoding import encode, fingerprint
from sentiment.text.tokenizer import UNK

PORTION = 2000


def measure_dictionary(count: int, overrides: list[str]) -> Figures:
    """A regular expression and a dictionary, as in the tutorials."""
    reviews, tokenizer = _prepare(count, overrides)
    texts, vocabulary = reviews["text"][:], tokenizer.get_vocab()
    return _time(len(texts), lambda: look_up_words(vocabulary, texts))


def measure_plain(count: int, overrides: list[str]) -> Figures:
    """The plainest tokenizer of the `tokenizers` library."""
    reviews, tokenizer = _prepare(count, overrides)
    plain = Tokenizer(WordLevel(tokenizer.get_vocab(), unk_token=UNK))
    plain.normalizer = normalizers.Lowercase()
    plain.pre_tokenizer = pre_tokenizers.Whitespace()
    texts = reviews["text"][:]

    def encode_all() -> list[list[int]]:
        portions = (texts[i : i + PORTION] for i in range(0, len(texts), PORTION))
        return [found.ids for portion in portions for found in plain.encode_batch(portion)]

    return _time(len(texts), encode_all)


def measure_cold(count: int, overrides: list[str]) -> Figures:
    """This pipeline, with nothing in its cache."""
    reviews, tokenizer = _prepare(count, overrides)
    sha256 = fingerprint(reviews)
    with tempfile.TemporaryDirectory() as folder:
        return _time(len(reviews), lambda: encode(reviews, sha256, tokenizer, Path(folder)))


def measure_cached(count: int, overrides: list[str]) -> Figures:
    """This pipeline, for the second time."""
    reviews, tokenizer = _prepare(count, overrides)
    sha256 = fingerprint(reviews)
    with tempfile.TemporaryDirectory() as folder:
        encode(reviews, sha256, tokenizer, Path(folder))
        return _time(len(reviews), lambda: encode(reviews, sha256, tokenizer, Path(folder)))


def measure_hash(count: int, overrides: list[str]) -> Figures:
    """What this pipeline does before it looks into its cache."""
    reviews, _ = _prepare(count, overrides)
    return _time(len(reviews), lambda: fingerprint(reviews))


def _prepare(count: int, overrides: list[str]) -> tuple[Dataset, Tokenizer]:
    config = as_usual(overrides)
    _, _, tokenizer = training_reviews(config)
    return all_reviews(config, count), tokenizer


def _time(count: int, work: Callable[[], Any]) -> Figures:
    started = time.perf_counter()
    kept = work()
    seconds = time.perf_counter() - started
    del kept
    return {"reviews/s": count / seconds, "seconds": seconds}


TOKENIZE = Benchmark(
    unit="reviews/s",
    groups={
        "train, test and unsupervised reviews": Group(
            (),
            {
                "re.findall and a dictionary": Side(measure_dictionary),
                "tokenizers: Lowercase, Whitespace, WordLevel": Side(measure_plain),
                "pipeline, nothing in the cache": Side(measure_cold),
                "pipeline, from the cache": Side(measure_cached),
                "pipeline, hash before either": Side(measure_hash),
            },
        )
    },
    reviews=100_000,
)
