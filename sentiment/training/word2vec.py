"""Word vectors learned from texts alone, in some two minutes for IMDB's.

They are word2vec's (Mikolov et al., 2013), in gensim's implementation: a word is predicted from the
mean of the vectors around it (continuous bag of words), told from words drawn at random.
"""

import hashlib
import logging
import os
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset
from tokenizers import Tokenizer

from sentiment.config import EmbeddingsConfig
from sentiment.data.encoded import EncodedTexts
from sentiment.data.encoding import encode, fingerprint
from sentiment.errors import UserError
from sentiment.report.progress import progress

log = logging.getLogger(__name__)

PASSES = 5
SETTINGS = {"sg": 0, "window": 8, "negative": 5, "sample": 1e-4, "min_count": 1, "epochs": PASSES}
"""gensim's defaults, but for a wider window and rarer frequent words."""


def learn_vectors(
    texts: Dataset, tokenizer: Tokenizer, config: EmbeddingsConfig, seed: int, folder: Path
) -> Path:
    """Learn a vector for every token that occurs, or find those of before.

    Args:
        texts: to learn from.
        tokenizer: makes words of them.
        config: width of a vector.
        seed: of the random numbers; the same texts and seed give the same vectors.
        folder: where the file is kept.

    Returns:
        A file in word2vec's text format.

    Raises:
        UserError: gensim is not installed.
    """
    word2vec = _load_gensim()
    sha256 = fingerprint(texts)
    dimension = config.dimension
    made_from = f"{sha256} {tokenizer.to_str()} {dimension} {seed} {SETTINGS} {version('gensim')}"
    path = folder / f"word2vec-{hashlib.sha256(made_from.encode()).hexdigest()[:32]}.txt"
    if not path.exists():
        log.info("learning word vectors from %d texts", len(texts))
        words = _Words(encode(texts, sha256, tokenizer, folder), tokenizer)
        # A single worker: several would finish in another order each time.
        model = word2vec(words, vector_size=dimension, seed=seed, workers=1, **SETTINGS)
        partial = path.with_suffix(f".{os.getpid()}")
        model.wv.save_word2vec_format(str(partial))
        partial.replace(path)
    return path


class _Words:
    """Texts as lists of words, as often as they are asked for."""

    def __init__(self, texts: EncodedTexts, tokenizer: Tokenizer) -> None:
        self._texts = texts
        words = {index: word for word, index in tokenizer.get_vocab().items()}
        self._words_V = np.array([words.get(id) for id in range(max(words) + 1)], dtype=object)
        self._pass = 0

    def __iter__(self) -> Iterator[list[str]]:
        description = f"word vectors, {self._pass}/{PASSES}" if self._pass else "counting words"
        self._pass += 1
        ids = self._texts.ids.numpy()
        ends = self._texts.starts_N + self._texts.lengths_N
        spans = list(zip(self._texts.starts_N.tolist(), ends.tolist(), strict=True))
        for start, end in progress(spans, description):
            yield self._words_V[ids[start:end]].tolist()


def _load_gensim() -> Any:
    try:
        from gensim.models import Word2Vec
    except ImportError as error:
        raise UserError(
            "embeddings=word2vec needs gensim, which is not installed: "
            "pip install 'sentiment[vectors]'"
        ) from error
    return Word2Vec
