"""The training loop.

It is given the training and the validation reviews and nothing else, so what it chooses is chosen
without a look at the test set.
"""

import logging
import math
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils import clip_grad_norm_

from sentiment.config import CheckpointConfig, TrainConfig
from sentiment.data.batches import collate, shuffled_batches
from sentiment.data.encoded import EncodedReviews
from sentiment.errors import UserError
from sentiment.report.journal import Journal
from sentiment.report.metrics import binary_metrics
from sentiment.report.progress import progress
from sentiment.training.inference import predict_logits
from sentiment.training.objectives import binary_cross_entropy
from sentiment.training.optimizer import learning_rate, step_unless
from sentiment.training.runtime import Runtime
from sentiment.training.state import TrainingState
from sentiment.training.stopping import StopSignals

log = logging.getLogger(__name__)

Save = Callable[[str, dict[str, float]], None]
Observe = Callable[[int, Tensor | None], None]


def fit(
    state: TrainingState,
    train: EncodedReviews,
    validation: EncodedReviews,
    config: TrainConfig,
    runtime: Runtime,
    journal: Journal,
    save: Save,
    observe: Observe,
) -> None:
    """Train until the epochs are over or validation accuracy stops rising.

    Args:
        state: model, optimizer, and where they stand; at the end of the training afterwards.
        train: reviews to learn from.
        validation: reviews that choose the best epoch.
        config: the run's settings.
        runtime: device, precision and processes.
        journal: gets the curves, and a row of history after each epoch.
        save: called with `last` and the figures so far whenever the state is to be kept, and with
            `best` after each epoch that is better than all before (higher validation accuracy, or
            as high with a lower loss).
        observe: called before the first update, and with the validation logits after each epoch; it
            may look at the model, and must leave it and every random state as they are.

    Raises:
        UserError: more batches than allowed gave a loss or gradient that is no finite number,
            or validation gave such logits; what was saved stays.
        Interrupted: SIGTERM or Ctrl-C, after saving.
    """
    model, optimizer, at = state.model, state.optimizer, state.progress
    processes = runtime.processes
    learner = DistributedDataParallel(model) if processes.count > 1 else model
    objective = binary_cross_entropy(config.objective).to(runtime.device)
    lengths_N = train.lengths_N.numpy()
    cadence = _Cadence(config.checkpoint)
    unseen: list[_Step] = []

    with StopSignals() as stop:
        if at.update == at.epoch == at.batch == 0:
            with stop.immediately():
                observe(0, None)
        for epoch in range(at.epoch, config.trainer.epochs):
            if at.epochs_without_gain >= config.trainer.patience:
                log.info("no gain in %d epochs: stopping early", at.epochs_without_gain)
                break
            batches = shuffled_batches(
                lengths_N,
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
                # Everyone has to take part; a row in vain where there are fewer than processes.
                batch = collate(train, mine if len(mine) else rows[:1], runtime.device)
                for group in optimizer.param_groups:
                    group["lr"] = learning_rate(at.update, total, config.optimizer)
                with runtime.autocast():
                    logits_B = learner(batch.ids_TB, batch.lengths_B, batch.ngrams_TBX)
                loss = objective(logits_B, batch.labels_B)
                # Gradients are averaged over processes: each counts as much as it has rows.
                (loss * (len(mine) * processes.count / len(rows))).backward()
                norm = clip_grad_norm_(model.parameters(), config.optimizer.max_gradient_norm)
                loss = loss.detach()
                broken = processes.any_on_device(~(loss + norm).isfinite())
                step_unless(broken, optimizer)
                optimizer.zero_grad()
                for figures in (state.since_point, state.since_epoch) if len(mine) else ():
                    figures.update(loss, logits_B.detach(), batch.labels_B, broken)
                at.batch += 1
                unseen.append(_Step(at.batch, at.update, rows, loss, norm, broken))
                at.update += 1
                reviews_since_start += len(rows)
                reviews_in_window += len(rows)

                stopping, due = processes.any(stop.requested, cadence.is_due(at.update))
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
                if stopping:
                    stop.stop()

            # Should the process die while it validates, the epoch is not lost.
            save("last", {"update": at.update})
            training_seconds = time.perf_counter() - epoch_started
            with stop.immediately():
                logits_N = predict_logits(model, validation, runtime)
            if not logits_N.isfinite().all():
                raise _diverged("validation logits that are no numbers", at.update, config)
            learned = state.since_epoch.compute(processes.sum)
            if math.isnan(learned["loss"]):
                raise _diverged("not one batch of the epoch could be used", at.update, config)
            found_metrics = binary_metrics(logits_N, validation.labels_N)
            journal.scalars("validation", found_metrics, at.update)
            with stop.immediately():
                observe(at.update, logits_N)
            at.epoch, at.batch = epoch + 1, 0
            at.history.append(
                {
                    "epoch": at.epoch,
                    "update": at.update,
                    "train/loss": learned["loss"],
                    "train/accuracy": learned["accuracy"],
                    "validation/loss": found_metrics["loss"],
                    "validation/accuracy": found_metrics["accuracy"],
                }
            )
            journal.history(at.history)
            log.info(
                "epoch %d: train loss %.4f accuracy %.4f, validation loss %.4f accuracy %.4f, "
                "%.0f s, %.0f reviews/s",
                *(at.epoch, learned["loss"], learned["accuracy"]),
                *(found_metrics["loss"], found_metrics["accuracy"]),
                *(training_seconds, reviews_since_start / training_seconds),
            )

            tagged = {f"validation/{name}": value for name, value in found_metrics.items()}
            tagged |= {"epoch": at.epoch, "update": at.update}
            if not at.best or _rank(tagged) > _rank(at.best):
                at.best, at.epochs_without_gain = tagged, 0
                save("best", tagged)
            else:
                at.epochs_without_gain += 1
            save("last", tagged)
            if any(processes.any(stop.requested)):
                stop.stop()


def runs_ahead(runtime: Runtime) -> bool:
    """Whether the next step begins before the last one is done, as a GPU lets its host do.

    Only now and then does the host wait, to learn whether all went well.
    """
    return runtime.device.type == "cuda"


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
        due = (self._updates is not None and update % self._updates == 0) or (
            self._seconds is not None and elapsed >= self._seconds
        )
        if due:
            self._last = time.monotonic()
        return due


def _diverged(found: str, update: int, config: TrainConfig) -> UserError:
    return UserError(
        f"training diverged, update {update}: {found}; try a lower optimizer.learning_rate (now "
        f"{config.optimizer.learning_rate:g}), a lower optimizer.max_gradient_norm (now "
        f"{config.optimizer.max_gradient_norm:g}), runtime.precision=float32, or a higher "
        f"trainer.max_skipped_steps (now {config.trainer.max_skipped_steps})"
    )


def _rank(metrics: dict[str, float]) -> tuple[float, float]:
    return metrics["validation/accuracy"], -metrics["validation/loss"]
