"""What can only be seen on a GPU; skipped where there is none."""

import contextlib
import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.numpy import load_file
from torch import Tensor, nn

from sentiment import cli, evaluate, train
from sentiment.config import (
    Device,
    Kernel,
    Precision,
    PretrainConfig,
    RuntimeConfig,
    TrainConfig,
)
from sentiment.model.classifier import Classifier
from sentiment.model.encoder import Encoder
from sentiment.model.language_model import LanguageModel
from sentiment.report.journal import Journal
from sentiment.training import loop
from sentiment.training.classification import Classification
from sentiment.training.language import Language
from sentiment.training.loop import Step, Task
from sentiment.training.optimizer import build_optimizer
from sentiment.training.runtime import Runtime, prepare
from sentiment.training.state import Progress, TrainingState
from tests.cli.test_configuration import run_door
from tests.cli.test_resume import Died, die_in
from tests.conftest import compose_train
from tests.model.test_encoder import reference_for, run_packed
from tests.training.test_loop import TRAIN, VALIDATION

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")

EXACT = (
    *("data=sample", "runtime.device=cuda", "runtime.deterministic=true", "trainer.epochs=2"),
    *("trainer.max_train_batches=12", "checkpoint.every_updates=5"),
)
TASK = (
    *("data=sample", "embeddings.dimension=8", "model.hidden_size=8", "trainer.epochs=1"),
    *("trainer.batch_size=16", "trainer.max_train_batches=5", "trainer.log_every=100"),
)
Learn = Callable[..., tuple[Task, Any]]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    workspace = tmp_path_factory.mktemp("workspace")
    with contextlib.chdir(workspace):
        run_door(train.main, "data=sample", "hydra.run.dir=run")
    return workspace / "run"


def test_a_run_learns_and_says_where(trained: Path) -> None:
    environment = json.loads((trained / "environment.json").read_text())
    assert environment["device"] == torch.cuda.get_device_name()
    assert environment["precision"] == "bfloat16"
    assert json.loads((trained / "metrics.json").read_text())["test/accuracy"] > 0.9


def test_its_checkpoint_says_the_same_on_a_cpu(trained: Path, tmp_path: Path) -> None:
    on = "runtime.device=cpu", "runtime.precision=float32"
    run_door(evaluate.main, f"checkpoint={trained}", *on, f"hydra.run.dir={tmp_path}")
    found = json.loads((tmp_path / "metrics.json").read_text())
    expected = json.loads((trained / "metrics.json").read_text())
    assert found["test/accuracy"] == pytest.approx(expected["test/accuracy"], abs=0.01)
    assert found["test/loss"] == pytest.approx(expected["test/loss"], abs=0.01)


@pytest.mark.parametrize(
    ("precision", "tolerance"), [(Precision.float32, 2e-5), (Precision.bfloat16, 3e-2)]
)
def test_the_encoder_equals_packed_layers_in_float64(
    precision: Precision, tolerance: float
) -> None:
    torch.manual_seed(0)
    runtime = prepare(RuntimeConfig(Device.cuda, precision, 1, False, ".", Kernel.plain))
    generator = torch.Generator().manual_seed(1)
    for hidden, layers in ((32, 2), (100, 1), (256, 2)):
        lengths_B = torch.randint(1, 50, (33,), generator=generator)
        encoder = Encoder(20, hidden, layers, dropout=0.0)
        reference = reference_for(encoder, 20, hidden, layers).double()
        x_TBE = torch.randn(int(lengths_B.max()) + 3, 33, 20, generator=generator)
        y = x_TBE.double().requires_grad_()
        x = x_TBE.to(runtime.device).requires_grad_()
        encoder.to(runtime.device)
        with runtime.autocast():
            ours = encoder(x, lengths_B.to(runtime.device))
        theirs = run_packed(reference, y, lengths_B)
        seen = [torch.randn(each.shape, generator=generator) for each in theirs]
        sum((a * b.to(runtime.device)).sum() for a, b in zip(ours, seen, strict=True)).backward()
        sum((a * b).sum() for a, b in zip(theirs, seen, strict=True)).backward()
        for mine, other in (*zip(ours, theirs, strict=True), (x.grad, y.grad)):
            assert error(mine, other) < tolerance
        w_hh = dict(encoder.right_to_left[-1].named_parameters())["weight_hh_l0"].grad
        other = dict(reference.named_parameters())[f"weight_hh_l{layers - 1}_reverse"].grad
        assert error(w_hh, other) < tolerance


def error(found: Tensor | None, expected: Tensor | None) -> float:
    """Norm of the difference over the norm of what is expected."""
    assert found is not None
    assert expected is not None
    difference = found.detach().cpu().double() - expected.detach()
    return float(difference.norm() / expected.detach().norm())


def classification(runtime: Runtime, *overrides: str) -> tuple[Task, TrainConfig]:
    config = compose_train(*TASK, *overrides)
    model = Classifier(nn.Embedding(20, 8), config.model).to(runtime.device)
    return Classification(model, TRAIN, VALIDATION, config, runtime, lambda *_: None), config


def language(runtime: Runtime, *overrides: str) -> tuple[Task, PretrainConfig]:
    config = cli.compose_config("pretrain", PretrainConfig, [*TASK, *overrides])
    model = LanguageModel(nn.Embedding(20, 8), config.model).to(runtime.device)
    return Language(model, TRAIN, VALIDATION, config, runtime), config


@pytest.mark.filterwarnings("ignore:Synchronization debug mode")
@pytest.mark.parametrize(
    ("learn", "override"),
    [
        (classification, "objective.adversarial=1"),
        (classification, "objective.virtual_adversarial=1"),
        (language, "language.samples=8"),
        (language, "language.samples=null"),
    ],
)
def test_the_host_does_not_wait_within_a_step(
    learn: Learn, override: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = prepare(RuntimeConfig(Device.cuda, Precision.bfloat16, 1, False, ".", Kernel.plain))
    task, config = learn(runtime, override)
    step, faults, steps = task.step, loop._faults, itertools.count()

    def watched(*arguments: Any) -> Step:
        # The first one of all may wait for what is made once.
        torch.cuda.set_sync_debug_mode("error" if next(steps) else "default")
        return step(*arguments)

    def at_the_end(*arguments: Any) -> list[dict[str, Any]]:
        torch.cuda.set_sync_debug_mode("default")
        return faults(*arguments)

    monkeypatch.setattr(task, "step", watched)
    monkeypatch.setattr(loop, "_faults", at_the_end)
    model = task.model  # type: ignore[attr-defined]
    state = TrainingState(model, build_optimizer(model, config.optimizer), Progress(), task.figures)
    try:
        with Journal(tmp_path) as journal:
            loop.fit(state, task, config, runtime, journal, lambda *_: None)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert next(steps) == 5


def test_the_same_seed_gives_the_same_run_and_a_stopped_one_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("once", "again"):
        run_door(train.main, *EXACT, f"hydra.run.dir={name}")
    with pytest.MonkeyPatch.context() as patch:
        die_in(patch, 17)
        with pytest.raises(Died):
            run_door(train.main, *EXACT, "hydra.run.dir=stopped")
    run_door(train.main, "resume=stopped")
    assert weights("once") == weights("again") == weights("stopped")


def weights(run: str) -> dict[str, bytes]:
    found = load_file(Path(run) / "checkpoints" / "last" / "model.safetensors")
    return {name: value.tobytes() for name, value in found.items()}
