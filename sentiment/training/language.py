"""The task of predicting the words of texts, as the training loop sees it.

Shapes: M predicted tokens, K sampled tokens, V vocabulary.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from sentiment.config import PretrainConfig
from sentiment.data.batches import pad, send, sorted_batches
from sentiment.data.encoded import EncodedTexts
from sentiment.model.language_model import LanguageModel, Predictions
from sentiment.training.loop import Rows, Step
from sentiment.training.runtime import Runtime

HELD_OUT = 500
"""Texts that perplexity is computed of, at most: some 130,000 tokens of IMDB."""
POWER = 0.75
"""Of a token's count: so often is it sampled (Mikolov et al., 2013)."""
BATCH_SIZE, MAX_TOKENS = 32, 16_384


class Language:
    """Learns to predict the next and the previous token; the best epoch has the lowest loss.

    Args:
        model: that learns.
        train: texts to learn from.
        held_out: texts that choose the best epoch.
        config: the run's settings.
        runtime: device, precision and processes.
    """

    def __init__(
        self,
        model: LanguageModel,
        train: EncodedTexts,
        held_out: EncodedTexts,
        config: PretrainConfig,
        runtime: Runtime,
    ) -> None:
        self.model, self.train, self.held_out = model, train, held_out
        self.lengths_N = train.lengths_N.numpy()
        directions = tuple(model.encoder.directions)
        self.figures = ("loss", *(f"loss_{name}" for name in directions))
        self.columns = ("loss", *(f"perplexity_{name}" for name in directions))
        self._runtime, self._samples = runtime, config.language.samples
        counts_V = torch.bincount(train.ids, minlength=model.embedding.num_embeddings)
        weight_V = counts_V.clamp(min=1).double().pow(POWER)
        self._probability_V = weight_V / weight_V.sum()
        if self._samples is not None:
            # How likely a token is among those drawn, however often.
            expected_V = -torch.expm1(self._samples * torch.log1p(-self._probability_V))
            self._log_expected_V = expected_V.log().float().to(runtime.device)

    def size(self, rows: Rows) -> int:
        """The number of predicted tokens, or 1 where there is none."""
        return max(1, int((self.lengths_N[rows] - 1).sum()))

    def step(self, learner: nn.Module, rows: Rows, epoch: int, batch: int) -> Step:
        """Cross entropy of the tokens of these texts, a mean over tokens and directions."""
        with self._runtime.autocast():
            losses = torch.stack(self._losses(learner(*self._pad(self.train, rows))))
        loss = losses.mean()
        number = torch.full_like(loss, self.size(rows))
        means = torch.cat([torch.stack([loss]), losses]).detach()
        return Step(loss, torch.cat([means * number, torch.stack([number])]))

    def observe(self, update: int) -> None:
        """Look at nothing: curves say all."""

    def validate(self, update: int) -> dict[str, float]:
        """Perplexity among the whole vocabulary, for each direction, and the mean loss."""
        self.model.eval()
        lengths_N = self.held_out.lengths_N.numpy()
        # Every so many of them by length, so that few are as long as all.
        order = np.argsort(lengths_N, kind="stable")
        rows = np.sort(order[:: max(1, math.ceil(len(order) / HELD_OUT))])
        batches = self._runtime.processes.share(
            [rows[batch] for batch in sorted_batches(lengths_N[rows], BATCH_SIZE, MAX_TOKENS)]
        )
        sums = torch.zeros(len(self.figures), dtype=torch.float64, device=self._runtime.device)
        with torch.inference_mode(), self._runtime.autocast():
            for batch in batches:
                predicted = self.model(*self._pad(self.held_out, batch))
                number = len(predicted[0].targets_M)
                for direction, predictions in enumerate(predicted):
                    sums[1 + direction] += self.model.loss(predictions) * number
                sums[0] += number
        number, *totals = self._runtime.processes.sum(sums).tolist()
        losses = [total / number if number else math.nan for total in totals]
        perplexities = {
            name: math.exp(min(loss, 700))
            for name, loss in zip(self.columns[1:], losses, strict=True)
        }
        return {"loss": sum(losses) / len(losses), "tokens": number} | perplexities

    def rank(self, figures: dict[str, float]) -> tuple[float, ...]:
        """The loss, negative."""
        return (-figures["validation/loss"],)

    def _pad(self, texts: EncodedTexts, rows: Rows) -> tuple[Tensor, Tensor, int]:
        ids_TB, lengths_B = pad(texts, rows)
        predicted = int((lengths_B - 1).sum())
        return send(ids_TB, self._runtime.device), send(lengths_B, self._runtime.device), predicted

    def _losses(self, predicted: Sequence[Predictions]) -> list[Tensor]:
        if self._samples is None:
            return [self.model.loss(predictions) for predictions in predicted]
        # By the host, which has to know how many differ.
        drawn = torch.multinomial(self._probability_V, self._samples, replacement=True)
        sampled_K = send(torch.unique(drawn), self._runtime.device)
        return self.model.sampled_losses(predicted, sampled_K, self._log_expected_V)
