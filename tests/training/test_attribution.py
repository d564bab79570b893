import os
import sys

import numpy as np
import pytest
import torch

from sentiment.config import Device, Kernel, ModelConfig, Precision, RuntimeConfig
from sentiment.data.encoded import EncodedTexts
from sentiment.errors import UserError
from sentiment.model.classifier import Classifier
from sentiment.training.attribution import Attribution, attribute, neutral_input
from sentiment.training.runtime import Runtime, prepare
from tests.conftest import compose_train

VOCABULARY = 12


def classifier(size: int, ngrams: int) -> Classifier:
    torch.manual_seed(0)
    sizes = (f"model.hidden_size={size}", f"model.ngrams={ngrams}", "model.ngrams_size=3")
    config: ModelConfig = compose_train(*sizes).model
    return Classifier(torch.nn.Embedding(VOCABULARY, 6), config)


def runtime(kernel: Kernel = Kernel.plain) -> Runtime:
    cache = os.environ["SENTIMENT_CACHE"]
    return prepare(RuntimeConfig(Device.cpu, Precision.float32, 1, False, cache, kernel))


def texts(*ids_T: list[int]) -> EncodedTexts:
    lengths_N = torch.tensor([len(ids) for ids in ids_T])
    ids = torch.tensor([index for ids in ids_T for index in ids], dtype=torch.int32)
    return EncodedTexts(ids, lengths_N.cumsum(0) - lengths_N, lengths_N)


def assert_complete(found: Attribution) -> None:
    difference = found.logit - found.baseline
    # Half a unit in the last place of each of the numbers that are added up comes on top.
    assert found.weights_T.sum().item() == pytest.approx(difference, rel=0.0101, abs=0.00101)


@pytest.mark.parametrize("kernel", [Kernel.plain, Kernel.auto])
def test_weights_add_up_to_the_difference_of_the_logits(kernel: Kernel) -> None:
    model, on = classifier(16, ngrams=2), runtime(kernel)
    model.ngrams.keys_OS[0] = torch.tensor([3, 5, 7])
    model.ngrams.features_OSC.normal_(generator=torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(1)
    rows = [torch.randint(VOCABULARY, (n,), generator=generator).tolist() for n in (1, 3, 9, 40)]
    for ids_T, found in zip(rows, attribute(model, texts(*rows), on), strict=True):
        ids_TB, lengths_B = torch.tensor(ids_T).unsqueeze(1), torch.tensor([len(ids_T)])
        assert found.logit == pytest.approx(model(ids_TB, lengths_B).item(), abs=1e-5)
        neutral_TBE = neutral_input(model).expand(len(ids_T), 1, -1)
        expected = model.logits(neutral_TBE, lengths_B).item()
        assert found.baseline == pytest.approx(expected, abs=1e-5)
        assert len(found.weights_T) == len(ids_T)
        assert_complete(found)


def test_weights_are_integrals_of_gradients() -> None:
    model, on, steps = classifier(8, ngrams=0), runtime(), 500
    (found,) = attribute(model, texts([2, 5, 3, 3]), on)
    # The definition, by the midpoints of many steps.
    x_TBE = model.inputs(torch.tensor([[2], [5], [3], [3]])).detach()
    shares_1B1 = ((torch.arange(steps) + 0.5) / steps)[None, :, None]
    way_TBE = x_TBE - neutral_input(model)
    path_TBE = (neutral_input(model) + way_TBE * shares_1B1).requires_grad_()
    logits_B = model.logits(path_TBE, torch.full((steps,), 4))
    (slope_TBE,) = torch.autograd.grad(logits_B.sum(), path_TBE)
    expected_T = (slope_TBE.mean(dim=1) * way_TBE.squeeze(1)).sum(dim=1)
    torch.testing.assert_close(found.weights_T, expected_T, rtol=1e-3, atol=1e-5)


def test_the_baseline_says_next_to_nothing() -> None:
    model = classifier(8, ngrams=2).eval()
    torch.nn.init.normal_(model.embedding.weight, std=2.0)
    model.ngrams.keys_OS[0] = torch.arange(3)
    model.ngrams.features_OSC.fill_(3.0)
    lengths_B = torch.tensor([100])
    repeated = [model.inputs(torch.full((100, 1), index)) for index in range(VOCABULARY)]
    for x_TBE in repeated:
        x_TBE[:, :, 6:] = 0
    distances = [model.logits(x_TBE, lengths_B).abs().item() for x_TBE in repeated]
    assert max(distances) > 1.5 * min(distances)
    torch.testing.assert_close(neutral_input(model), repeated[int(np.argmin(distances))][0, 0])


def test_an_ngram_is_shared_by_its_tokens() -> None:
    model, on = classifier(8, ngrams=2), runtime()
    torch.nn.init.zeros_(model.embedding.weight)
    torch.nn.init.constant_(model.output.weight, 1.0)
    # Token 4 is known for the pair 4 5 alone, which is all that the encoder reads.
    model.ngrams.keys_OS[0, 0] = 4
    model.ngrams.keys_OS[1, 0] = 0 * VOCABULARY + 5
    model.ngrams.features_OSC[1, 0] = torch.tensor([1.0, -2.0])
    (found,) = attribute(model, texts([2, 4, 5, 2]), on)
    before, first, second, after = found.weights_T.tolist()
    assert before == after == 0
    assert first == second
    assert_complete(found)
    assert abs(found.logit - found.baseline) > 0.1


def test_weights_add_up_where_the_logit_jumps() -> None:
    model, on = classifier(8, ngrams=0), runtime()
    with torch.no_grad():
        for lstm in (*model.encoder.left_to_right, *model.encoder.right_to_left):
            lstm.weight_hh_l0.mul_(2)
        model.output.weight.mul_(10)
    ids_T = torch.randint(VOCABULARY, (20,), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        start_E, x_TBE = neutral_input(model), model.inputs(ids_T.unsqueeze(1))
        path_TBE = start_E + (x_TBE - start_E) * torch.linspace(0, 1, 1000)[:, None]
        logits_B = model.logits(path_TBE, torch.full((1000,), 20))
    assert logits_B.diff().abs().max() > 1  # in a thousandth of the path
    (found,) = attribute(model, texts(ids_T.tolist()), on)
    assert_complete(found)


def test_the_model_and_its_random_states_stay_as_they_are() -> None:
    model, on = classifier(8, ngrams=0), runtime()
    before, state = {n: t.clone() for n, t in model.state_dict().items()}, torch.get_rng_state()
    attribute(model, texts([2, 3]), on)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert all(p.grad is None and p.requires_grad for p in model.parameters())
    assert not any(module.training for module in model.modules())


def test_without_captum_the_way_out_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "captum.attr", None)
    with pytest.raises(UserError, match=r"pip install 'sentiment\[explain\]'"):
        attribute(classifier(8, ngrams=0), texts([2, 3]), runtime())
