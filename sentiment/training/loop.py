"""The training loop, whatever is learned.

It is given a task, which learns from some texts and validates on others, and nothing else; so what
it chooses is chosen without a look at the test set.
"""

import logging
import math
import time
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_

from sentiment.config import CheckpointConfig, RunConfig
from sentiment.data.batches import shuffled_batches
from sentiment.errors import UserError
from sentiment.report.journal import Journal
from sentiment.report.progress import progress
from sentiment.training.optimizer import learning_rate, step_unless
from sentiment.training.replicas import replicate
from sentiment.training.runtime import Runtime
from sentiment.training.state import TrainingState
from sentiment.training.stopping import StopSignals

log = logging.getLogger(__name__)

Save = Callable[[str, dict[str, float]], None]
Rows = NDArray[np.int64]


class Step(NamedTuple):
    """What a task makes of a batch.

    Attributes:
        loss: to be minimised, a mean over the batch.
        sums: `[K + 1]`, what `RunningMeans` of the task's figures adds up.
    """

    loss: Tensor
    sums: Tensor


class Task(Protocol):
    """What is learned, and how it is judged.

    Attributes:
        lengths_N: tokens of each text to learn from.
        figures: names of the K means that a training curve shows, `loss` among them.
        columns: names of the validation figures that go into `history.csv`, `loss` among them.
    """

    lengths_N: NDArray[np.int64]
    figures: tuple[str, ...]
    columns: tuple[str, ...]

    def size(self, rows: Rows) -> int:
        """How much these texts count in a mean."""

    def step(self, learner: nn.Module, rows: Rows, epoch: int, batch: int) -> Step:
        """Compute the loss of these texts, the given batch of an epoch, by what wraps the model."""

    def observe(self, update: int) -> None:
        """Look at the model before training, and leave it and every random state as they are."""

    def validate(self, update: int) -> dict[str, float]:
        """Judge the model, after an epoch; no random state may change.

        Returns:
            Figures by name, `loss` among them, which is NaN where the outputs are not finite.
        """

    def rank(self, figures: dict[str, float]) -> tuple[float, ...]:
        """What the best epoch has the highest of, given validation figures by TensorBoard tag."""


def fit(
    state: TrainingState[Any],
    task: Task,
    config: RunConfig,
    runtime: Runtime,
    journal: Journal,
    save: Save,
) -> None:
    """Train until the epochs are over or validation shows no gain any more.

    Args:
        state: model, optimizer, and where they stand; at the end of the training afterwards.
        task: what the model learns.
        config: the run's settings.
        runtime: device, precision and processes.
        journal: gets the curves, and a row of history after each epoch.
        save: called with `last` and the figures so far whenever the state is to be kept, and with
            `best` after each epoch that ranks higher than all before.

    Raises:
        UserError: more batches than allowed gave a loss or gradient that is no finite number,
            or validation gave such outputs; what was saved stays.
        Interrupted: SIGTERM or Ctrl-C, after saving.
    """
    model, optimizer, at = state.model, state.optimizer, state.progress
    processes = runtime.processes
    learner: nn.Module = model
    if processes.count > 1:
        learner = replicate(model, processes)
        _settle(learner, optimizer, task)
    cadence = _Cadence(config.checkpoint)
    unseen: list[_Step] = []

    with StopSignals() as stop:
        if at.update == at.epoch == at.batch == 0:
            with stop.immediately():
                task.observe(0)
        for epoch in range(at.epoch, config.trainer.epochs):
            if at.epochs_without_gain >= config.trainer.patience:
                log.info("no gain in %d epochs: stopping early", at.epochs_without_gain)
                break
            batches = shuffled_batches(
                task.lengths_N,
                config.trainer.batch_size,
                config.seed,
                epoch,
                config.data.max_tokens_per_batch,
            )[: config.trainer.max_train_batches]
            total = len(batches) * config.trainer.epochs
            epoch_started = window_started = time.perf_counter()
            reviews_since_start = reviews_in_window = 0
            model.train()

            for rows in progress(batches, f"epoch {epoch + 1}/{config.trainer.epochs}", at.batch):
                mine = processes.share(rows)
                # Of the batches so far: on a GPU, faults are seen some batches later.
                batches_before = at.update + len(at.faults)
                for group in optimizer.param_groups:
                    group["lr"] = learning_rate(batches_before, total, config.optimizer)
                # Everyone has to take part; a row in vain where there are fewer than processes.
                present = mine if len(mine) else rows[:1]
                loss, sums = task.step(learner, present, epoch, at.batch)
                # Gradients are averaged over processes: each counts as much as its texts do.
                size = task.size(mine) if len(mine) else 0
                share = size * processes.count / task.size(rows)
                # A loss that is not finite makes the gradient so, which all of them see.
                loss.backward(share + 0 * loss.detach())  # type: ignore[no-untyped-call]
                asked = processes.ask(stop.requested, cadence.is_due(at.update + 1))
                norm = clip_grad_norm_(model.parameters(), config.optimizer.max_gradient_norm)
                loss = loss.detach()
                broken = ~norm.isfinite()
                step_unless(broken, optimizer)
                optimizer.zero_grad()
                for means in (state.since_point, state.since_epoch) if len(mine) else ():
                    means.update(sums, broken)
                at.batch += 1
                unseen.append(_Step(at.batch, at.update, rows, loss, norm, broken))
                at.update += 1
                reviews_since_start += len(rows)
                reviews_in_window += len(rows)

                stopping, due = asked()
                at_point = at.update % config.trainer.log_every == 0
                if (
                    at_point
                    or due
                    or stopping
                    or at.batch == len(batches)
                    or not runs_ahead(runtime)
                ):
                    faults = _faults(unseen, epoch + 1)
                    unseen.clear()
                    at.update -= len(faults)
                    for fault in faults:
                        at.faults.append(fault)
                        record = journal.faults(at.faults)
                        if len(at.faults) > config.trainer.max_skipped_steps:
                            found = f"{fault['found']}; its rows are in {record}"
                            raise _diverged(found, fault["update"], config)
                        log.warning("skipped batch %d: %s", fault["batch"], fault["found"])
                    at_point &= not faults
                if at_point:
                    now = time.perf_counter()
                    point = state.since_point.compute(processes.sum) | {
                        "gradient_norm": norm.item(),
                        "learning_rate": optimizer.param_groups[0]["lr"],
                        "reviews_per_second": reviews_in_window / (now - window_started),
                    }
                    journal.scalars("train", point, at.update)
                    window_started, reviews_in_window = now, 0
                if stopping or due:
                    save("last", {"update": at.update})
                    cadence.restart()
                if stopping:
                    stop.stop()

            # Should the process die while it validates, the epoch is not lost.
            save("last", {"update": at.update})
            training_seconds = time.perf_counter() - epoch_started
            with stop.immediately():
                validated = task.validate(at.update)
            if not math.isfinite(validated["loss"]):
                raise _diverged("validation logits that are no numbers", at.update, config)
            learned = state.since_epoch.compute(processes.sum)
            if math.isnan(learned["loss"]):
                raise _diverged("not one batch of the epoch could be used", at.update, config)
            journal.scalars("validation", validated, at.update)
            at.epoch, at.batch = epoch + 1, 0
            shown = {name: validated[name] for name in task.columns}
            at.history.append(
                {"epoch": at.epoch, "update": at.update}
                | {f"train/{name}": value for name, value in learned.items()}
                | {f"validation/{name}": value for name, value in shown.items()}
            )
            journal.history(at.history)
            log.info(
                "epoch %d: train %s, validation %s, %.0f s, %.0f reviews/s",
                *(at.epoch, _in_words(learned), _in_words(shown)),
                *(training_seconds, reviews_since_start / training_seconds),
            )

            tagged = {f"validation/{name}": value for name, value in validated.items()}
            tagged |= {"epoch": at.epoch, "update": at.update}
            if not at.best or task.rank(tagged) > task.rank(at.best):
                at.best, at.epochs_without_gain = tagged, 0
                save("best", tagged)
            else:
                at.epochs_without_gain += 1
            save("last", tagged)
            if any(processes.ask(stop.requested)()):
                stop.stop()


def runs_ahead(runtime: Runtime) -> bool:
    """Whether the next step begins before the last one is done, as a GPU lets its host do.

    Only now and then does the host wait, to learn whether all went well.
    """
    return runtime.device.type == "cuda"


def _settle(learner: nn.Module, optimizer: torch.optim.Optimizer, task: Task) -> None:
    """Let gradients take the places in which they are sent from their second time on.

    Of three processes or more, what is added first depends on them: a run that goes on has to begin
    with the places that it had.
    """
    devices = [weight.device for weight in learner.parameters() if weight.is_cuda][:1]
    with torch.random.fork_rng(devices):
        learner.train()
        loss, _ = task.step(learner, np.arange(1), 0, 0)
        loss.backward()  # type: ignore[no-untyped-call]
    optimizer.zero_grad()


class _Step(NamedTuple):
    """A step that the host has not looked at; what it computed is still on the device."""

    batch: int
    updates_before: int
    rows: NDArray[np.int64]
    loss: Tensor
    gradient_norm: Tensor
    broken: Tensor


def _faults(steps: list[_Step], epoch: int) -> list[dict[str, Any]]:
    """Of these steps, those that were skipped for their loss or gradient, as they are recorded."""
    faults: list[dict[str, Any]] = []
    for step, broken in zip(steps, torch.stack([s.broken for s in steps]).tolist(), strict=True):
        if broken:
            found = f"loss {step.loss.item():g}, gradient norm {step.gradient_norm.item():g}"
            update = step.updates_before - len(faults)
            faults.append({"epoch": epoch, "batch": step.batch, "update": update})
            faults[-1] |= {"found": found, "rows": step.rows.tolist()}
    return faults


class _Cadence:
    """When the state is to be saved within an epoch."""

    def __init__(self, config: CheckpointConfig) -> None:
        self._updates = config.every_updates
        self._seconds = None if config.every_minutes is None else 60 * config.every_minutes
        self._last = time.monotonic()

    def is_due(self, update: int) -> bool:
        elapsed = time.monotonic() - self._last
        return (self._updates is not None and update % self._updates == 0) or (
            self._seconds is not None and elapsed >= self._seconds
        )

    def restart(self) -> None:
        self._last = time.monotonic()


def _diverged(found: str, update: int, config: RunConfig) -> UserError:
    return UserError(
        f"training diverged, update {update}: {found}; try a lower optimizer.learning_rate (now "
        f"{config.optimizer.learning_rate:g}), a lower optimizer.max_gradient_norm (now "
        f"{config.optimizer.max_gradient_norm:g}), runtime.precision=float32, or a higher "
        f"trainer.max_skipped_steps (now {config.trainer.max_skipped_steps})"
    )


def _in_words(figures: dict[str, float]) -> str:
    return " ".join(f"{name.replace('_', ' ')} {value:.4f}" for name, value in figures.items())
