import csv
import itertools
import json
import math
import signal
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from sentiment.config import Device, Kernel, Precision, RuntimeConfig, TrainConfig
from sentiment.data.batches import shuffled_batches
from sentiment.data.encoded import EncodedReviews
from sentiment.errors import Interrupted, UserError
from sentiment.model.classifier import Classifier
from sentiment.report.journal import Journal
from sentiment.training import loop, stopping
from sentiment.training.classification import Classification
from sentiment.training.inference import predict_logits
from sentiment.training.loop import fit
from sentiment.training.optimizer import build_optimizer
from sentiment.training.runtime import prepare, seed_everything
from sentiment.training.state import Progress, TrainingState
from tests.conftest import compose_train

CPU = prepare(RuntimeConfig(Device.cpu, Precision.float32, 1, False, ".", Kernel.plain))


def first_token_decides(count: int, seed: int) -> EncodedReviews:
    """Reviews of 2 to 12 tokens that are positive where the first token is 2."""
    generator = torch.Generator().manual_seed(seed)
    labels_N = torch.randint(0, 2, (count,), generator=generator)
    lengths_N = torch.randint(2, 13, (count,), generator=generator)
    starts_N = lengths_N.cumsum(0) - lengths_N
    ids = torch.randint(4, 20, (int(lengths_N.sum()),), generator=generator, dtype=torch.int32)
    ids[starts_N] = (3 - labels_N).int()
    return EncodedReviews(ids, starts_N, lengths_N, labels_N)


TRAIN, VALIDATION = first_token_decides(300, 0), first_token_decides(100, 1)


class Saved(NamedTuple):
    name: str
    update: int
    accuracy: float | None


def run(
    directory: Path, *overrides: str, saved: list[Saved] | None = None
) -> tuple[TrainingState[Classifier], list[Saved]]:
    config: TrainConfig = compose_train(
        "data=sample",
        "embeddings.dimension=8",
        "model.hidden_size=8",
        "model.embedding_dropout=0.1",
        "trainer.batch_size=16",
        "optimizer.learning_rate=0.02",
        *overrides,
    )
    seed_everything(config.seed)
    directory.mkdir(exist_ok=True)
    model = Classifier(nn.Embedding(20, 8), config.model)
    optimizer = build_optimizer(model, config.optimizer)
    state = TrainingState(model, optimizer, Progress(), ("loss", "accuracy"))
    saved = [] if saved is None else saved

    def save(name: str, metrics: dict[str, float]) -> None:
        saved.append(Saved(name, state.progress.update, metrics.get("validation/accuracy")))

    with Journal(directory) as journal:
        task = Classification(model, TRAIN, VALIDATION, config, CPU, lambda *_: None)
        fit(state, task, config, CPU, journal, save)
    return state, saved


def test_learns_what_the_first_token_says(tmp_path: Path) -> None:
    state, saved = run(tmp_path, "trainer.epochs=4")
    best = state.progress.best
    assert best["validation/accuracy"] > 0.95
    validated = [one for one in saved if one.accuracy is not None]
    assert [one.name for one in validated].count("last") == 4
    assert [one.accuracy for one in validated if one.name == "best"][-1] == max(
        one.accuracy for one in validated
    )
    with (tmp_path / "history.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["epoch"]) for row in rows] == [1, 2, 3, 4]
    assert [int(row["update"]) for row in rows] == [19, 38, 57, 76]
    assert best["validation/accuracy"] == max(float(row["validation/accuracy"]) for row in rows)
    logits_N = predict_logits(state.model, VALIDATION, CPU)
    right = ((logits_N > 0) == VALIDATION.labels_N.bool()).double().mean().item()
    assert right == pytest.approx(float(rows[-1]["validation/accuracy"]))


def test_stops_early_without_gain(tmp_path: Path) -> None:
    # The learning rate goes up and up: the first epochs learn, later ones do harm.
    overrides = ("trainer.epochs=9", "trainer.patience=2", "optimizer.warmup_fraction=0.9")
    state, _ = run(tmp_path, *overrides, "optimizer.learning_rate=5")
    assert state.progress.best["epoch"] + 2 == state.progress.epoch < 9


def test_the_seed_decides_the_weights(tmp_path: Path) -> None:
    weights = [
        torch.cat(
            [
                p.flatten()
                for p in run(tmp_path / str(i), f"seed={seed}", "trainer.epochs=1")[
                    0
                ].model.parameters()
            ]
        )
        for i, seed in enumerate((0, 0, 1))
    ]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def break_batches(monkeypatch: pytest.MonkeyPatch, *numbers: int) -> None:
    """Let the loss of these batches, counted from 1 over the whole run, be infinite."""
    trained = itertools.count(1)
    forward = Classifier.forward

    def broken(self: Classifier, *batch: torch.Tensor) -> torch.Tensor:
        logits_B = forward(self, *batch)
        return logits_B * torch.inf if self.training and next(trained) in numbers else logits_B

    monkeypatch.setattr(Classifier, "forward", broken)


def test_a_diverging_run_is_stopped_with_advice_and_its_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    break_batches(monkeypatch, 3)
    with pytest.raises(UserError, match=r"update 2: loss .*faults\.json.*optimizer\.learning_rate"):
        run(tmp_path, "trainer.epochs=1")
    (fault,) = json.loads((tmp_path / "faults.json").read_text())
    assert (fault["epoch"], fault["batch"], fault["update"]) == (1, 3, 2)
    batches = shuffled_batches(TRAIN.lengths_N.numpy(), 16, seed=0, epoch=0)
    assert fault["rows"] == batches[2].tolist()


def test_a_loss_that_is_infinite_is_a_fault_though_its_gradient_is_finite(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward = nn.BCEWithLogitsLoss.forward
    monkeypatch.setattr(nn.BCEWithLogitsLoss, "forward", lambda *batch: forward(*batch) + torch.inf)
    with pytest.raises(UserError, match=r"update 0: loss inf, gradient norm nan; its rows"):
        run(tmp_path, "trainer.epochs=1")


def test_as_many_faults_as_allowed_are_skipped_and_change_no_weight(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    overrides = ("trainer.epochs=2", "trainer.max_train_batches=4", "trainer.log_every=1")
    break_batches(monkeypatch, 2, 7)
    state, _ = run(tmp_path / "two", *overrides, "trainer.max_skipped_steps=2")
    assert state.progress.update == 6
    assert [(f["epoch"], f["batch"]) for f in state.progress.faults] == [(1, 2), (2, 3)]
    assert all(weight.isfinite().all() for weight in state.model.parameters())
    assert math.isfinite(state.progress.history[0]["train/loss"])
    monkeypatch.undo()
    break_batches(monkeypatch, 2, 7)
    with pytest.raises(UserError, match=r"trainer\.max_skipped_steps \(now 1\)"):
        run(tmp_path / "one", *overrides, "trainer.max_skipped_steps=1")


def test_saves_by_updates_and_by_minutes(tmp_path: Path) -> None:
    short = ("trainer.epochs=1", "trainer.max_train_batches=7")
    never = ("checkpoint.every_updates=null", "checkpoint.every_minutes=null")
    after_updates = ("checkpoint.every_updates=2", never[1])
    after_no_time = (never[0], "checkpoint.every_minutes=1e-9")
    counts = [
        len(run(tmp_path / str(number), *short, *cadence)[1])
        for number, cadence in enumerate((never, after_updates, after_no_time))
    ]
    # Before validation, `best` and `last` in any case.
    assert counts == [3, 3 + 3, 3 + 7]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_step_and_saves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    forward, calls = Classifier.forward, itertools.count(1)

    def signalled(self: Classifier, *batch: torch.Tensor) -> torch.Tensor:
        if next(calls) == 5:
            signal.raise_signal(number)
            # A second one would stop the process without further ado.
            assert signal.getsignal(number) == signal.SIG_DFL
        return forward(self, *batch)

    before = signal.getsignal(number)
    monkeypatch.setattr(Classifier, "forward", signalled)
    saved: list[Saved] = []
    with pytest.raises(Interrupted) as stop:
        run(tmp_path, "trainer.epochs=1", saved=saved)
    assert stop.value.number == number
    assert saved == [Saved("last", 5, None)]
    assert signal.getsignal(number) is before


def test_sigterm_may_be_passed_on_to_those_who_have_had_it(monkeypatch: pytest.MonkeyPatch) -> None:
    previous = signal.getsignal(signal.SIGTERM)
    raised: list[int] = []
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    with stopping.StopSignals() as stop:
        for _ in range(2):
            signal.raise_signal(signal.SIGTERM)
        assert stop.requested
        again = signal.raise_signal
        monkeypatch.setattr(signal, "raise_signal", raised.append)
        monkeypatch.setattr(stopping, "ECHO", -1.0)
        again(signal.SIGTERM)
        assert (raised, signal.getsignal(signal.SIGTERM)) == ([signal.SIGTERM], signal.SIG_DFL)
    assert signal.getsignal(signal.SIGTERM) is previous


def test_weights_that_break_in_the_last_update_are_not_saved(tmp_path: Path) -> None:
    overrides = ("trainer.epochs=1", "trainer.max_train_batches=1", "optimizer.warmup_fraction=0")
    with pytest.raises(UserError, match="diverged, update 1: validation logits"):
        run(tmp_path, *overrides, "optimizer.learning_rate=1e38")


def test_positive_weight_moves_the_logits_up(tmp_path: Path) -> None:
    overrides = ("trainer.epochs=1", "trainer.max_train_batches=3")
    means = [
        predict_logits(
            run(tmp_path / w, f"objective.pos_weight={w}", *overrides)[0].model, VALIDATION, CPU
        )
        for w in ("0.1", "10")
    ]
    assert means[0].mean() < means[1].mean()


def test_predictions_come_in_the_reviews_order() -> None:
    model = Classifier(nn.Embedding(20, 8), compose_train("model.hidden_size=8").model)
    logits_N = predict_logits(model, VALIDATION, CPU)
    for row in (0, 17, 99):
        start, length = int(VALIDATION.starts_N[row]), int(VALIDATION.lengths_N[row])
        ids_TB = VALIDATION.ids[start : start + length].long().unsqueeze(1)
        alone = model(ids_TB, torch.tensor([length]))
        torch.testing.assert_close(logits_N[row : row + 1], alone.detach(), atol=1e-6, rtol=0)


class _Looks(TorchDispatchMode):
    """Counts how often a number is fetched from the device: a GPU would be waited for each time."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        self.count += func is torch.ops.aten._local_scalar_dense.default
        return func(*args, **(kwargs or {}))


def run_ahead(directory: Path, *overrides: str) -> tuple[TrainingState[Classifier], int]:
    """Train as on a GPU, which is looked at now and then only; count the looks."""
    with pytest.MonkeyPatch.context() as patch, _Looks() as looks:
        patch.setattr(loop, "runs_ahead", lambda _: True)
        state, _ = run(directory, *overrides)
    return state, looks.count


def test_the_host_does_not_wait_for_a_gpu_within_a_step(tmp_path: Path) -> None:
    overrides = ("trainer.epochs=1", "trainer.log_every=100")
    looks = [
        run_ahead(tmp_path / str(batches), *overrides, f"trainer.max_train_batches={batches}")[1]
        for batches in (3, 12)
    ]
    assert looks[1] - looks[0] == 12 - 3  # how long a batch is, which the host has


@pytest.mark.parametrize("log_every", [1, 3, 100])
def test_steps_that_are_looked_at_later_have_the_same_faults_and_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log_every: int
) -> None:
    overrides = (
        *("trainer.epochs=2", "trainer.max_train_batches=8", f"trainer.log_every={log_every}"),
        "trainer.max_skipped_steps=3",
    )
    states = []
    for train in (run, run_ahead):
        break_batches(monkeypatch, 2, 3, 11)
        states.append(train(tmp_path / train.__name__, *overrides)[0])
        monkeypatch.undo()
    at_once, later = states
    assert later.progress.faults == at_once.progress.faults
    assert [fault["update"] for fault in later.progress.faults] == [1, 1, 8]
    assert later.progress.history == at_once.progress.history
    assert later.progress.update == 13
    for one, other in zip(later.model.parameters(), at_once.model.parameters(), strict=True):
        assert torch.equal(one, other)
