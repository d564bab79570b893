import math
import subprocess
import sys

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from sentiment.config import OptimizerConfig, Schedule
from sentiment.model.classifier import Classifier
from sentiment.training.optimizer import build_optimizer, learning_rate
from tests.conftest import compose_train

TINY = compose_train("model.layers=1", "model.hidden_size=4", "model.ngrams=0").model


def settings(schedule: Schedule = Schedule.cosine, warmup: float = 0.1) -> OptimizerConfig:
    return OptimizerConfig(0.002, 0.01, schedule, warmup, 1.0)


def test_cosine_by_hand() -> None:
    rates = [learning_rate(update, 100, settings()) for update in range(100)]
    assert rates[:10] == pytest.approx([0.0002 * (i + 1) for i in range(10)])
    assert rates[10] == 0.002
    assert rates[55] == pytest.approx(0.001)
    assert rates[99] == pytest.approx(0.001 * (1 + math.cos(math.pi * 89 / 90)))


@given(st.integers(1, 500), st.floats(0, 0.99, allow_subnormal=False))
def test_rates_rise_to_the_peak_then_never_rise_again(total: int, warmup: float) -> None:
    for schedule in Schedule:
        rates = [learning_rate(u, total, settings(schedule, warmup)) for u in range(total)]
        assert max(rates) == pytest.approx(0.002)
        peak = rates.index(max(rates))
        assert rates[:peak] == sorted(rates[:peak])
        assert rates[peak:] == sorted(rates[peak:], reverse=True)
        assert min(rates) >= 0


def test_only_weight_matrices_of_the_network_decay() -> None:
    model = Classifier(nn.Embedding(10, 3), TINY)
    names = {parameter: name for name, parameter in model.named_parameters()}
    decayed, rest = build_optimizer(model, settings()).param_groups
    assert decayed["weight_decay"] == 0.01
    assert rest["weight_decay"] == 0
    assert {names[p] for p in rest["params"]} == {
        name for name in names.values() if "bias" in name or name == "embedding.weight"
    }
    assert len(decayed["params"]) + len(rest["params"]) == len(names)


def test_frozen_vectors_are_not_optimized() -> None:
    model = Classifier(nn.Embedding(10, 3), TINY)
    model.embedding.weight.requires_grad = False
    groups = build_optimizer(model, settings()).param_groups
    assert all(p is not model.embedding.weight for group in groups for p in group["params"])


def test_one_update_is_adamws() -> None:
    model = Classifier(nn.Embedding(10, 3), TINY)
    optimizer = build_optimizer(model, settings())
    weight = model.output.weight
    before = weight.detach().clone()
    weight.grad = torch.ones_like(weight)
    optimizer.step()
    # The first step of Adam moves by the learning rate, whatever the gradient's size.
    torch.testing.assert_close(weight.detach(), before * (1 - 0.002 * 0.01) - 0.002)


def test_training_does_not_wait_for_the_compiler() -> None:
    code = """
import sys

import torch
from sentiment.config import Device, Kernel, Precision, RuntimeConfig
from sentiment.training.optimizer import build_optimizer
from sentiment.training.runtime import prepare
from tests.training.test_optimizer import TINY, settings
from sentiment.model.classifier import Classifier

prepare(RuntimeConfig(Device.cpu, Precision.float32, 1, False, ".", Kernel.plain))
model = Classifier(torch.nn.Embedding(10, 3), TINY)
optimizer = build_optimizer(model, settings())
optimizer.zero_grad()
model(torch.ones(2, 2, dtype=torch.long), torch.tensor([2, 1])).sum().backward()
optimizer.step()
optimizer.load_state_dict(optimizer.state_dict())
print("torch._dynamo" in sys.modules)
"""
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
