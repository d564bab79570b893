"""The training loop.

It is given the training and the validation reviews and nothing else, so what it chooses is chosen
without a look at the test set.
"""

import logging
import math
import time
from collections.abc import Callable
from pathlib import Path

from torch.nn.utils import clip_grad_norm_

from sentiment.config import TrainConfig
from sentiment.data.batches import collate, shuffled_batches
from sentiment.data.encoded import EncodedReviews
from sentiment.errors import UserError
from sentiment.model.classifier import Classifier
from sentiment.report.metrics import RunningMetrics, binary_metrics
from sentiment.report.progress import progress
from sentiment.report.run import append_history
from sentiment.report.tensorboard import Dashboard
from sentiment.training.inference import predict_logits
from sentiment.training.objectives import binary_cross_entropy
from sentiment.training.optimizer import build_optimizer, learning_rate
from sentiment.training.runtime import Runtime

log = logging.getLogger(__name__)

Save = Callable[[str, dict[str, float]], None]


def fit(
    model: Classifier,
    train: EncodedReviews,
    validation: EncodedReviews,
    config: TrainConfig,
    runtime: Runtime,
    directory: Path,
    dashboard: Dashboard,
    save: Save,
) -> dict[str, float]:
    """Train until the epochs are over or validation accuracy stops rising.

    Args:
        model: on the runtime's device; holds the last weights afterwards.
        train: reviews to learn from.
        validation: reviews that choose the best epoch.
        config: the run's settings.
        runtime: device and precision.
        directory: run directory, gets a row of `history.csv` per epoch.
        dashboard: gets the curves.
        save: called with `last` after each epoch and with `best` after each that is better than
            all before (higher validation accuracy, or as high with a lower loss).

    Returns:
        The best epoch's validation metrics by TensorBoard tag, and the `epoch` and `update` it
        ended with.

    Raises:
        UserError: the gradient or a logit became infinite or NaN; the best epoch stays saved.
    """
    objective = binary_cross_entropy(config.objective).to(runtime.device)
    optimizer = build_optimizer(model, config.optimizer)
    lengths_N = train.lengths_N.numpy()
    window, epoch_metrics = RunningMetrics(runtime.device), RunningMetrics(runtime.device)
    best: dict[str, float] = {}
    update = epochs_without_gain = 0

    for epoch in range(config.trainer.epochs):
        batches = shuffled_batches(lengths_N, config.trainer.batch_size, config.seed, epoch)
        batches = batches[: config.trainer.max_train_batches]
        total = len(batches) * config.trainer.epochs
        epoch_started = window_started = time.perf_counter()
        reviews_in_window = 0
        model.train()

        for rows in progress(batches, f"epoch {epoch + 1}/{config.trainer.epochs}"):
            batch = collate(train, rows, runtime.device)
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(update, total, config.optimizer)
            with runtime.autocast():
                logits_B = model(batch.ids_TB, batch.lengths_B)
            loss = objective(logits_B, batch.labels_B)
            loss.backward()
            norm = clip_grad_norm_(model.parameters(), config.optimizer.max_gradient_norm)
            if not math.isfinite(norm):
                broken = f"loss {loss.item():g}, gradient norm {norm.item():g}"
                raise _diverged(broken, update, config)
            optimizer.step()
            optimizer.zero_grad()
            update += 1

            for metrics in (window, epoch_metrics):
                metrics.update(loss.detach(), logits_B.detach(), batch.labels_B)
            reviews_in_window += len(rows)
            if update % config.trainer.log_every == 0:
                now = time.perf_counter()
                figures = window.compute() | {
                    "gradient_norm": norm.item(),
                    "learning_rate": optimizer.param_groups[0]["lr"],
                    "reviews_per_second": reviews_in_window / (now - window_started),
                }
                dashboard.scalars("train", figures, update)
                window_started, reviews_in_window = now, 0

        training_seconds = time.perf_counter() - epoch_started
        learned = epoch_metrics.compute()
        logits_N = predict_logits(model, validation, runtime)
        if not logits_N.isfinite().all():
            raise _diverged("validation logits that are no numbers", update, config)
        found = binary_metrics(logits_N, validation.labels_N)
        dashboard.scalars("validation", found, update)
        row = {
            "epoch": epoch + 1,
            "update": update,
            "train/loss": learned["loss"],
            "train/accuracy": learned["accuracy"],
            "validation/loss": found["loss"],
            "validation/accuracy": found["accuracy"],
            "seconds": round(training_seconds, 3),
        }
        append_history(directory, row)
        log.info(
            "epoch %d: train loss %.4f accuracy %.4f, validation loss %.4f accuracy %.4f, "
            "%.0f s, %.0f reviews/s",
            *(epoch + 1, learned["loss"], learned["accuracy"], found["loss"], found["accuracy"]),
            *(training_seconds, sum(map(len, batches)) / training_seconds),
        )

        tagged = {f"validation/{name}": value for name, value in found.items()}
        tagged |= {"epoch": epoch + 1, "update": update}
        save("last", tagged)
        if not best or _rank(tagged) > _rank(best):
            best, epochs_without_gain = tagged, 0
            save("best", tagged)
        else:
            epochs_without_gain += 1
            if epochs_without_gain >= config.trainer.patience:
                log.info("no gain in %d epochs: stopping early", epochs_without_gain)
                break
    return best


def _diverged(found: str, update: int, config: TrainConfig) -> UserError:
    return UserError(
        f"training diverged, update {update}: {found}; try a lower optimizer.learning_rate (now "
        f"{config.optimizer.learning_rate:g}), a lower optimizer.max_gradient_norm (now "
        f"{config.optimizer.max_gradient_norm:g}), or runtime.precision=float32"
    )


def _rank(metrics: dict[str, float]) -> tuple[float, float]:
    return metrics["validation/accuracy"], -metrics["validation/loss"]
