from dataclasses import replace

import pytest
import torch
from torch import nn

from sentiment.config import Cell
from sentiment.data.encoded import EncodedReviews
from sentiment.model.classifier import Classifier
from sentiment.model.encoder import Encoder
from sentiment.text.tokenizer import train_tokenizer
from sentiment.training.probe import Probe
from tests.conftest import compose_train

WORDS = ["a", "fine", "film", "dull", "and", "long"]
CONFIG = compose_train("model.hidden_size=4", "model.ngrams=0", "tokenizer.min_frequency=1")
TOKENIZER = train_tokenizer([WORDS], CONFIG.tokenizer)


def reviews(*lengths: int) -> EncodedReviews:
    lengths_N = torch.tensor(lengths)
    ids = torch.randint(2, 8, (sum(lengths),), dtype=torch.int32)
    labels_N = torch.arange(len(lengths)) % 2
    return EncodedReviews(ids, lengths_N.cumsum(0) - lengths_N, lengths_N, labels_N)


@pytest.fixture
def model() -> Classifier:
    torch.manual_seed(0)
    return Classifier(nn.Embedding(8, 3), CONFIG.model)


def test_it_reads_the_ends_of_the_first_of_the_longest(model: Classifier) -> None:
    lengths = [500, 3, 450, 800, 399] + [7] * 19  # an eighth: three
    validation = reviews(*lengths)
    probe = Probe(validation, TOKENIZER, model.encoder)
    ends = validation.starts_N + validation.lengths_N
    expected = torch.stack([validation.ids[ends[n] - 400 : ends[n]] for n in (0, 2, 3)], dim=1)
    assert torch.equal(probe.ids_TB, expected.long())
    assert probe.labels_B.tolist() == [0, 0, 1]
    assert probe.tokens == [TOKENIZER.id_to_token(i) for i in expected[:, 0].tolist()]


@pytest.mark.parametrize("lengths", [(1,), (9, 2), (5,) * 40])
def test_few_and_short_reviews_are_enough(model: Classifier, lengths: tuple[int, ...]) -> None:
    curves, _ = Probe(reviews(*lengths), TOKENIZER, model.encoder)(model)
    assert [len(curve.norms) for curve in curves] == [max(lengths)] * 4


def test_a_wide_model_is_looked_at_with_fewer_reviews(model: Classifier) -> None:
    many, wide = reviews(*[5] * 400), Encoder(3, 200, 10, 0.0)
    assert Probe(many, TOKENIZER, model.encoder).ids_TB.shape[1] == 16
    assert Probe(many, TOKENIZER, wide).ids_TB.shape[1] == 2


def test_the_last_states_get_what_the_logit_gives_them(model: Classifier) -> None:
    probe = Probe(reviews(*[6] * 16), TOKENIZER, model.encoder)
    curves, _ = probe(model)
    logits_B = model.eval()(probe.ids_TB, torch.tensor([6, 6]))
    error = (logits_B.sigmoid() - probe.labels_B).abs().mean().item()
    for curve, weights_H in zip(curves[2:], model.output.weight[0].split(4), strict=True):
        assert curve.norms[0] == pytest.approx(error * weights_H.norm().item(), rel=1e-5)
    assert [curve.name for curve in curves[2:]] == [
        "layer_2_left_to_right",
        "layer_2_right_to_left",
    ]


def test_a_look_leaves_no_trace_and_finds_the_same_again(model: Classifier) -> None:
    probe, random = Probe(reviews(*range(1, 80)), TOKENIZER, model.encoder), torch.get_rng_state()
    for training in (True, False):
        model.train(training)
        first, second = probe(model), probe(model)
        assert model.training is model.encoder.training is training
        assert first.curves == second.curves
    assert torch.equal(torch.get_rng_state(), random)
    assert all(p.grad is None and p.requires_grad for p in model.parameters())


def test_gates_stand_in_the_order_of_the_text() -> None:
    torch.manual_seed(0)
    config = replace(CONFIG.model, cell=Cell.gru, layers=1)
    model = Classifier(nn.Embedding(8, 3), config)
    probe = Probe(reviews(6), TOKENIZER, model.encoder)
    _, layer = probe(model)
    assert layer is not None
    assert [gate.name for gate in layer.gates] == [
        "reset gate,\nleft to right",
        "reset gate,\nright to left",
        "update gate,\nleft to right",
        "update gate,\nright to left",
    ]
    # At the last token the right-to-left direction has no state before it.
    w = dict(model.encoder.right_to_left[0].named_parameters())
    sums_G = w["weight_ih_l0"] @ model.embedding.weight[probe.ids_TB[-1, 0]] + w["bias_ih_l0"]
    expected_H = (sums_G + w["bias_hh_l0"]).sigmoid()[4:8].double()
    torch.testing.assert_close(torch.from_numpy(layer.gates[3].values_TH[-1]), expected_H)
