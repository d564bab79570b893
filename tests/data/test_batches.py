import sys
from itertools import chain

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sentiment.config import TruncationSide
from sentiment.data.batches import collate, padded_time, shuffled_batches, sorted_batches
from sentiment.data.encoded import EncodedReviews

CPU = torch.device("cpu")
LENGTHS = st.lists(st.integers(1, 400), min_size=1, max_size=300).map(np.array)


def reviews_of(*ids: list[int]) -> EncodedReviews:
    lengths_N = torch.tensor([len(review) for review in ids])
    return EncodedReviews(
        ids=torch.tensor(list(chain(*ids)), dtype=torch.int32),
        starts_N=lengths_N.cumsum(0) - lengths_N,
        lengths_N=lengths_N,
        labels_N=torch.arange(len(ids)) % 2,
    )


@given(LENGTHS, st.integers(1, 40), st.integers(0, 99), st.integers(0, 9))
def test_every_row_is_in_one_batch_and_the_seed_decides_which(
    lengths_N: np.ndarray, batch_size: int, seed: int, epoch: int
) -> None:
    batches = shuffled_batches(lengths_N, batch_size, seed, epoch)
    assert sorted(np.concatenate(batches)) == list(range(len(lengths_N)))
    assert max(map(len, batches)) <= batch_size
    assert len(batches) == -(-len(lengths_N) // batch_size)
    again = shuffled_batches(lengths_N, batch_size, seed, epoch)
    assert all(map(np.array_equal, batches, again))


@given(LENGTHS, st.integers(1, 40), st.integers(1, 5000))
def test_no_batch_has_more_tokens_than_allowed_unless_it_is_a_review_alone(
    lengths_N: np.ndarray, batch_size: int, max_tokens: int
) -> None:
    bounded = shuffled_batches(lengths_N, batch_size, 0, 0, max_tokens)
    assert sorted(np.concatenate(bounded)) == list(range(len(lengths_N)))
    for rows in bounded:
        assert len(rows) <= batch_size
        assert len(rows) == 1 or len(rows) * padded_time(lengths_N[rows].max()) <= max_tokens
    sizes = [padded_time(lengths_N.max()) * batch_size, sys.maxsize]
    unbounded = [shuffled_batches(lengths_N, batch_size, 0, 0, size) for size in sizes]
    assert all(map(np.array_equal, *unbounded))


def test_a_review_of_fifty_thousand_tokens_goes_alone() -> None:
    lengths_N = np.array([50_000, *range(100, 163)])
    batches = shuffled_batches(lengths_N, 64, 0, 0, max_tokens=65_536)
    assert sorted(map(len, batches)) == [1, 63]


def test_epochs_and_seeds_differ() -> None:
    lengths_N = np.random.default_rng(0).integers(1, 400, 1000)
    orders = {
        np.concatenate(shuffled_batches(lengths_N, 32, seed, epoch)).tobytes()
        for seed in range(3)
        for epoch in range(3)
    }
    assert len(orders) == 9


def test_padding_stays_under_five_percent_on_lengths_like_imdbs() -> None:
    # Log-normal with IMDB's median of 198 and 90th percentile of 519 tokens, cut at 2,000.
    generator = np.random.default_rng(0)
    lengths_N = np.clip(np.exp(generator.normal(5.29, 0.75, 22_500)), 10, 2000).astype(int)
    for batches in (shuffled_batches(lengths_N, 64, 0, 0), sorted_batches(lengths_N, 64)):
        padded = sum(padded_time(lengths_N[rows].max()) * len(rows) for rows in batches)
        assert lengths_N.sum() / padded > 0.95


@given(LENGTHS, st.integers(1, 40))
def test_sorted_batches_cover_all_rows_longest_first(
    lengths_N: np.ndarray, batch_size: int
) -> None:
    order = np.concatenate(sorted_batches(lengths_N, batch_size))
    assert sorted(order) == list(range(len(lengths_N)))
    assert (np.diff(lengths_N[order]) <= 0).all()


def test_collate_pads_time_major() -> None:
    batch = collate(reviews_of([5, 6, 7], [8], [9, 10]), np.array([2, 0]), CPU)
    assert batch.ids_TB.tolist() == [[9, 5], [10, 6], [0, 7], *[[0, 0]] * 5]
    assert batch.lengths_B.tolist() == [2, 3]
    assert batch.labels_B.tolist() == [0.0, 0.0]
    assert batch.ids_TB.dtype == torch.int64


@pytest.mark.parametrize(
    ("side", "kept"), [(TruncationSide.left, [6, 7]), (TruncationSide.right, [5, 6])]
)
def test_truncation_keeps_the_end_or_the_beginning(side: TruncationSide, kept: list[int]) -> None:
    reviews = reviews_of([5, 6, 7], [8]).truncate(2, side)
    assert collate(reviews, np.array([0]), CPU).ids_TB.flatten().tolist() == [*kept, *[0] * 6]
    assert collate(reviews, np.array([1]), CPU).ids_TB.flatten().tolist() == [8, *[0] * 7]


def test_no_limit_truncates_nothing() -> None:
    reviews = reviews_of([5, 6, 7])
    assert reviews.truncate(None, TruncationSide.left) is reviews


def test_a_batch_of_long_texts_holds_fewer_of_them() -> None:
    lengths_N = np.array([5, 100_000, 900, 7, 950, 6])
    batches = sorted_batches(lengths_N, batch_size=3, max_tokens=2000)
    assert [rows.tolist() for rows in batches] == [[1], [4, 2], [3, 5, 0]]


@given(st.lists(st.integers(1, 400), min_size=1, max_size=20), st.integers(4, 100))
def test_pieces_hold_every_token_once_and_are_about_as_long_as_asked(
    lengths: list[int], span: int
) -> None:
    texts = reviews_of(*([row] * length for row, length in enumerate(lengths)))
    pieces = texts.cut(span)
    found = [
        texts.ids[start : start + length].tolist()
        for start, length in zip(pieces.starts_N.tolist(), pieces.lengths_N.tolist(), strict=True)
    ]
    assert list(chain(*found)) == texts.ids.tolist()
    assert all(len(piece) <= 1.5 * span for piece in found)
    row = 0
    for length in lengths:
        count = max(1, round(length / span))
        own = [len(piece) for piece in found[row : row + count]]
        assert sum(own) == length
        assert max(own) - min(own) <= 1
        row += count
    assert row == len(found)
