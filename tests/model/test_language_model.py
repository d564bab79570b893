import os
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from sentiment import cli
from sentiment.config import Cell, EncoderConfig, Kernel, PretrainConfig
from sentiment.model import language_model
from sentiment.model.kernel import load_kernel
from sentiment.model.language_model import LanguageModel, Predictions

VOCABULARY = 9


def make_model(
    cell: Cell = Cell.lstm, bidirectional: bool = True, layers: int = 2, size: int = 4
) -> LanguageModel:
    torch.manual_seed(0)
    config = EncoderConfig(layers, size, 0.0, 0.0, cell, bidirectional)
    return LanguageModel(nn.Embedding(VOCABULARY, 3), config)


def batch(lengths: list[int]) -> tuple[Tensor, Tensor]:
    ids_TB = torch.randint(0, VOCABULARY, (max(lengths), len(lengths)))
    return ids_TB, torch.tensor(lengths)


def predict(model: LanguageModel, ids_TB: Tensor, lengths_B: Tensor) -> list[Predictions]:
    found: list[Predictions] = model(ids_TB, lengths_B, int((lengths_B - 1).sum()))
    return found


@settings(deadline=None, max_examples=25)
@given(st.lists(st.integers(1, 7), min_size=1, max_size=4).filter(lambda found: max(found) > 1))
def test_every_token_but_one_is_predicted_by_each_direction(lengths: list[int]) -> None:
    ids_TB, lengths_B = batch(lengths)
    rightward, leftward = predict(make_model(), ids_TB, lengths_B)
    reviews = [ids_TB[:length, b].tolist() for b, length in enumerate(lengths)]
    for predicted, left_out in ((rightward, slice(1, None)), (leftward, slice(0, -1))):
        expected = sorted(token for review in reviews for token in review[left_out])
        assert sorted(predicted.targets_M.tolist()) == expected
    assert rightward.states_ME.shape == leftward.states_ME.shape == (sum(lengths) - len(lengths), 3)


@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("learned", [False, True])
def test_a_prediction_does_not_depend_on_what_it_predicts(layers: int, learned: bool) -> None:
    model = make_model(layers=layers)
    ids_T1, lengths_1 = batch([8])
    if learned:
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
        for _ in range(5):
            predicted = predict(model, ids_T1, lengths_1)
            torch.stack([model.loss(one) for one in predicted]).sum().backward()
            optimizer.step()
            optimizer.zero_grad()
    # The state at each position predicts from left to right what is at its right, and the other
    # way round.
    for t in range(7):
        for direction, (first, last) in enumerate(((t + 1, 8), (0, t + 1))):
            other_T1 = ids_T1.clone()
            other_T1[first:last] = (other_T1[first:last] + 1) % VOCABULARY
            one, other = (predict(model, ids, lengths_1)[direction] for ids in (ids_T1, other_T1))
            torch.testing.assert_close(one.states_ME[t], other.states_ME[t], rtol=0, atol=0)


def test_a_prediction_depends_on_all_that_it_may_know() -> None:
    model = make_model()
    ids_T1, lengths_1 = batch([6])
    for direction, (position, known) in enumerate(((4, 0), (0, 5))):
        other_T1 = ids_T1.clone()
        other_T1[known] = (other_T1[known] + 1) % VOCABULARY
        one, other = (predict(model, ids, lengths_1)[direction] for ids in (ids_T1, other_T1))
        assert not torch.equal(one.states_ME[position], other.states_ME[position])


def test_gradients_are_those_of_two_models_of_one_direction() -> None:
    both, right = make_model(), make_model(bidirectional=False)
    for name, weight in right.named_parameters():
        source = both.get_parameter(name)
        with torch.no_grad():
            weight.copy_(source[:, : weight.shape[1]] if weight.ndim == 2 else source)
    ids_TB, lengths_B = batch([7, 4, 2])
    losses = [model.loss(predict(model, ids_TB, lengths_B)[0]) for model in (both, right)]
    assert losses[0].item() == pytest.approx(losses[1].item(), abs=1e-6)
    for loss in losses:
        loss.backward()
    for name, weight in right.named_parameters():
        found = both.get_parameter(name).grad
        assert found is not None
        assert weight.grad is not None
        found = found[:, : weight.shape[1]] if weight.ndim == 2 else found
        torch.testing.assert_close(found, weight.grad, rtol=1e-4, atol=1e-6)


def test_the_compiled_kernel_computes_the_same() -> None:
    cache = Path(os.environ["SENTIMENT_CACHE"])
    ids_TB, lengths_B = batch([7, 4, 2])
    found = []
    for kernel in (Kernel.plain, Kernel.auto):
        load_kernel(kernel, cache)
        model = make_model(size=16)
        loss = torch.stack([model.loss(one) for one in predict(model, ids_TB, lengths_B)]).mean()
        loss.backward()
        found.append([weight.grad for weight in model.parameters()])
    load_kernel(Kernel.plain, cache)
    for plain, compiled in zip(*found, strict=True):
        torch.testing.assert_close(plain, compiled, rtol=1e-4, atol=1e-6)


@settings(deadline=None, max_examples=25)
@given(count=st.integers(1, 9), at_once=st.integers(1, 10), scale=st.sampled_from([1.0, 20.0]))
def test_the_loss_and_its_gradients_are_those_of_a_softmax_over_the_vocabulary(
    count: int, at_once: int, scale: float
) -> None:
    model = make_model()
    nn.init.normal_(model.bias_V, std=scale)
    targets_M = torch.randint(0, VOCABULARY, (count,))
    losses, gradients = [], []
    states = torch.randn(count, 3) * scale
    for ours in (True, False):
        states_ME = states.clone().requires_grad_()
        if ours:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(language_model, "AT_ONCE", at_once)
                loss = model.loss(Predictions(states_ME, targets_M))
                with torch.inference_mode():
                    assert model.loss(Predictions(states_ME, targets_M)) == loss
        else:
            logits_MV = states_ME @ model.embedding.weight.T + model.bias_V
            loss = cross_entropy(logits_MV, targets_M)
        model.zero_grad()
        (3 * loss).backward()
        losses.append(loss.detach())
        gradients.append([states_ME.grad, model.embedding.weight.grad, model.bias_V.grad])
    torch.testing.assert_close(*losses, rtol=1e-5, atol=1e-5)
    for found, expected in zip(*gradients, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_in_bfloat16_the_loss_keeps_what_that_format_can_hold() -> None:
    model = make_model()
    states_ME, targets_M = torch.randn(500, 3), torch.randint(0, VOCABULARY, (500,))
    found = []
    for dtype in (torch.float32, torch.bfloat16):
        model.zero_grad()
        loss = model.loss(Predictions(states_ME.to(dtype), targets_M))
        loss.backward()  # type: ignore[no-untyped-call]
        assert model.embedding.weight.grad is not None
        found.append((loss.detach(), model.embedding.weight.grad))
    (exact, exact_VE), (rounded, rounded_VE) = found
    assert rounded.dtype == rounded_VE.dtype == torch.float32
    assert rounded.item() == pytest.approx(exact.item(), rel=1e-2)
    assert (rounded_VE - exact_VE).norm() < 1e-2 * exact_VE.norm()


def test_sampled_by_hand() -> None:
    model = make_model()
    nn.init.normal_(model.bias_V)
    sampled_K, log_expected_V = torch.tensor([2, 5, 7]), torch.linspace(-3, -0.1, VOCABULARY)
    # Each right token against those sampled, without itself.
    against = {1: [2, 5, 7], 5: [2, 7], 2: [5, 7], 8: [2, 5, 7]}
    predicted = [
        Predictions(torch.randn(len(targets), 3), torch.tensor(targets))
        for targets in ([1, 5, 2], [8, 2])
    ]
    found = model.sampled_losses(predicted, sampled_K, log_expected_V)
    for loss, (states_ME, targets_M) in zip(found, predicted, strict=True):
        logits_MV = states_ME @ model.embedding.weight.T + model.bias_V - log_expected_V
        expected = [
            cross_entropy(logits_V[[target, *against[target]]][None], torch.tensor([0]))
            for logits_V, target in zip(logits_MV, targets_M.tolist(), strict=True)
        ]
        torch.testing.assert_close(loss, torch.stack(expected).mean())


def test_with_every_token_sampled_it_is_the_loss_itself() -> None:
    model = make_model()
    predicted = predict(model, *batch([7, 4]))
    everything_K, no_V = torch.arange(VOCABULARY), torch.zeros(VOCABULARY)
    found = model.sampled_losses(predicted, everything_K, no_V)
    torch.testing.assert_close(found, [model.loss(predictions) for predictions in predicted])


def test_nothing_but_the_targets_sampled_costs_nothing() -> None:
    model = make_model()
    predictions = Predictions(torch.randn(2, 3), torch.tensor([4, 4]))
    (loss,) = model.sampled_losses([predictions], torch.tensor([4]), torch.zeros(VOCABULARY))
    loss.backward()
    assert loss == 0
    for weight in model.parameters():
        assert weight.grad is None or weight.grad.isfinite().all()


@pytest.mark.parametrize("size", ["cpu", "gpu"])
def test_sizes_compose(size: str) -> None:
    config = cli.compose_config("pretrain", PretrainConfig, [f"size={size}"])
    assert config.model.bidirectional
