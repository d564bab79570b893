import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as reference

from sentiment.report.metrics import RunningMetrics, binary_metrics, wilson_interval


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


def test_wilson_interval_of_a_known_case() -> None:
    # Newcombe (1998), Statistics in Medicine 17, table I: 81 of 263 and 15 of 148.
    assert wilson_interval(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson_interval(15, 148) == pytest.approx((0.0624, 0.1605), abs=5e-5)


@given(st.integers(1, 10_000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_interval_holds_the_proportion(counts: tuple[int, int]) -> None:
    low, high = wilson_interval(*counts)
    assert -1e-12 <= low <= counts[0] / counts[1] + 1e-12
    assert counts[0] / counts[1] - 1e-12 <= high <= 1 + 1e-12


def test_running_metrics_weigh_batches_by_their_size() -> None:
    running = RunningMetrics(torch.device("cpu"))
    logits, labels = torch.tensor([0.4, -0.3, 0.2, 5.0]), torch.tensor([1.0, 1.0, 0.0, 1.0])
    for part in (slice(0, 3), slice(3, 4)):
        loss = torch.nn.functional.binary_cross_entropy_with_logits(logits[part], labels[part])
        running.update(loss, logits[part], labels[part], torch.tensor(False))
    found = running.compute()
    expected = np.mean(np.log1p(np.exp(-np.where(labels == 1, logits, -logits))))
    assert found["loss"] == pytest.approx(expected, rel=1e-6)
    assert found["accuracy"] == 0.5
    running.update(
        torch.tensor(torch.inf), torch.tensor([-9.0]), torch.tensor([1.0]), torch.tensor(True)
    )
    running.update(torch.tensor(1.0), torch.tensor([9.0]), torch.tensor([1.0]), torch.tensor(False))
    assert running.compute() == {"loss": 1.0, "accuracy": 1.0}
