"""What the training labels say of n-grams, for the encoder to read beside the word vectors.

Shapes: N reviews, K tokens of all of them, V vocabulary, O lengths of n-grams (1, 2, ...), M kept
n-grams, F folds, Y = F + 1 models, P pairs of a review and an n-gram in it, C = 2 features,
Q n-grams of a prior.

An n-gram's first feature is its log-count ratio: the logarithm of how much more often it stands in
positive than in negative reviews. The second is its weight in a logistic regression on which
n-grams a review holds, each multiplied by that ratio (the model of Wang & Manning, 2012).

A feature that had been learned from the very review it is read in would tell its label, so those of
the training reviews are cross-fitted (stacked generalization, Wolpert, 1992, token by token): there
is a model for each fold, learned without it, and one, for all other texts, learned from everything.
All reviews of a group, as of a film, are in one fold.

A run that starts from one on other reviews starts from its n-grams, too. What that run says of an
n-gram is the prior: so many further reviews of the ratio's own odds, and the point that the
regression's weights are drawn to.
"""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import embedding_bag, softplus

from sentiment.data.encoded import EncodedReviews
from sentiment.model.ngrams import FEATURES, NO_NGRAM, NGramFeatures

FOLDS = 10
SMOOTHING = 1.0
"""Added to both counts of a ratio (Wang & Manning, 2012)."""
FEWEST_REVIEWS = 2
"""Of an n-gram that is known."""
LOSS_WEIGHT = 0.3
"""Of the regression's loss, summed over reviews, against half the squared weights; from 0.1 to 1
scikit-learn's model is as good on validation (`results/nb-lr`)."""
ITERATIONS = 25
"""Of L-BFGS: stopped here it does better on validation than at the end (docs/experiments.md)."""
PRIOR_REVIEWS = 10.0
"""That a prior counts as, for an n-gram that it knows (docs/experiments.md)."""
SPREAD = 0.5
"""Standard deviation of each feature of the n-grams of one length, over the training reviews, where
no prior says how they are scaled."""

Integers = NDArray[np.int64]


class NGrams(NamedTuple):
    """The n-grams of one length that are kept, and where they stand.

    Attributes:
        keys_M: as in `NGramFeatures`, ascending.
        place_K: of the n-gram that ends at each token, -1 if it is not kept.
        review_P: one pair for each review that holds an n-gram, however often.
        place_P: of the n-gram.
        place_Q: of each n-gram of the prior.
    """

    keys_M: Integers
    place_K: Integers
    review_P: Integers
    place_P: Integers
    place_Q: Integers


def fit_ngrams(
    reviews: EncodedReviews,
    groups_N: Integers,
    vocabulary_size: int,
    longest: int,
    most: int,
    prior: NGramFeatures | None = None,
) -> tuple[NGramFeatures, Tensor]:
    """Learn the features of the n-grams of some reviews.

    Args:
        reviews: to learn from.
        groups_N: reviews with the same number are in the same fold.
        vocabulary_size: V.
        longest: O.
        most: n-grams of each length to keep, at most, the prior's first, then those in the most
            reviews.
        prior: what another run says of n-grams of the same vocabulary and lengths.

    Returns:
        What any other review is looked up in, and float16 `[tokens, O * C]`: the cross-fitted
        features of these reviews, beside `reviews.ids`.
    """
    lengths_N = reviews.lengths_N.numpy()
    review_K = np.arange(len(lengths_N)).repeat(lengths_N)
    position_K = np.arange(len(review_K)) - (lengths_N.cumsum() - lengths_N)[review_K]
    source_K = reviews.starts_N.numpy()[review_K] + position_K
    ids_K = reviews.ids.numpy()[source_K].astype(np.int64)
    fold_N = _folds(groups_N)

    found: list[NGrams] = []
    key_K = ids_K
    for order in range(longest):
        known_Q = np.empty(0, dtype=np.int64) if prior is None else prior.keys_OS[order].numpy()
        known_Q = known_Q[known_Q != NO_NGRAM]
        if order > 0:
            prefix_Q, token_Q = np.divmod(known_Q, vocabulary_size)
            known_Q = found[-1].place_Q[prefix_Q] * vocabulary_size + token_Q
        found.append(_find(key_K, review_K, most, known_Q))
        key_K = np.full(len(ids_K), -1)
        prefix = found[-1].place_K[:-1]
        inside = (prefix >= 0) & (position_K[1:] > order)
        key_K[1:][inside] = prefix[inside] * vocabulary_size + ids_K[1:][inside]

    sizes = [len(ngrams.keys_M) for ngrams in found]
    review_P = np.concatenate([ngrams.review_P for ngrams in found])
    offsets = np.cumsum([0, *sizes])
    place_P = np.concatenate([n.place_P + o for n, o in zip(found, offsets, strict=False)])
    labels_N = reviews.labels_N.numpy()
    prior_MC = np.zeros((offsets[-1], FEATURES), dtype=np.float32)
    is_prior_M = np.zeros(offsets[-1], dtype=bool)
    if prior is not None:
        for order, (ngrams, offset) in enumerate(zip(found, offsets, strict=False)):
            places = offset + ngrams.place_Q
            prior_MC[places] = prior.features_OSC[order, : len(places)].numpy()
            is_prior_M[places] = True
    ratios_MY = _ratios(review_P, place_P, labels_N, fold_N, prior_MC[:, 0], is_prior_M)
    weights_MY = _regress(review_P, place_P, ratios_MY, labels_N, fold_N, prior_MC[:, 1])

    table = NGramFeatures(vocabulary_size, longest, max(1, *sizes))
    of_reviews = np.zeros((len(reviews.ids), longest, FEATURES), dtype=np.float16)
    for order, ngrams in enumerate(found):
        rows = np.flatnonzero(ngrams.place_K >= 0)
        kept, own = slice(offsets[order], offsets[order + 1]), ngrams.place_K[rows]
        table.keys_OS[order, : sizes[order]] = torch.from_numpy(ngrams.keys_M)
        for feature, values_MY in enumerate((ratios_MY[kept], weights_MY[kept])):
            read = values_MY[own, fold_N[review_K[rows]]]
            scale = _scale(read) if prior is None else prior.scale_OC[order, feature].item()
            of_reviews[source_K[rows], order, feature] = scale * read
            of_others = torch.from_numpy(values_MY[:, FOLDS])
            table.features_OSC[order, : sizes[order], feature] = of_others
            table.scale_OC[order, feature] = scale
    return table, torch.from_numpy(of_reviews).flatten(1)


def _scale(values: NDArray[np.float32]) -> float:
    """What brings values to `SPREAD`; 1 where they hardly differ, since those to come may."""
    if len(values) == 0 or values.std() <= 1e-3 * max(1.0, np.abs(values).max()):
        return 1.0
    return SPREAD / float(values.std())


def _folds(groups_N: Integers) -> Integers:
    """A fold for each review, groups being dealt out in a random order."""
    _, group_N = np.unique(groups_N, return_inverse=True)
    return np.random.default_rng(0).permutation(group_N.max() + 1)[group_N] % FOLDS


def _find(key_K: Integers, review_K: Integers, most: int, known_Q: Integers) -> NGrams:
    rows = np.flatnonzero(key_K >= 0)
    distinct, number = np.unique(key_K[rows], return_inverse=True)
    # np.unique alone takes eight times as long as to sort and compare.
    pairs = np.sort(review_K[rows] * len(distinct) + number)
    review_P, number_P = np.divmod(pairs[np.diff(pairs, prepend=-1) > 0], len(distinct))
    reviews_of = np.bincount(number_P, minlength=len(distinct))
    reviews_of[np.isin(distinct, known_Q, assume_unique=True)] = 0
    kept = np.argsort(-reviews_of, kind="stable")[: max(0, most - len(known_Q))]
    keys_M = np.union1d(distinct[kept[reviews_of[kept] >= FEWEST_REVIEWS]], known_Q)
    _, kept, place = np.intersect1d(distinct, keys_M, assume_unique=True, return_indices=True)
    place_of = np.full(len(distinct), -1)
    place_of[kept] = place
    place_K = np.full(len(key_K), -1)
    place_K[rows] = place_of[number]
    is_kept_P = place_of[number_P] >= 0
    of_pairs = review_P[is_kept_P], place_of[number_P[is_kept_P]]
    return NGrams(keys_M, place_K, *of_pairs, np.searchsorted(keys_M, known_Q))


def _ratios(
    review_P: Integers,
    place_P: Integers,
    labels_N: Integers,
    fold_N: Integers,
    prior_M: NDArray[np.float32],
    is_prior_M: NDArray[np.bool_],
) -> NDArray[np.float32]:
    """Log-count ratios `[M, Y]` without a fold, and of all reviews; the prior's for the rare."""
    count = len(prior_M)
    cells = (place_P * 2 + labels_N[review_P]) * FOLDS + fold_N[review_P]
    counts_M2F = np.bincount(cells, minlength=count * 2 * FOLDS).reshape(count, 2, FOLDS)
    counts_M21 = counts_M2F.sum(axis=2, keepdims=True)
    counts_M2Y = np.concatenate([counts_M21 - counts_M2F, counts_M21], axis=2)
    odds = labels_N.sum() / (len(labels_N) - labels_N.sum())
    share_M = 1 / (1 + np.exp(-prior_M) / odds)
    shares_M21 = np.stack([1 - share_M, share_M], axis=1)[:, :, None]
    further_M21 = SMOOTHING + PRIOR_REVIEWS * is_prior_M[:, None, None] * shares_M21
    negative_MY, positive_MY = (counts_M2Y + further_M21).swapaxes(0, 1)
    ratios_MY = np.log(positive_MY / negative_MY / odds)
    is_rare_MY = counts_M2Y.sum(axis=1) < FEWEST_REVIEWS
    return np.where(is_rare_MY, prior_M[:, None], ratios_MY.astype(np.float32))


def _regress(
    review_P: Integers,
    place_P: Integers,
    ratios_MY: NDArray[np.float32],
    labels_N: Integers,
    fold_N: Integers,
    prior_M: NDArray[np.float32],
) -> NDArray[np.float32]:
    """Weights `[M, Y]`, ratios included, of the models without a fold, and of the one of all."""
    if len(ratios_MY) == 0:
        return ratios_MY
    r_MY = torch.from_numpy(ratios_MY)
    y_N1 = torch.from_numpy(labels_N).float().unsqueeze(1)
    is_learned_NY = torch.from_numpy(np.arange(FOLDS + 1) != fold_N[:, None]).float()
    of_review = _bags(review_P, place_P, len(labels_N))
    of_ngram = _bags(place_P, review_P, len(r_MY))
    prior_M1 = torch.from_numpy(prior_M).unsqueeze(1)
    prior_N1 = embedding_bag(of_review[0], prior_M1, of_review[1], mode="sum")
    # All models at once: their objectives do not touch.
    w_MY = torch.zeros_like(r_MY, requires_grad=True)
    bias_Y = torch.zeros(FOLDS + 1, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [w_MY, bias_Y], max_iter=ITERATIONS, history_size=3, line_search_fn="strong_wolfe"
    )

    @torch.no_grad()
    def objective() -> Tensor:
        learned_NY = embedding_bag(of_review[0], r_MY * w_MY, of_review[1], mode="sum")
        logits_NY = prior_N1 + learned_NY + bias_Y
        loss_NY = softplus(logits_NY) - y_N1 * logits_NY
        slope_NY = LOSS_WEIGHT * is_learned_NY * (torch.sigmoid(logits_NY) - y_N1)
        w_MY.grad = embedding_bag(of_ngram[0], slope_NY, of_ngram[1], mode="sum") * r_MY + w_MY
        bias_Y.grad = slope_NY.sum(dim=0)
        return LOSS_WEIGHT * (is_learned_NY * loss_NY).sum() + w_MY.square().sum() / 2

    optimizer.step(objective)  # type: ignore[no-untyped-call]
    weights_MY: NDArray[np.float32] = (prior_M1 + r_MY * w_MY.detach()).numpy()
    return weights_MY


def _bags(bag_P: Integers, member_P: Integers, count: int) -> tuple[Tensor, Tensor]:
    """Members bag by bag, and where each bag begins."""
    order = np.argsort(bag_P, kind="stable")
    starts = np.searchsorted(bag_P[order], np.arange(count))
    return torch.from_numpy(member_P[order]), torch.from_numpy(starts)
