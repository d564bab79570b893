"""The task of telling positive reviews from negative ones, as the training loop sees it."""

import math
from collections.abc import Callable

from torch import Tensor, nn

from sentiment.config import TrainConfig
from sentiment.data.batches import collate
from sentiment.data.encoded import EncodedReviews
from sentiment.model.classifier import Classifier
from sentiment.report.metrics import binary_metrics, binary_sums
from sentiment.training.inference import predict_logits
from sentiment.training.loop import Rows, Step
from sentiment.training.objectives import binary_cross_entropy
from sentiment.training.runtime import Runtime

Observe = Callable[[int, Tensor | None], None]


class Classification:
    """Learns labels; the best epoch has the highest accuracy, or as high with the lowest loss.

    Args:
        model: that learns.
        train: reviews to learn from.
        validation: reviews that choose the best epoch.
        config: the run's settings.
        runtime: device, precision and processes.
        observe: called before the first update, and with the validation logits after each epoch; it
            may look at the model, and must leave it and every random state as they are.
    """

    figures: tuple[str, ...] = ("loss", "accuracy")
    columns: tuple[str, ...] = ("loss", "accuracy")

    def __init__(
        self,
        model: Classifier,
        train: EncodedReviews,
        validation: EncodedReviews,
        config: TrainConfig,
        runtime: Runtime,
        observe: Observe,
    ) -> None:
        self.model, self.train, self.validation = model, train, validation
        self.lengths_N = train.lengths_N.numpy()
        self._objective = binary_cross_entropy(config.objective).to(runtime.device)
        self._runtime, self._observe = runtime, observe

    def size(self, rows: Rows) -> int:
        """The number of reviews."""
        return len(rows)

    def step(self, learner: nn.Module, rows: Rows) -> Step:
        """Cross entropy of these reviews' labels."""
        batch = collate(self.train, rows, self._runtime.device)
        with self._runtime.autocast():
            logits_B = learner(batch.ids_TB, batch.lengths_B, batch.ngrams_TBX)
        loss = self._objective(logits_B, batch.labels_B)
        return Step(loss, binary_sums(loss.detach(), logits_B.detach(), batch.labels_B))

    def observe(self, update: int) -> None:
        """Look at the model before training."""
        self._observe(update, None)

    def validate(self, update: int) -> dict[str, float]:
        """Figures on the validation reviews."""
        logits_N = predict_logits(self.model, self.validation, self._runtime)
        if not logits_N.isfinite().all():
            return {"loss": math.nan}
        self._observe(update, logits_N)
        return binary_metrics(logits_N, self.validation.labels_N)

    def rank(self, figures: dict[str, float]) -> tuple[float, ...]:
        """Accuracy, then loss."""
        return figures["validation/accuracy"], -figures["validation/loss"]
