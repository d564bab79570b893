"""A look inside the encoder while it learns: how far the loss is felt, and what the gates do.

Shapes: T time, B batch, D directions, H hidden size of one direction.
"""

from typing import NamedTuple

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor, nn

from sentiment.config import TruncationSide
from sentiment.data.batches import pad
from sentiment.data.encoded import EncodedReviews
from sentiment.model.classifier import Classifier
from sentiment.model.encoder import Encoder
from sentiment.model.unrolled import unroll
from sentiment.report.gradients import Curve, Gate, Gates

MOST_REVIEWS, MOST_TOKENS = 16, 400
MOST_UNITS = 8192  # of all reviews, layers and directions: bounds memory and time


class Inside(NamedTuple):
    """What a look at the encoder finds.

    Attributes:
        curves: gradient norms, of each layer and direction.
        gates: of the last layer over the first review; `None` of an RNN, which has none.
    """

    curves: list[Curve]
    gates: Gates | None


class Probe:
    """Reviews that a model is looked at with, the same ones every time.

    They are the longest of the validation reviews, where those of 400 tokens or more count as
    equally long and the first ones are taken: an eighth of all, 16 at most, fewer for a wide model.
    Of each the last tokens are read, as many as the shortest of them has, at most 400.

    Args:
        validation: not the training reviews: what is known of their n-grams would tell their label.
        tokenizer: that they were encoded with.
        encoder: that is to be looked at.
    """

    def __init__(self, validation: EncodedReviews, tokenizer: Tokenizer, encoder: Encoder) -> None:
        units = encoder.output_size * len(encoder.left_to_right)
        count = max(1, min(MOST_REVIEWS, MOST_UNITS // units, len(validation) // 8))
        lengths_N = validation.lengths_N.clamp(max=MOST_TOKENS).numpy()
        rows = np.argsort(-lengths_N, kind="stable")[:count]
        time = int(lengths_N[rows].min())
        chosen = validation.select(rows).truncate(time, TruncationSide.left)
        self.ids_TB = pad(chosen, np.arange(count))[0][:time]
        self.labels_B = chosen.labels_N
        self.tokens = [tokenizer.id_to_token(i) or "" for i in self.ids_TB[:, 0].tolist()]

    def __call__(self, model: Classifier) -> Inside:
        """Look at a model, and leave it and every random state as they are.

        The gradient of a hidden state is that of its own review's loss, through all that comes
        after it; its L2 norm is averaged over the reviews.
        """
        was_training, threads = model.training, torch.get_num_threads()
        # Thousands of steps so small that threads would wait for each other.
        torch.set_num_threads(1)
        try:
            return self._look(model.eval())
        finally:
            torch.set_num_threads(threads)
            model.train(was_training)

    def _look(self, model: Classifier) -> Inside:
        ids_TB = self.ids_TB.to(model.output.weight.device)
        with torch.no_grad():
            x_TBE = model.inputs(ids_TB)
        unrolled = unroll(model.encoder, x_TBE)
        lengths_B = torch.full_like(ids_TB[0], len(ids_TB))
        logits_B = model.decide(unrolled.outputs_TBH, unrolled.final_BH, lengths_B)
        labels_B = self.labels_B.to(logits_B)
        loss = nn.functional.binary_cross_entropy_with_logits(logits_B, labels_B, reduction="sum")
        directions = list(model.encoder.directions)
        states = [state for states_T in unrolled.states for state in states_T]
        gradients = torch.autograd.grad(loss, states)
        curves = []
        for layer, start in enumerate(range(0, len(states), len(ids_TB)), 1):
            norms_TD = _mean_norms(gradients[start : start + len(ids_TB)])
            for direction, norms in zip(directions, norms_TD.flip(0).T.tolist(), strict=True):
                curves.append(Curve(layer, direction, norms))
        gates = [
            Gate(f"{name} gate,\n{direction.replace('_', ' ')}", _in_order(gate_TH, direction))
            for name, gate_TDH in unrolled.gates[-1].items()
            for direction, gate_TH in zip(directions, gate_TDH.unbind(1), strict=True)
        ]
        return Inside(curves, Gates(len(unrolled.gates), self.tokens, gates) if gates else None)


def _mean_norms(gradients_T: tuple[Tensor, ...]) -> Tensor:
    """`[T, D]`, from gradients `[D, B, H]`."""
    return torch.stack([gradient_DBH.norm(dim=2).mean(dim=1) for gradient_DBH in gradients_T])


def _in_order(gate_TH: Tensor, direction: str) -> np.ndarray:
    return (gate_TH.flip(0) if direction == "right_to_left" else gate_TH).cpu().numpy()
