"""From texts to labels and probabilities, with a saved checkpoint."""

import math
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple, Self

import torch

from sentiment.config import THRESHOLD, Device, Kernel, Precision
from sentiment.data.encoded import EncodedTexts, encode_texts
from sentiment.errors import UserError
from sentiment.text.tokenizer import token_spans
from sentiment.training.attribution import attribute
from sentiment.training.checkpoint import Checkpoint, load_checkpoint
from sentiment.training.inference import predict_logits
from sentiment.training.runtime import Runtime, prepare

DIGITS = 6


class Prediction(NamedTuple):
    """What the model says of a text; both are `None` where the text is empty.

    Attributes:
        label: one of the two names that the training data used.
        probability: of the positive label, whichever is predicted.
    """

    label: str | None
    probability: float | None


class TokenWeight(NamedTuple):
    """What a token adds to the logit, and where in the text it stands, in characters."""

    start: int
    end: int
    weight: float


class Explanation(NamedTuple):
    """Why the model says what it says of a text; all is `None` where it is empty.

    Computed in float32, whatever the precision of predictions.

    Attributes:
        label: as in `Prediction`.
        probability: as in `Prediction`.
        logit: of the positive label.
        baseline: logit of as many tokens that say next to nothing.
        tokens: those that the model reads, in their order, none of what is truncated. Their weights
            add up to `logit - baseline` (`sentiment/training/attribution.py` says how exactly).
    """

    label: str | None
    probability: float | None
    logit: float | None
    baseline: float | None
    tokens: tuple[TokenWeight, ...]


class SentimentPredictor:
    """A trained classifier that reads texts.

        predictor = SentimentPredictor.load("outputs/train/DATE/TIME-ID")
        predictor(["I loved it.", "What a bore."])

    Args:
        checkpoint: weights, tokenizer, truncation and label names.
        runtime: where to compute, and how.
        threshold: a text whose probability of being positive is above it is called positive.
    """

    def __init__(
        self, checkpoint: Checkpoint, runtime: Runtime, threshold: float = THRESHOLD
    ) -> None:
        self.checkpoint, self.runtime, self.threshold = checkpoint, runtime, threshold
        self.model = checkpoint.build_model().to(runtime.device)

    @classmethod
    def load(
        cls,
        path: str | Path,
        device: Device = Device.auto,
        precision: Precision = Precision.auto,
        threads: int | None = None,
        threshold: float = THRESHOLD,
    ) -> Self:
        """Read a checkpoint and set the process up for it.

        Args:
            path: a run directory, whose best checkpoint is taken, or a checkpoint folder.
            device: `auto` takes a GPU where there is one.
            precision: `auto` takes that of the training where this machine has it.
            threads: CPU threads; `None`: one per core that this process may use.
            threshold: a text whose probability of being positive is above it is called positive.

        Raises:
            UserError: a checkpoint that cannot be read, or a device that this machine lacks.
        """
        checkpoint = load_checkpoint(Path(os.path.expanduser(path)))
        trained = checkpoint.config.runtime
        asked = replace(
            trained,
            device=device,
            precision=precision,
            kernel=Kernel.auto,
            threads=threads,
            # Never the checkpoint's: a library is loaded from there.
            cache_dir=os.environ.get("SENTIMENT_CACHE", "~/.cache/sentiment"),
        )
        return cls(checkpoint, prepare(asked, trained_in=trained.precision), threshold)

    def __call__(self, texts: Sequence[str]) -> list[Prediction]:
        """Predict texts, in their order, in batches of similar length.

        Raises:
            UserError: a checkpoint that cannot compute after all, as only a damaged one.
        """
        found = [Prediction(None, None)] * len(texts)
        if rows := _filled(texts):
            encoded, _ = self._encode([texts[row] for row in rows])
            logits = predict_logits(self.model, encoded, self.runtime).tolist()
            for row, logit in zip(rows, logits, strict=True):
                found[row] = self._judge(logit)
        return found

    def explain(self, texts: Sequence[str]) -> list[Explanation]:
        """Predict texts and say what each of their tokens adds, at 50 times the cost or more.

        Raises:
            UserError: Captum is not installed, or as for predictions.
        """
        found = [Explanation(None, None, None, None, ())] * len(texts)
        if rows := _filled(texts):
            filled = [texts[row] for row in rows]
            encoded, first_N = self._encode(filled)
            spans = token_spans(self.checkpoint.tokenizer, filled)
            reasons = attribute(self.model, encoded, self.runtime)
            for row, spans_T, first, reason in zip(rows, spans, first_N, reasons, strict=True):
                logit, baseline, weights_T = reason
                read = zip(spans_T[first:], weights_T.tolist(), strict=False)
                tokens = tuple(TokenWeight(*span, weight) for span, weight in read)
                found[row] = Explanation(*self._judge(logit), logit, baseline, tokens)
        return found

    def _encode(self, texts: Sequence[str]) -> tuple[EncodedTexts, list[int]]:
        """What the model reads of texts, and the number of the first token of each."""
        tokenizing = self.checkpoint.config.tokenizer
        encoded = encode_texts(self.checkpoint.tokenizer, texts)
        truncated = encoded.truncate(tokenizing.max_length, tokenizing.truncation_side)
        return truncated, (truncated.starts_N - encoded.starts_N).tolist()

    def _judge(self, logit: float) -> Prediction:
        if not math.isfinite(logit):
            folder = self.checkpoint.folder
            raise UserError(f"{folder} computes NaN or infinity; use another checkpoint")
        probability = torch.tensor(logit, dtype=torch.float64).sigmoid().item()
        label = self.checkpoint.label_names[probability > self.threshold]
        return Prediction(label, round(probability, DIGITS))


def _filled(texts: Sequence[str]) -> list[int]:
    """Rows of the texts that are not empty."""
    return [row for row, text in enumerate(texts) if text and not text.isspace()]
