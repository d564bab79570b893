"""Exported graphs against the classifier, text by text."""

import io
from collections.abc import Callable

import numpy as np
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from sentiment.config import Cell, ModelConfig, Pooling
from sentiment.model.classifier import Classifier
from sentiment.model.ngrams import NO_NGRAM
from sentiment.model.onnx import onnx_model
from sentiment.model.program import torch_program

VOCABULARY, UNKNOWN = 6, 1
Compute = Callable[[NDArray[np.int64], NDArray[np.int64]], tuple[NDArray[np.float32], ...]]


def classifier(cell: Cell, ngrams: int, bidirectional: bool = True) -> Classifier:
    """One of every pooling; of the n-grams of its few words many are known."""
    torch.manual_seed(0)
    config = ModelConfig(
        2, 8, 0.5, 0.3, pooling=list(Pooling), word_dropout=0.1, freeze=[], ngrams=ngrams
    )
    config.ngrams_size, config.cell, config.bidirectional = 30, cell, bidirectional
    model = Classifier(nn.Embedding(VOCABULARY, 5), config).eval()
    for name, weight in model.named_parameters():
        if "bias" in name:  # PyTorch's two would be alike
            nn.init.normal_(weight)
    if ngrams > 0:
        model.ngrams.features_OSC.normal_()
        model.ngrams.scale_OC.uniform_(0.5, 2)
        for keys_S, count, most in zip(
            model.ngrams.keys_OS, (5, 20, 30), (6, 30, 120), strict=True
        ):
            keys_S[:count] = torch.randperm(most)[:count].sort().values
    return model


def by_onnx(model: Classifier) -> Compute:
    content = onnx_model(model, UNKNOWN, {}).SerializeToString()
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    names = ["logit", "probability"]
    return lambda ids, lengths: session.run(names, {"ids": ids, "lengths": lengths})


def by_torch(model: Classifier) -> Compute:
    program = torch.export.load(io.BytesIO(torch_program(model, UNKNOWN, {}))).module()

    def compute(
        ids: NDArray[np.int64], lengths: NDArray[np.int64]
    ) -> tuple[NDArray[np.float32], ...]:
        with torch.no_grad():
            found = program(torch.from_numpy(ids), torch.from_numpy(lengths))
        return tuple(tensor.numpy() for tensor in found)

    return compute


def check(model: Classifier, compute: Compute) -> None:
    """See that batches of any shape give the logit of every text alone."""
    generator = np.random.default_rng(0)
    for batch, time in ((1, 1), (2, 0), (6, 20)):
        ids = generator.integers(0, VOCABULARY, (batch, time))
        lengths = generator.integers(0, time + 1, batch)
        logits, probabilities = compute(ids, lengths)
        for row, length, logit in zip(ids, lengths, logits, strict=True):
            ids_T = torch.from_numpy(row[:length]) if length else torch.tensor([UNKNOWN])
            alone = model(ids_T.unsqueeze(1), torch.tensor([len(ids_T)]))
            assert logit == pytest.approx(alone.item(), abs=1e-5)
        np.testing.assert_allclose(probabilities, 1 / (1 + np.exp(-logits)), rtol=1e-5)


@pytest.mark.parametrize("cell", Cell)
def test_onnx_gives_the_logits_of_any_cell(cell: Cell) -> None:
    model = classifier(cell, 3)
    check(model, by_onnx(model))


def test_onnx_gives_the_logits_of_words_in_one_direction() -> None:
    model = classifier(Cell.lstm, 0, bidirectional=False)
    check(model, by_onnx(model))


@pytest.mark.slow
@pytest.mark.parametrize(("cell", "bidirectional"), [(Cell.lstm, True), (Cell.gru, False)])
def test_torch_gives_the_logits(cell: Cell, bidirectional: bool) -> None:
    model = classifier(cell, 3, bidirectional)
    check(model, by_torch(model))


def test_lengths_of_no_known_ngrams_export() -> None:
    model = classifier(Cell.lstm, 3)
    model.ngrams.keys_OS[1:] = NO_NGRAM
    check(model, by_onnx(model))
