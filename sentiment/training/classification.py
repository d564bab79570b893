"""The task of telling positive reviews from negative ones, as the training loop sees it."""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from sentiment.config import ObjectiveConfig, TrainConfig
from sentiment.data.batches import collate, pad, send, shuffled_batches
from sentiment.data.encoded import EncodedReviews, EncodedTexts
from sentiment.model.classifier import Classifier
from sentiment.report.metrics import binary_metrics, binary_sums
from sentiment.training import objectives
from sentiment.training.inference import predict_logits
from sentiment.training.loop import Rows, Step
from sentiment.training.runtime import Runtime

Observe = Callable[[int, Tensor | None], None]


def figures_of(config: ObjectiveConfig) -> tuple[str, ...]:
    """What training curves show: cross entropy, accuracy, and what is added to the former."""
    return ("loss", "accuracy", *config.added)


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
        unlabelled: texts for the objectives that need no label; `None`: there are none.
    """

    columns: tuple[str, ...] = ("loss", "accuracy", "auroc")

    def __init__(
        self,
        model: Classifier,
        train: EncodedReviews,
        validation: EncodedReviews,
        config: TrainConfig,
        runtime: Runtime,
        observe: Observe,
        unlabelled: EncodedTexts | None = None,
    ) -> None:
        self.model, self.train, self.validation = model, train, validation
        self.lengths_N = train.lengths_N.numpy()
        self.figures = figures_of(config.objective)
        self._config, self._runtime, self._observe = config, runtime, observe
        self._objective = objectives.binary_cross_entropy(config.objective).to(runtime.device)
        self._unlabelled = unlabelled
        self._batches: list[Rows] = []
        self._before, self._passes = 0, 0  # batches before these ones, passes begun

    def size(self, rows: Rows) -> int:
        """The number of reviews."""
        return len(rows)

    def step(self, learner: nn.Module, rows: Rows, epoch: int, batch: int) -> Step:
        """Cross entropy of these reviews' labels, and what is added to it."""
        reviews = collate(self.train, rows, self._runtime.device)
        with self._runtime.autocast():
            logits_B = learner(reviews.ids_TB, reviews.lengths_B, reviews.ngrams_TBX)
        loss = self._objective(logits_B, reviews.labels_B)
        sums = binary_sums(loss.detach(), logits_B.detach(), reviews.labels_B)
        added = self._config.objective.added
        if not added:
            return Step(loss, sums)
        found: dict[str, Tensor] = {}
        with self._runtime.autocast():
            x_TBE, logits = self._words(reviews.ids_TB, reviews.lengths_B, reviews.ngrams_TBX)
            epsilon = self._config.objective.epsilon
            if "adversarial" in added:

                def wrong(logits_B: Tensor) -> Tensor:
                    return self._objective(logits_B, reviews.labels_B)  # type: ignore[no-any-return]

                found["adversarial"] = objectives.adversarial(logits, x_TBE, wrong, epsilon)
            given = [(x_TBE, logits)]
            if (others := self._others(epoch, batch)) is not None:
                given.append(self._words(*others, None))
            if "virtual_adversarial" in added:
                parts = [objectives.virtual_adversarial(f, x, epsilon) for x, f in given]
                found["virtual_adversarial"] = torch.stack(parts).mean()
            if "entropy" in added:
                x_TBE, logits = given[-1]
                found["entropy"] = objectives.entropy(logits(x_TBE))
        total = loss + torch.stack([added[name] * found[name] for name in added]).sum()
        means = torch.stack([found[name].detach() for name in added])
        return Step(total, torch.cat([sums[:2], means * len(rows), sums[2:]]))

    def _words(
        self, ids_TB: Tensor, lengths_B: Tensor, ngrams_TBX: Tensor | None
    ) -> tuple[Tensor, objectives.Logits]:
        """Word vectors, 0 past each end, and what the model makes of others in their place."""
        model, width = self.model, self.model.embedding.embedding_dim
        time_T1 = torch.arange(len(ids_TB), device=ids_TB.device).unsqueeze(1)
        is_token_TB1 = (time_T1 < lengths_B).unsqueeze(2)
        inputs_TBI = model.inputs(ids_TB, ngrams_TBX)
        words_TBE, rest_TBX = inputs_TBI[:, :, :width], inputs_TBI[:, :, width:]

        def logits(other_TBE: Tensor) -> Tensor:
            return model.logits(torch.cat([other_TBE, rest_TBX], dim=2), lengths_B)

        return words_TBE * is_token_TB1, logits

    def _others(self, epoch: int, batch: int) -> tuple[Tensor, Tensor] | None:
        """Texts without labels for this batch: passes over them go on from epoch to epoch."""
        if self._unlabelled is None:
            return None
        trainer, lengths_N = self._config.trainer, self._unlabelled.lengths_N.numpy()
        place = epoch * math.ceil(len(self.lengths_N) / trainer.batch_size) + batch
        if place < self._before:
            self._before, self._passes, self._batches = 0, 0, []
        while place >= self._before + len(self._batches):
            self._before += len(self._batches)
            most = self._config.data.max_tokens_per_batch
            # Not in the order of the labelled ones.
            seed = self._config.seed + 1
            self._batches = shuffled_batches(
                lengths_N, trainer.batch_size, seed, self._passes, most
            )
            self._passes += 1
        rows = self._batches[place - self._before]
        share = self._runtime.processes.share(rows)
        ids_TB, lengths_B = pad(self._unlabelled, share if len(share) else rows[:1])
        return send(ids_TB, self._runtime.device), send(lengths_B, self._runtime.device)

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
