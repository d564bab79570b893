import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as reference
from sklearn.calibration import calibration_curve

from sentiment.report.metrics import (
    RunningMeans,
    binary_metrics,
    binary_sums,
    calibration,
    wilson_interval,
)


@pytest.mark.parametrize("scale", [0.1, 1.0, 30.0])
def test_agrees_with_scikit_learn(scale: float) -> None:
    torch.manual_seed(0)
    labels_N = torch.randint(0, 2, (500,))
    logits_N = scale * (torch.randn(500) + labels_N)
    found = binary_metrics(logits_N, labels_N)
    probability = torch.sigmoid(logits_N.double()).numpy()
    y, said = labels_N.numpy(), (probability >= 0.5).astype(int)
    assert found["accuracy"] == pytest.approx(reference.accuracy_score(y, said), abs=1e-7)
    assert found["f1"] == pytest.approx(reference.f1_score(y, said), abs=1e-6)
    assert found["auroc"] == pytest.approx(reference.roc_auc_score(y, probability), abs=1e-6)
    assert found["calibration_error"] == calibration(logits_N, labels_N).error
    (tn, fp), (fn, tp) = reference.confusion_matrix(y, said)
    names = ("true_negatives", "false_positives", "false_negatives", "true_positives")
    assert [found[name] for name in names] == [tn, fp, fn, tp]
    if scale < 30:
        assert found["loss"] == pytest.approx(reference.log_loss(y, probability))


def test_logits_between_zero_and_one_are_logits_all_the_same() -> None:
    # torchmetrics would take these for probabilities and call two of them negative.
    found = binary_metrics(torch.tensor([0.1, 0.2, 0.9]), torch.tensor([1, 1, 0]))
    assert found["true_positives"] == 2
    assert found["false_positives"] == 1


def test_calibration_agrees_with_scikit_learn_and_with_the_error_by_hand() -> None:
    torch.manual_seed(0)
    labels_N = torch.randint(0, 2, (400,))
    logits_N = torch.randn(400) + labels_N
    found = calibration(logits_N, labels_N, bins=5)
    probability_N = torch.sigmoid(logits_N.double()).numpy()
    observed, predicted = calibration_curve(labels_N, probability_N, n_bins=5)
    np.testing.assert_allclose(found.observed_K, observed)
    np.testing.assert_allclose(found.predicted_K, predicted)
    bounds = [0.2, 0.4, 0.6, 0.8]
    counts = np.bincount(np.digitize(probability_N, bounds))
    assert found.reviews_K.tolist() == counts.tolist()
    by_hand = np.sum(counts * np.abs(observed - predicted)) / 400
    assert found.error == pytest.approx(by_hand, abs=1e-9)


def test_calibration_has_bins_without_reviews_and_probabilities_of_one() -> None:
    found = calibration(torch.tensor([-1000.0, 1000.0, 1000.0]), torch.tensor([0, 1, 0]), bins=4)
    assert found.reviews_K.tolist() == [1, 0, 0, 2]
    assert found.observed_K[[0, 3]].tolist() == [0, 0.5]
    assert found.observed_K[1:3].isnan().all()
    assert found.error == pytest.approx(1 / 3)  # of the two, one


def test_wilson_interval_of_a_known_case() -> None:
    # Newcombe (1998), Statistics in Medicine 17, table I: 81 of 263 and 15 of 148.
    assert wilson_interval(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson_interval(15, 148) == pytest.approx((0.0624, 0.1605), abs=5e-5)


@given(st.integers(1, 10_000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_interval_holds_the_proportion(counts: tuple[int, int]) -> None:
    low, high = wilson_interval(*counts)
    assert 0 <= low <= counts[0] / counts[1] + 1e-12
    assert counts[0] / counts[1] - 1e-12 <= high <= 1


def test_running_means_weigh_batches_by_their_size() -> None:
    running, fine = RunningMeans(("loss", "accuracy"), torch.device("cpu")), torch.tensor(False)
    logits, labels = torch.tensor([0.4, -0.3, 0.2, 5.0]), torch.tensor([1.0, 1.0, 0.0, 1.0])
    for part in (slice(0, 3), slice(3, 4)):
        loss = torch.nn.functional.binary_cross_entropy_with_logits(logits[part], labels[part])
        running.update(binary_sums(loss, logits[part], labels[part]), fine)
    found = running.compute()
    expected = np.mean(np.log1p(np.exp(-np.where(labels == 1, logits, -logits))))
    assert found["loss"] == pytest.approx(expected, rel=1e-6)
    assert found["accuracy"] == 0.5
    wrong = binary_sums(torch.tensor(torch.inf), torch.tensor([-9.0]), torch.tensor([1.0]))
    running.update(wrong, torch.tensor(True))
    right = binary_sums(torch.tensor(1.0), torch.tensor([9.0]), torch.tensor([1.0]))
    running.update(right, fine)
    assert running.compute() == {"loss": 1.0, "accuracy": 1.0}
    assert np.isnan(running.compute()["loss"])
