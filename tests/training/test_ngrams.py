import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.optimize import minimize
from sklearn.linear_model import LogisticRegression

from sentiment.data.encoded import EncodedReviews
from sentiment.model.ngrams import NO_NGRAM, NGramFeatures
from sentiment.training.ngrams import FOLDS, LOSS_WEIGHT, PRIOR_REVIEWS, fit_ngrams

V = 6
RATIO, WEIGHT = 0, 1
Reviews = list[list[int]]
Features = NDArray[np.float64]  # time, length of n-gram, feature


def fit(
    reviews: Reviews,
    labels: list[int],
    groups: list[int],
    longest: int,
    most: int = 1000,
    prior: NGramFeatures | None = None,
) -> tuple[NGramFeatures, list[Features]]:
    """What others are looked up in, and the features of each training review."""
    lengths_N = torch.tensor([len(review) for review in reviews])
    # What stands between reviews, as where they were truncated, is not to be read.
    ids = torch.tensor([token for review in reviews for token in (5, *review)], dtype=torch.int32)
    starts_N = (lengths_N + 1).cumsum(0) - lengths_N
    encoded = EncodedReviews(ids, starts_N, lengths_N, torch.tensor(labels))
    table, features = fit_ngrams(encoded, np.array(groups), V, longest, most, prior)
    own = [features[s : s + n] for s, n in zip(starts_N, lengths_N, strict=True)]
    return table, [part.view(-1, longest, 2).double().numpy() for part in own]


def lookup(table: NGramFeatures, review: list[int]) -> Features:
    features: Features = table(torch.tensor(review).unsqueeze(1)).double().numpy()
    return features.reshape(len(review), -1, 2)


def unscaled(table: NGramFeatures, review: list[int]) -> Features:
    return lookup(table, review) / table.scale_OC.double().numpy()


def ratios_by_counting(
    reviews: Reviews, labels: list[int], counted: Callable[[int], bool], text: list[int], n: int
) -> list[float]:
    """Ratios of the n-grams that end at each token, counted by hand over some of the reviews."""
    ratios = []
    for end in range(1, len(text) + 1):
        gram = text[end - n : end] if end >= n else None
        counts = [1.0, 1.0]
        for number, (review, label) in enumerate(zip(reviews, labels, strict=True)):
            stands = any(review[i : i + n] == gram for i in range(len(review)))
            counts[label] += counted(number) and stands
        odds = sum(labels) / (len(labels) - sum(labels))
        known = gram is not None and sum(counts) >= 4
        ratios.append(math.log(counts[1] / counts[0] / odds) if known else 0.0)
    return ratios


def assert_proportional(found: Features, expected: Features, tolerance: float) -> None:
    """The same but for a positive factor: features are scaled by their spread."""
    norms = np.linalg.norm(found), np.linalg.norm(expected)
    if min(norms) < 1e-6:
        assert max(norms) < 1e-6
    else:
        np.testing.assert_allclose(found / norms[0], expected / norms[1], atol=tolerance)


training = st.lists(
    st.tuples(st.lists(st.integers(2, V - 1), min_size=1, max_size=8), st.integers(0, 1)),
    min_size=2,
    max_size=30,
).filter(lambda rows: len({label for _, label in rows}) == 2)


# Trigrams that all have the same ratio, but for its rounding.
@example(rows=[([2], 0), ([2], 0), ([2, 2, 2], 1), ([2, 2, 2], 1), ([2, 2, 2], 1)], text=[1])
@given(rows=training, text=st.lists(st.integers(1, V - 1), min_size=1, max_size=8))
@settings(max_examples=40, deadline=None)
def test_ratios_of_other_reviews_count_all_training_reviews(
    rows: list[tuple[list[int], int]], text: list[int]
) -> None:
    reviews, labels = [list(column) for column in zip(*rows, strict=True)]
    table, _ = fit(reviews, labels, list(range(len(rows))), longest=3)
    for n in (1, 2, 3):
        expected = ratios_by_counting(reviews, labels, lambda _: True, text, n)
        assert_proportional(lookup(table, text)[:, n - 1, RATIO], np.array(expected), 1e-5)


@given(rows=training, of_group=st.integers(1, 4))
@settings(max_examples=40, deadline=None)
def test_ratios_of_training_reviews_count_none_of_the_same_fold(
    rows: list[tuple[list[int], int]], of_group: int
) -> None:
    reviews, labels = [list(column) for column in zip(*rows, strict=True)]
    groups = [number // of_group for number in range(len(rows))]
    _, own = fit(reviews, labels, groups, longest=2)
    if max(groups) < FOLDS:  # then each group is a fold
        for n in (1, 2):
            expected = [
                ratios_by_counting(
                    reviews, labels, lambda other, row=row: groups[other] != groups[row], review, n
                )
                for row, review in enumerate(reviews)
            ]
            found = np.concatenate(own)[:, n - 1, RATIO]
            # They are kept in half precision.
            assert_proportional(found, np.concatenate(expected), 1e-3)


def reviews_of(generator: np.random.Generator, count: int) -> Reviews:
    return [generator.integers(2, V, size=12).tolist() for _ in range(count)]


def test_weights_are_those_of_a_logistic_regression_on_ratios() -> None:
    generator = np.random.default_rng(0)
    reviews = reviews_of(generator, 80)
    labels = [int(review.count(2) + generator.normal() > 3) for review in reviews]
    table, _ = fit(reviews, labels, list(range(80)), longest=1)
    one_of_each = [2, 3, 4, 5]
    ratios = ratios_by_counting(reviews, labels, lambda _: True, one_of_each, 1)
    holds = np.array([[token in review for token in one_of_each] for review in reviews])
    reference = LogisticRegression(C=LOSS_WEIGHT, tol=1e-8).fit(holds * ratios, labels)
    weights = lookup(table, one_of_each)[:, 0, WEIGHT]
    assert_proportional(weights, reference.coef_[0] * ratios, 1e-3)


def test_a_training_review_tells_nothing_of_its_own_label() -> None:
    generator = np.random.default_rng(0)
    reviews = [[2, 2, 3, 2], [4, 5, 5], *reviews_of(generator, 58)]
    labels = [0, 1, *generator.integers(0, 2, size=58).tolist()]
    groups = [0, 0, *range(2, 60)]
    table, own = fit(reviews, labels, groups, longest=2)
    labels[:2] = 1, 0
    other_table, other_own = fit(reviews, labels, groups, longest=2)
    for length in (0, 1):
        for feature in (RATIO, WEIGHT):
            before, after, elsewhere, elsewhere_after = (
                np.concatenate(features)[:, length, feature]
                for features in (own[:2], other_own[:2], own[2:], other_own[2:])
            )
            assert_proportional(before, after, 2e-3)
            with pytest.raises(AssertionError):
                assert_proportional(elsewhere, elsewhere_after, 2e-3)
    with pytest.raises(AssertionError):
        assert_proportional(lookup(table, reviews[0]), lookup(other_table, reviews[0]), 2e-3)


def test_ngrams_that_stand_in_the_most_reviews_are_kept() -> None:
    reviews = [[2, 3], [2, 3], [2, 3], [4, 5, 4, 5], [4, 5], [2, 5]]
    table, _ = fit(reviews, [1, 1, 1, 0, 0, 0], list(range(6)), longest=2, most=1)
    assert table.keys_OS.shape == (2, 1)
    # "2" stands in 4 reviews, "2 3" in 3; "4 5" stands in 2, however often.
    known = lookup(table, [2, 3, 4, 5])[:, :, RATIO] != 0
    assert known.tolist() == [[True, False], [False, True], [False, False], [False, False]]


def test_reviews_without_anything_in_common_have_no_features() -> None:
    table, own = fit([[2], [3]], [0, 1], [0, 1], longest=2)
    assert not lookup(table, [2, 3]).any()
    assert not np.concatenate(own).any()


def fit_rows(
    rows: list[tuple[list[int], int]], longest: int, prior: NGramFeatures | None = None
) -> NGramFeatures:
    reviews, labels = [list(column) for column in zip(*rows, strict=True)]
    return fit(reviews, labels, list(range(len(rows))), longest, prior=prior)[0]


def stands_in(gram: list[int], review: list[int]) -> bool:
    return any(review[i : i + len(gram)] == gram for i in range(len(review)))


@given(
    earlier=training,
    rows=training,
    text=st.lists(st.integers(1, V - 1), min_size=1, max_size=8),
)
# The first run's weights are next to nothing, which is no scale for those of the second.
@example(
    earlier=[([3], 1), ([3], 0), ([3], 0)],
    rows=[([2], 0), ([2], 0), ([2], 1), ([3], 1), ([3], 1), ([3], 1)],
    text=[1],
)
@settings(max_examples=40, deadline=None)
def test_ratios_start_from_those_of_another_run(
    earlier: list[tuple[list[int], int]], rows: list[tuple[list[int], int]], text: list[int]
) -> None:
    prior = fit_rows(earlier, longest=2)
    found = unscaled(fit_rows(rows, longest=2, prior=prior), text)[:, :, RATIO]
    before = unscaled(prior, text)[:, :, RATIO]
    odds = sum(label for _, label in rows) / sum(1 - label for _, label in rows)
    for end, n in ((end, n) for end in range(1, len(text) + 1) for n in (1, 2) if end >= n):
        gram, ratio = text[end - n : end], before[end - 1, n - 1]
        counts = [
            sum(stands_in(gram, review) for review, label in rows if label == wanted)
            for wanted in (0, 1)
        ]
        if sum(counts) >= 2:
            further = 0.0
            if sum(stands_in(gram, review) for review, _ in earlier) >= 2:
                further = PRIOR_REVIEWS
            # Reviews of which so many are positive that they alone would have the prior's ratio.
            share = odds * math.exp(ratio) / (1 + odds * math.exp(ratio))
            positive = counts[1] + 1 + further * share
            ratio = math.log(positive / (counts[0] + 1 + further * (1 - share)) / odds)
        assert found[end - 1, n - 1] == pytest.approx(ratio, abs=1e-4)


def test_weights_are_drawn_to_those_of_another_run() -> None:
    generator = np.random.default_rng(0)
    short = generator.integers(2, V, size=(120, 3)).tolist()
    earlier = [(review, int(2 in review)) for review in short[:60]]
    rows = [(review, int(3 in review)) for review in short[60:]]
    prior = fit_rows(earlier, longest=1)
    one_of_each = [2, 3, 4, 5]
    before, after = (
        unscaled(table, one_of_each)[:, 0]
        for table in (prior, fit_rows(rows, longest=1, prior=prior))
    )
    holds = np.array([[token in review for token in one_of_each] for review, _ in rows])
    labels = np.array([label for _, label in rows])
    x = holds * after[:, RATIO]
    w = (after[:, WEIGHT] - before[:, WEIGHT]) / after[:, RATIO]
    # The regression with the prior's logits as an offset, from its definition.
    offsets = holds @ before[:, WEIGHT]
    reference = minimize(
        lambda p: (
            LOSS_WEIGHT * np.logaddexp(0, (1 - 2 * labels) * (offsets + x @ p[:-1] + p[-1])).sum()
            + (p[:-1] ** 2).sum() / 2
        ),
        np.zeros(5),
        tol=1e-12,
    )
    np.testing.assert_allclose(w, reference.x[:-1], atol=2e-3)
    assert np.abs(w).max() > 0.05


def test_a_training_review_tells_nothing_of_its_label_beside_a_prior() -> None:
    generator = np.random.default_rng(0)
    prior = fit_rows([(r, int(r[0] > 3)) for r in reviews_of(generator, 60)], longest=2)
    reviews = [[2, 2, 3, 2], [4, 5, 5], *reviews_of(generator, 58)]
    labels = [0, 1, *generator.integers(0, 2, size=58).tolist()]
    groups = [0, 0, *range(2, 60)]
    _, own = fit(reviews, labels, groups, longest=2, prior=prior)
    labels[:2] = 1, 0
    _, other = fit(reviews, labels, groups, longest=2, prior=prior)
    np.testing.assert_allclose(np.concatenate(own[:2]), np.concatenate(other[:2]), atol=2e-3)
    assert np.abs(np.concatenate(own[2:]) - np.concatenate(other[2:])).max() > 0.05


def test_as_many_ngrams_as_asked_for_are_learned_beside_those_of_a_prior() -> None:
    prior = fit_rows([([2, 3], 1), ([2, 3], 1), ([4], 0)], longest=2)
    reviews = [[2, 3], [2, 3], [5, 4], [5, 4], [5, 4], [3, 4], [3, 4]]
    table, _ = fit(reviews, [1, 1, 0, 0, 0, 1, 0], list(range(7)), 2, most=3, prior=prior)
    # "2", "3" and "2 3" are the prior's. Of "4" and "5" the first stands in more reviews; "3 4"
    # comes along, "5 4" would have to begin with a known one.
    kept = (table.keys_OS != NO_NGRAM).sum(dim=1).tolist()
    assert kept == [3, 2]
    assert (unscaled(table, [5, 4])[:, :, RATIO] != 0).tolist() == [[False, False], [True, False]]
