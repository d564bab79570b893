import numpy as np
import pytest
from sklearn.metrics import f1_score, roc_auc_score

from sentiment.report import breakdown

RANDOM = np.random.default_rng(0)
IS_POSITIVE_N = RANDOM.random(400) < 0.5
LOGITS_N = np.round(RANDOM.normal(size=400) + IS_POSITIVE_N, 1)  # with ties


def resampled(figure: object) -> tuple[float, float]:
    """The middle 95 % of a figure over bootstrap samples."""
    rows = RANDOM.integers(0, 400, (2000, 400))
    found = [figure(IS_POSITIVE_N[row], LOGITS_N[row]) for row in rows]  # type: ignore[operator]
    low, high = np.quantile(found, [0.025, 0.975])
    return float(low), float(high)


def test_intervals_are_those_of_the_bootstrap() -> None:
    auroc = breakdown.auroc_interval(LOGITS_N, IS_POSITIVE_N)
    assert sum(auroc) / 2 == pytest.approx(roc_auc_score(IS_POSITIVE_N, LOGITS_N), abs=1e-12)
    ranks = resampled(
        lambda y, x: np.mean(x[y][:, None] > x[~y]) + np.mean(x[y][:, None] == x[~y]) / 2
    )
    assert auroc == pytest.approx(ranks, abs=0.005)

    right = np.sum(IS_POSITIVE_N & (LOGITS_N > 0.5)), np.sum(IS_POSITIVE_N ^ (LOGITS_N > 0.5))
    f1 = breakdown.f1_interval(int(right[0]), int(right[1]))
    assert f1[0] < f1_score(IS_POSITIVE_N, LOGITS_N > 0.5) < f1[1]
    harmonic = resampled(lambda y, x: 2 * np.sum(y & (x > 0.5)) / (np.sum(y) + np.sum(x > 0.5)))
    assert f1 == pytest.approx(harmonic, abs=0.01)

    mean = breakdown.mean_interval(LOGITS_N)
    assert mean == pytest.approx(resampled(lambda _, x: np.mean(x)), abs=0.01)


def test_intervals_of_next_to_nothing_say_nothing() -> None:
    assert breakdown.auroc_interval(np.array([0.0, 1.0]), np.array([False, True])) == (0, 1)
    assert breakdown.f1_interval(0, 0) == (0, 1)


def test_lengths_are_grouped_into_equal_parts_and_every_review_counts_once() -> None:
    lengths_N, is_right_N = np.arange(1, 81), np.arange(80) % 4 > 0
    found = breakdown.by_length(lengths_N, is_right_N)
    assert [group.total for group in found] == [10] * 8
    assert [group.name for group in found][:2] == ["1–10", "11–20"]  # noqa: RUF001
    assert sum(group.hits for group in found) == 60
    (same,) = breakdown.by_length(np.full(9, 7), np.ones(9, bool))
    assert same[:3] == ("7", 9, 9)


def test_ratings_are_grouped_where_they_are_known() -> None:
    ratings_N = np.array([1, 10, np.nan, 10, 7.5])
    found = breakdown.by_rating(ratings_N, np.array([True, False, False, True, True]))
    assert [group[:3] for group in found] == [("1", 1, 1), ("7.5", 1, 1), ("10", 1, 2)]
    assert breakdown.by_rating(np.full(3, np.nan), np.ones(3, bool)) == []
    assert breakdown.by_rating(np.arange(50.0), np.ones(50, bool)) == []


def test_calibration_compares_probabilities_with_what_comes_of_them() -> None:
    probability_N = np.array([0.0, 0.08, 0.95, 1.0, 0.97, 0.99])
    bins = breakdown.calibration(probability_N, np.array([0, 0, 1, 1, 0, 1], bool))
    assert [part.positive[:3] for part in bins] == [("0.0–0.1", 0, 2), ("0.9–1.0", 3, 4)]  # noqa: RUF001
    assert [part.mean for part in bins] == pytest.approx([0.04, 0.9775])


def test_values_come_by_how_frequent_they_are_and_missing_ones_count() -> None:
    found = breakdown.by_value(["b", None, "a", "b", 7, "b"], np.array([1, 0, 1, 0, 1, 1], bool))
    assert [part[:3] for part in found] == [("b", 2, 3), ("7", 1, 1), ("a", 1, 1), ("none", 0, 1)]
    assert found[0][3:] == breakdown.share("b", np.array([1, 0, 1], bool))[3:]
