"""What the labels say of each n-gram, as numbers that the encoder reads beside the word vectors.

Shapes: T time, B batch, N reviews, K tokens of all of them, V vocabulary, O lengths of n-grams
(1, 2, ...), S n-grams of each length, F folds, M n-grams that stand in several reviews.

Wang & Manning (2012) weight a linear model's n-grams by their log-count ratio: the logarithm of how
much more often an n-gram stands in positive than in negative reviews. Here it is an input of the
LSTM, at the last token of the n-gram. A ratio that had counted the very review it is read in would
tell its label, so those of the training reviews are cross-fitted: counted without the fold that the
review, and all others of its group, belong to.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

FOLDS = 10
SMOOTHING = 1.0
FEWEST_REVIEWS = 2
NO_NGRAM = torch.iinfo(torch.int64).max


class NGramRatios(nn.Module):
    """Looks up the log-count ratios of the n-grams that end at each token; 0 if unknown.

    The key of a single token is its id, that of a longer n-gram the place of its first tokens times
    V plus its last token, so that keys lead to longer n-grams as through a trie.

    Args:
        vocabulary_size: V.
        longest: O.
        size: S.
    """

    keys_OS: Tensor
    ratios_OS: Tensor

    def __init__(self, vocabulary_size: int, longest: int, size: int) -> None:
        super().__init__()
        self.vocabulary_size = vocabulary_size
        self.register_buffer("keys_OS", torch.full((longest, size), NO_NGRAM))
        self.register_buffer("ratios_OS", torch.zeros(longest, size))

    def forward(self, ids_TB: Tensor) -> Tensor:
        """Return `[T, B, O]`."""
        found, key_TB = [], ids_TB
        for keys_S, ratios_S in zip(self.keys_OS, self.ratios_OS, strict=True):
            place_TB = torch.searchsorted(keys_S, key_TB).clamp(max=len(keys_S) - 1)
            is_known_TB = keys_S[place_TB] == key_TB
            found.append(torch.where(is_known_TB, ratios_S[place_TB], 0))
            # After an unknown n-gram the key is below 0, which is unknown too.
            prefix_TB = torch.where(is_known_TB, place_TB, -1)
            key_TB = torch.full_like(ids_TB, -1)
            key_TB[1:] = prefix_TB[:-1] * self.vocabulary_size + ids_TB[1:]
        return torch.stack(found, dim=2)


def fit_ratios(
    ids: Tensor,
    starts_N: Tensor,
    lengths_N: Tensor,
    labels_N: Tensor,
    groups_N: NDArray[np.int64],
    vocabulary_size: int,
    longest: int,
    most: int,
) -> tuple[NGramRatios, Tensor]:
    """Count in how many reviews of each class an n-gram stands, and take the logarithms.

    Args:
        ids: `[K]`.
        starts_N: where in `ids` a review begins.
        lengths_N: how many tokens it has.
        labels_N: 0 or 1.
        groups_N: reviews with the same number are in the same fold.
        vocabulary_size: V.
        longest: O.
        most: n-grams of each length to keep, at most, those in the most reviews.

    Returns:
        What any other review is looked up in, and float16 `[K, O]`: the cross-fitted ratios of the
        training reviews, beside their tokens.
    """
    lengths, labels = lengths_N.numpy(), labels_N.numpy()
    review_K = np.arange(len(lengths)).repeat(lengths)
    position_K = np.arange(len(review_K)) - (lengths.cumsum() - lengths)[review_K]
    source_K = starts_N.numpy()[review_K] + position_K
    ids_K = ids.numpy()[source_K].astype(np.int64)
    cell_N = labels * FOLDS + _folds(groups_N)
    odds = labels.sum() / (len(labels) - labels.sum())
    of_training = np.zeros((len(ids), longest), dtype=np.float16)
    table, key_K = [], ids_K
    for order in range(longest):
        rows = np.flatnonzero((position_K >= order) & (key_K >= 0))
        keys_M, place, counts_M2F = _count(key_K[rows], review_K[rows], cell_N, most)
        rows, place = rows[place >= 0], place[place >= 0]
        counts_M2 = counts_M2F.sum(axis=2)
        table.append((keys_M, _ratios(counts_M2, odds)))
        other_folds_MF2 = (counts_M2[:, :, None] - counts_M2F).swapaxes(1, 2)
        fold = cell_N[review_K[rows]] % FOLDS
        of_training[source_K[rows], order] = _ratios(other_folds_MF2, odds)[place, fold]
        key_K = np.full(len(ids_K), -1)
        inside = rows + 1 < len(ids_K)
        key_K[rows[inside] + 1] = place[inside] * vocabulary_size + ids_K[rows[inside] + 1]

    size = max(1, *(len(keys_M) for keys_M, _ in table))
    ratios = NGramRatios(vocabulary_size, longest, size)
    for order, (keys_M, ratios_M) in enumerate(table):
        ratios.keys_OS[order, : len(keys_M)] = torch.from_numpy(keys_M)
        ratios.ratios_OS[order, : len(keys_M)] = torch.from_numpy(ratios_M)
    return ratios, torch.from_numpy(of_training)


def _count(
    keys: NDArray[np.int64], reviews: NDArray[np.int64], cell_N: NDArray[np.int64], most: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Keys `[M]`, the place among them of each given one or -1, and reviews `[M, 2, F]`."""
    distinct, gram = np.unique(keys, return_inverse=True)
    # Once for a review, however often it stands there.
    review, gram_in_review = np.divmod(np.unique(reviews * len(distinct) + gram), len(distinct))
    reviews_of = np.bincount(gram_in_review, minlength=len(distinct))
    kept = np.argsort(-reviews_of, kind="stable")[:most]
    kept = np.sort(kept[reviews_of[kept] >= FEWEST_REVIEWS])
    place_of = np.full(len(distinct), -1)
    place_of[kept] = np.arange(len(kept))
    is_kept = place_of[gram_in_review] >= 0
    cells = place_of[gram_in_review[is_kept]] * 2 * FOLDS + cell_N[review[is_kept]]
    counts = np.bincount(cells, minlength=len(kept) * 2 * FOLDS).reshape(-1, 2, FOLDS)
    return distinct[kept], place_of[gram], counts


def _ratios(counts_2: NDArray[np.int64], odds: float) -> NDArray[np.float32]:
    """Log-count ratios of reviews counted by class, the last axis; 0 where there are too few."""
    negative, positive = counts_2[..., 0], counts_2[..., 1]
    ratios = np.log((positive + SMOOTHING) / (negative + SMOOTHING) / odds)
    return np.where(positive + negative >= FEWEST_REVIEWS, ratios, 0).astype(np.float32)


def _folds(groups_N: NDArray[np.int64]) -> NDArray[np.int64]:
    """A fold for each review, groups being dealt out in a random order."""
    _, group_N = np.unique(groups_N, return_inverse=True)
    return np.random.default_rng(0).permutation(group_N.max() + 1)[group_N] % FOLDS
