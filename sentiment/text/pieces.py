"""Token ids of texts cut at spaces: words repeat, so each distinct piece is tokenized only once.

A text's tokens are those of its pieces where no token, and nothing that cleaning takes away or
replaces, has a space in it. For the tokenizers that are made here this holds, tags apart.

Shapes: N texts, P pieces of them all, D distinct ones.
"""

import re
import sys
from collections.abc import Sequence
from itertools import chain, pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from tokenizers import Tokenizer
from tokenizers.trainers import WordLevelTrainer

REST_OF_TAG = r"/?[a-zA-Z][^<>]{0,40}>"
TAG = f"<{REST_OF_TAG}"
# Taken out before the cut; a tag without a space stays in its piece, for the tokenizer to clean.
SPACED_TAG = re.compile(f"<(?=[^<> ]* ){REST_OF_TAG}")
PIECES_AT_ONCE = 500


def piecewise_ids(
    tokenizer: Tokenizer, texts: Sequence[str]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Token ids of texts, without special tokens.

    Args:
        tokenizer: one that cleans and splits as those made here, and neither truncates nor pads.
        texts: N texts; the more at once, the fewer pieces are tokenized per text.

    Returns:
        The ids of all texts, one after the other, and how many each has, `[N]`.
    """
    pieces_N, pieces_P = _cut(texts)
    ids_P = _tokenize(tokenizer, pieces_P.dictionary).take(pieces_P.indices)
    ends = ids_P.offsets.to_numpy()[pieces_N.offsets.to_numpy()]
    return ids_P.values.to_numpy(), np.diff(ends)


def count_words(tokenizer: Tokenizer, texts: Sequence[str]) -> dict[str, int]:
    """How often each word occurs.

    Args:
        tokenizer: of the words made here; it learns those of the texts.
        texts: N texts.
    """
    _, pieces_P = _cut(texts)
    pieces_D = pieces_P.dictionary
    every_word = WordLevelTrainer(vocab_size=sys.maxsize, show_progress=False)
    tokenizer.train_from_iterator(_join(pieces_D)[0], every_word)
    ids_D = _tokenize(tokenizer, pieces_D)
    occurrences_D = np.bincount(pieces_P.indices, minlength=len(pieces_D))
    weights = np.repeat(occurrences_D, ids_D.value_lengths())
    counts_V = np.bincount(ids_D.values, weights).astype(np.int64).tolist()
    return {word: counts_V[index] for word, index in tokenizer.get_vocab().items()}


def _cut(texts: Sequence[str]) -> tuple[pa.LargeListArray, pa.DictionaryArray]:
    """The pieces of each text, and all of them as indices of the distinct ones."""
    untagged = pa.array([SPACED_TAG.sub(" ", text) for text in texts], pa.large_string())
    pieces_N = pc.split_pattern(untagged, " ")
    return pieces_N, pieces_N.flatten().dictionary_encode()


def _join(pieces_D: pa.LargeStringArray) -> tuple[list[str], list[int]]:
    """Texts of many pieces each, and which of the pieces begins each text.

    A call of the tokenizer costs as much as twenty characters do. A `<` ends a text, lest several
    pieces look like a tag.
    """
    pieces = pieces_D.to_pylist()
    less = np.flatnonzero(pc.match_substring(pieces_D, "<").to_numpy(zero_copy_only=False))
    bounds = sorted({*range(0, len(pieces), PIECES_AT_ONCE), *(less + 1).tolist(), len(pieces)})
    return [" ".join(pieces[start:end]) for start, end in pairwise(bounds)], bounds[:-1]


def _tokenize(tokenizer: Tokenizer, pieces_D: pa.LargeStringArray) -> pa.LargeListArray:
    """The token ids of each piece: where a token begins tells whose it is."""
    texts, firsts = _join(pieces_D)
    encodings = tokenizer.encode_batch(texts, add_special_tokens=False)

    ends_D = (pc.utf8_length(pieces_D).to_numpy() + 1).cumsum()
    shifts = np.concatenate(([0], ends_D))[firsts].tolist()
    places = (
        shift + start
        for shift, encoding in zip(shifts, encodings, strict=True)
        for start, _ in encoding.offsets
    )
    piece = np.searchsorted(ends_D, np.fromiter(places, np.int64), side="right")
    ids = np.fromiter(chain.from_iterable(e.ids for e in encodings), np.int64)
    return pa.LargeListArray.from_arrays(np.searchsorted(piece, np.arange(len(pieces_D) + 1)), ids)
