import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from sentiment.errors import UserError
from sentiment.training.calibration import best_threshold, divide_logits, fit_temperature
from sentiment.training.checkpoint import load_checkpoint
from tests.conftest import write_checkpoint


@pytest.mark.parametrize("temperature", [0.2, 1.0, 3.0])
def test_the_temperature_is_the_one_that_the_labels_were_drawn_with(temperature: float) -> None:
    torch.manual_seed(0)
    honest_N = 2 * torch.randn(50_000)
    labels_N = torch.bernoulli(torch.sigmoid(honest_N)).long()
    assert fit_temperature(temperature * honest_N, labels_N) == pytest.approx(temperature, rel=0.02)


def test_the_temperature_is_that_of_a_logistic_regression_on_the_logit() -> None:
    torch.manual_seed(0)
    labels_N = torch.randint(0, 2, (300,))
    logits_N = 3 * torch.randn(300) + labels_N
    reference = LogisticRegression(C=np.inf, fit_intercept=False, tol=1e-10)
    reference.fit(logits_N[:, None].double().numpy(), labels_N.numpy())
    found = fit_temperature(logits_N, labels_N)
    assert 1 / found == pytest.approx(reference.coef_.item(), rel=1e-5)


@pytest.mark.parametrize(
    ("labels", "found"), [([0, 0, 1, 1], "all right"), ([1, 1, 0, 0], "worse than by chance")]
)
def test_what_no_temperature_fits_is_refused(labels: list[int], found: str) -> None:
    with pytest.raises(UserError, match=f"the 4 validation reviews are told {found}"):
        fit_temperature(torch.tensor([-2.0, -1.0, 1.0, 2.0]), torch.tensor(labels))


@given(
    st.lists(
        st.tuples(st.integers(-6, 6), st.integers(0, 1)),
        min_size=1,
        max_size=12,
    )
)
def test_no_threshold_is_better_than_the_best(reviews: list[tuple[int, int]]) -> None:
    logits_N = torch.tensor([float(logit) for logit, _ in reviews])
    labels_N = torch.tensor([label for _, label in reviews])
    threshold, accuracy = best_threshold(logits_N, labels_N)

    def accuracy_above(logit: float) -> float:
        return ((logits_N > logit) == (labels_N == 1)).double().mean().item()

    assert accuracy == pytest.approx(accuracy_above(math.log(threshold / (1 - threshold))))
    assert accuracy == pytest.approx(max(accuracy_above(n + 0.5) for n in range(-8, 8)))


def test_of_equally_good_thresholds_it_is_the_one_next_to_a_half() -> None:
    for lowest in (-3.0, -1.0):
        logits_N = torch.tensor([lowest, 3.0, 5.0])
        assert best_threshold(logits_N, torch.tensor([0, 1, 1])) == (0.5, 1.0)
    for label, sign in ((1, 1), (0, -1)):
        logits_N = sign * torch.tensor([2.0, 3.0, 5.0])
        assert best_threshold(logits_N, torch.tensor([label] * 3)) == (0.5, 1.0)


def test_only_the_logits_of_a_checkpoint_change(tmp_path: Path) -> None:
    checkpoint = load_checkpoint(write_checkpoint(tmp_path / "best", ["a fine film"]))
    cooler = divide_logits(checkpoint, 2.0)
    ids_TB, lengths_B = torch.tensor([[2], [3], [4]]), torch.tensor([3])
    first, second = (c.build_model().eval() for c in (checkpoint, cooler))
    logits = [model(ids_TB, lengths_B) for model in (first, second)]
    torch.testing.assert_close(logits[1], logits[0] / 2)
    assert checkpoint.weights["output.bias"] is not cooler.weights["output.bias"]
    assert checkpoint.weights["embedding.weight"] is cooler.weights["embedding.weight"]
