"""From texts to labels and probabilities, with a saved checkpoint."""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple, Self

import torch

from sentiment.config import THRESHOLD, Device, Kernel, Precision
from sentiment.data.encoded import encode_texts
from sentiment.errors import UserError
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
        rows = [row for row, text in enumerate(texts) if text and not text.isspace()]
        found = [Prediction(None, None)] * len(texts)
        if not rows:
            return found
        tokenizing = self.checkpoint.config.tokenizer
        encoded = encode_texts(self.checkpoint.tokenizer, [texts[row] for row in rows])
        truncated = encoded.truncate(tokenizing.max_length, tokenizing.truncation_side)
        logits_N = predict_logits(self.model, truncated, self.runtime)
        if not logits_N.isfinite().all():
            folder = self.checkpoint.folder
            raise UserError(f"{folder} computes NaN or infinity; use another checkpoint")
        names = self.checkpoint.label_names
        for row, probability in zip(rows, torch.sigmoid(logits_N.double()).tolist(), strict=True):
            label = names[probability > self.threshold]
            found[row] = Prediction(label, round(probability, DIGITS))
        return found
