import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sentiment.model.ngrams import FOLDS, NGramRatios, fit_ratios

V = 6
Reviews = list[list[int]]


def fit(
    reviews: Reviews, labels: list[int], groups: list[int], longest: int, most: int = 1000
) -> tuple[NGramRatios, list[list[list[float]]]]:
    """The table, and the ratios of each training review's tokens."""
    lengths_N = torch.tensor([len(review) for review in reviews])
    # What stands between reviews, as where they were truncated, is not to be read.
    ids = torch.tensor([token for review in reviews for token in (5, *review)], dtype=torch.int32)
    starts_N = (lengths_N + 1).cumsum(0) - lengths_N
    table, ratios = fit_ratios(
        *(ids, starts_N, lengths_N, torch.tensor(labels), np.array(groups), V, longest, most)
    )
    own = [ratios[s : s + n].tolist() for s, n in zip(starts_N, lengths_N, strict=True)]
    return table, own


def lookup(table: NGramRatios, review: list[int]) -> list[list[float]]:
    ratios_OT: list[list[float]] = table(torch.tensor(review).unsqueeze(1)).squeeze(1).tolist()
    return ratios_OT


def by_counting(
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


training = st.lists(
    st.tuples(st.lists(st.integers(2, V - 1), min_size=1, max_size=8), st.integers(0, 1)),
    min_size=2,
    max_size=30,
).filter(lambda rows: len({label for _, label in rows}) == 2)


@given(rows=training, text=st.lists(st.integers(1, V - 1), min_size=1, max_size=8))
@settings(max_examples=50, deadline=None)
def test_ratios_of_other_reviews_count_all_training_reviews(
    rows: list[tuple[list[int], int]], text: list[int]
) -> None:
    reviews, labels = [list(column) for column in zip(*rows, strict=True)]
    table, _ = fit(reviews, labels, list(range(len(rows))), longest=3)
    found = np.array(lookup(table, text))
    for n in (1, 2, 3):
        expected = by_counting(reviews, labels, lambda _: True, text, n)
        assert found[:, n - 1].tolist() == pytest.approx(expected, abs=1e-6)


@given(rows=training, of_group=st.integers(1, 4))
@settings(max_examples=50, deadline=None)
def test_ratios_of_training_reviews_count_none_of_the_same_fold(
    rows: list[tuple[list[int], int]], of_group: int
) -> None:
    reviews, labels = [list(column) for column in zip(*rows, strict=True)]
    groups = [number // of_group for number in range(len(rows))]
    _, own = fit(reviews, labels, groups, longest=2)
    if max(groups) < FOLDS:  # then each group is a fold
        for row, review in enumerate(reviews):
            for n in (1, 2):
                expected = by_counting(
                    reviews, labels, lambda other, row=row: groups[other] != groups[row], review, n
                )
                found = [ratios[n - 1] for ratios in own[row]]
                assert found == pytest.approx(expected, abs=1e-3)  # they are kept in float16


def test_a_training_review_tells_nothing_of_its_own_label() -> None:
    generator = np.random.default_rng(0)
    reviews = [generator.integers(2, V, size=20).tolist() for _ in range(60)]
    labels = [0, 1, *generator.integers(0, 2, size=58).tolist()]
    groups = [0, 0, *range(2, 60)]
    table, own = fit(reviews, labels, groups, longest=3)
    labels[:2] = 1, 0
    other_table, other_own = fit(reviews, labels, groups, longest=3)
    assert own[:2] == other_own[:2]
    assert sum(own[row] != other_own[row] for row in range(2, 60)) > 40
    assert lookup(table, reviews[0]) != lookup(other_table, reviews[0])


def test_ngrams_that_stand_in_the_most_reviews_are_kept() -> None:
    reviews = [[2, 3], [2, 3], [2, 3], [4, 5, 4, 5], [4, 5], [2, 5]]
    table, _ = fit(reviews, [1, 1, 1, 0, 0, 0], list(range(6)), longest=2, most=1)
    assert table.keys_OS.shape == (2, 1)
    # "2" stands in 4 reviews, 3 of them positive, and "2 3" in 3; the classes are as large.
    expected = [math.log(4 / 2), 0.0, 0.0, math.log(4 / 1), 0.0, 0.0]
    found = lookup(table, [2, 3, 4])
    assert [ratio for token in found for ratio in token] == pytest.approx(expected, abs=1e-6)
