"""Which film an IMDB review is about.

The data set lists the address of the film of each training review (`train/urls_neg.txt` and
`urls_pos.txt` of `aclImdb`), but its copies as tables leave that out, and keep the rows in an order
of their own. `films.parquet`, written by `scripts/make_films.py`, has a number for each film, found
by the review's text.
"""

import hashlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

FILMS = Path(__file__).parent / "films.parquet"
_NOT_KEPT = bytes(byte for byte in range(256) if not chr(byte).isascii() or not chr(byte).isalnum())


def text_keys(texts: Iterable[str]) -> NDArray[np.uint64]:
    """64 bits of SHA-256 of each text's ASCII letters and digits, so that layout is no matter."""
    letters = (text.encode().translate(None, _NOT_KEPT) for text in texts)
    digests = (hashlib.sha256(kept).digest()[:8] for kept in letters)
    return np.fromiter((int.from_bytes(digest) for digest in digests), dtype=np.uint64)


def film_numbers(texts: Iterable[str]) -> tuple[NDArray[np.int64], int]:
    """Number the films of IMDB's training reviews.

    Args:
        texts: N reviews.

    Returns:
        `[N]`, the same number for reviews of the same film; a text that is none of these reviews
        has a number that no other one has. And how many of the texts are such reviews.
    """
    keys_N = text_keys(texts)
    table = pq.read_table(FILMS)
    known_K, films_K = table["text"].to_numpy(), table["film"].to_numpy()
    places_N = np.searchsorted(known_K, keys_N).clip(max=len(known_K) - 1)
    is_known_N = known_K[places_N] == keys_N
    alone_N = films_K.max() + 1 + np.arange(len(keys_N))
    return np.where(is_known_N, films_K[places_N], alone_N), int(is_known_N.sum())
