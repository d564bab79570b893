"""What each token adds to a logit: integrated gradients (Sundararajan et al., 2017).

The path leads straight from a text of the same length that says next to nothing to what the encoder
reads of the text. So the weights of all tokens add up to the difference of the two logits.

On its way the logit of an LSTM may jump, as if a switch were thrown, and evenly spread points, were
there thousands, miss the jump. But what the weights of any stretch of the path add up to is known,
the difference of the logits at its ends: a stretch where they do not is halved. One that float32
cannot halve any more has its gradients scaled to that difference: over so little of the path they
change in size and keep their direction.

Shapes: N texts, T time, B stretches, E width of word vectors and features of n-grams together.
"""

import contextlib
import itertools
import logging
from collections.abc import Iterator
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sentiment.data.batches import pad, send, sorted_batches
from sentiment.data.encoded import EncodedTexts
from sentiment.errors import UserError
from sentiment.model.classifier import Classifier
from sentiment.training.inference import BATCH_SIZE, MAX_TOKENS, one_thread_each
from sentiment.training.runtime import Runtime

log = logging.getLogger(__name__)

STRETCHES, POINTS = 10, 5
"""Into how many the path is first divided, and points of the Gauss-Legendre rule on each."""
SHORT = 1e-5
"""Share of the path that float32 hardly divides: here gradients are scaled if they can be."""
MOST_HALVINGS = 24
MOST_HALVED = 64
"""Stretches of a text, at a time: a path may be so rough that there is no end of them."""
TOLERANCE = 0.01
"""Largest error of the sum of the weights, as a share of the difference of the logits ..."""
ABSOLUTE_TOLERANCE = 0.001
"""... or this, where that difference is next to nothing."""
CANDIDATES, REPEATED = 64, 100
"""Tokens that the baseline is chosen from, the first of the vocabulary, and how often each is
repeated for that."""


class Attribution(NamedTuple):
    """Why a text has its logit.

    Attributes:
        logit: of the text.
        baseline: logit of as many tokens that say next to nothing (`neutral_input`).
        weights_T: float32, what each token adds.
    """

    logit: float
    baseline: float
    weights_T: Tensor


class _Stretch(NamedTuple):
    """A part of the path of a text, between two shares of the way."""

    row: int
    start: float
    end: float

    @property
    def is_short(self) -> bool:
        return self.end - self.start < SHORT

    def halves(self) -> "tuple[_Stretch, _Stretch]":
        middle = (self.start + self.end) / 2
        return self._replace(end=middle), self._replace(start=middle)


class _Integral(NamedTuple):
    """Logits at both ends of a stretch, and what its tokens add in between."""

    start_logit: float
    end_logit: float
    weights_T: Tensor

    @property
    def difference(self) -> float:
        return self.end_logit - self.start_logit

    @property
    def error(self) -> float:
        return abs(self.weights_T.sum().item() - self.difference)

    @property
    def leads_there(self) -> bool:
        """Whether the gradients point the way that the logit goes, so that they can be its own."""
        return self.weights_T.sum().item() * self.difference > 0

    def scaled(self) -> "_Integral":
        ratio = self.difference / self.weights_T.sum().item()
        return self._replace(weights_T=ratio * self.weights_T)


Path = dict[_Stretch, _Integral]


def attribute(model: Classifier, texts: EncodedTexts, runtime: Runtime) -> list[Attribution]:
    """Integrated gradients of every text, in their order, in float32 whatever the precision.

    Weights and random states of the model stay as they are; it is in evaluation mode afterwards.
    Where the weights of a text may not add up to the difference of its logits, a warning says so.

    Raises:
        UserError: Captum is not installed.
    """
    marks = np.linspace(0, 1, STRETCHES + 1).tolist()
    pending = [_Stretch(row, *ends) for row in range(len(texts)) for ends in pairwise(marks)]
    paths: list[Path] = [{} for _ in range(len(texts))]
    with _differentiable(model):
        neutral_E = neutral_input(model)
        for halvings in range(MOST_HALVINGS + 1):
            for stretch, integral in _integrate(model, texts, pending, neutral_E, runtime):
                paths[stretch.row][stretch] = integral
            pending = []
            for path in paths:
                for stretch in _inexact(path):
                    if stretch.is_short and path[stretch].leads_there:
                        path[stretch] = path[stretch].scaled()
                    elif halvings < MOST_HALVINGS:
                        del path[stretch]
                        pending += stretch.halves()
            if not pending:
                break
    if missed := sum(bool(_inexact(path)) for path in paths):
        log.warning("the weights of %d texts may not add up: their logits jump too often", missed)
    return [_join(path) for path in paths]


@torch.no_grad()
def neutral_input(model: Classifier) -> Tensor:
    """What the encoder reads of a token that says next to nothing, `[E]`.

    A baseline should be one of whose logit nothing needs to be explained (Sundararajan et al.,
    2017). Zeros are none: no text is like a hundred of them, and a model may call them positive
    with all its certainty. So this is the word vector, without features of n-grams, of the frequent
    token that, repeated, comes nearest to even odds.
    """
    frequent_B = torch.arange(min(CANDIDATES, model.embedding.num_embeddings))
    ids_TB = frequent_B.repeat(REPEATED, 1).to(model.output.weight.device)
    x_TBE = model.inputs(ids_TB)
    x_TBE[:, :, model.embedding.embedding_dim :] = 0
    logits_B = model.logits(x_TBE, torch.full_like(ids_TB[0], REPEATED))
    return x_TBE[0, logits_B.abs().argmin()]


def _integrate(
    model: Classifier,
    texts: EncodedTexts,
    stretches: list[_Stretch],
    neutral_E: Tensor,
    runtime: Runtime,
) -> Iterator[tuple[_Stretch, _Integral]]:
    integrated_gradients = load_captum()

    def logits(x_BTE: Tensor, lengths_B: Tensor) -> Tensor:
        return model.logits(x_BTE.transpose(0, 1).contiguous(), lengths_B)

    gradients = integrated_gradients(logits)

    def compute(batch: NDArray[np.int64]) -> list[tuple[_Stretch, _Integral]]:
        parts = [stretches[number] for number in batch]
        rows, starts, ends = zip(*parts, strict=True)
        ids_TB, lengths_B = (send(tensor, runtime.device) for tensor in pad(texts, np.array(rows)))
        with torch.autocast(runtime.device.type, enabled=False):
            with torch.no_grad():
                way_BTE = model.inputs(ids_TB).transpose(0, 1) - neutral_E
                start_BTE, end_BTE = (
                    neutral_E + way_BTE * torch.tensor(share, device=runtime.device)[:, None, None]
                    for share in (starts, ends)
                )
                start_logits_B, end_logits_B = (
                    logits(point_BTE, lengths_B) for point_BTE in (start_BTE, end_BTE)
                )
            shares_BTE = gradients.attribute(
                end_BTE,
                start_BTE,
                additional_forward_args=lengths_B,
                n_steps=POINTS,
                internal_batch_size=max(len(batch), MAX_TOKENS // len(ids_TB)),
            )
        weights_BT = model.of_tokens(shares_BTE.detach().transpose(0, 1)).T.cpu()
        weights = [w_T[:length] for w_T, length in zip(weights_BT, lengths_B.tolist(), strict=True)]
        integrals = zip(start_logits_B.tolist(), end_logits_B.tolist(), weights, strict=True)
        return list(zip(parts, itertools.starmap(_Integral, integrals), strict=True))

    lengths_M = texts.lengths_N.numpy()[[stretch.row for stretch in stretches]]
    batches = sorted_batches(lengths_M, BATCH_SIZE, MAX_TOKENS)
    if runtime.device.type == "cpu":
        with one_thread_each() as pool:
            yield from itertools.chain.from_iterable(pool.map(compute, batches))
    else:
        yield from itertools.chain.from_iterable(map(compute, batches))


def _inexact(path: Path) -> list[_Stretch]:
    """The worst stretches: where there are none, the whole is exact to the tolerance."""
    difference = sum(integral.difference for integral in path.values())
    tolerance = max(TOLERANCE * abs(difference), ABSOLUTE_TOLERANCE)
    inexact = [s for s, integral in path.items() if integral.error > tolerance / len(path)]
    return sorted(inexact, key=lambda stretch: -path[stretch].error)[:MOST_HALVED]


def _join(path: Path) -> Attribution:
    integrals = [path[stretch] for stretch in sorted(path)]
    weights_T = torch.stack([integral.weights_T for integral in integrals]).sum(dim=0)
    return Attribution(integrals[-1].end_logit, integrals[0].start_logit, weights_T)


def load_captum() -> Any:
    """Captum's class of integrated gradients.

    Raises:
        UserError: it is not installed.
    """
    try:
        from captum.attr import IntegratedGradients
    except ImportError as error:
        raise UserError(
            "explanations need Captum, which is not installed: pip install 'sentiment[explain]'"
        ) from error
    return IntegratedGradients


@contextlib.contextmanager
def _differentiable(model: Classifier) -> Iterator[None]:
    """Evaluation mode, but of recurrent layers: cuDNN differentiates them in training mode only.

    Theirs is the same in both, as they have no dropout of their own.
    """
    model.eval()
    for module in model.modules():
        if isinstance(module, nn.RNNBase):
            module.train()
    try:
        yield
    finally:
        model.eval()
