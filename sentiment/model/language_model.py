"""Two language models in one encoder: each direction predicts the token that it has not read yet.

Shapes: T time, B batch, E width of a word vector, H hidden size of one direction, V vocabulary,
M predicted tokens of a batch, P of them at once, K sampled tokens.
"""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, log_softmax, softplus

from sentiment.config import EncoderConfig
from sentiment.model.encoder import Encoder, SharedDropout, build_encoder

AT_ONCE = 2048
"""Predictions whose logits among a whole vocabulary are held at once."""
IMPOSSIBLE = -1e30
"""Added to a logit; infinity would leave no gradient where nothing else is."""


class Predictions(NamedTuple):
    """What one direction makes of a batch.

    Attributes:
        states_ME: to be compared with word vectors.
        targets_M: int64, the tokens to be predicted.
    """

    states_ME: Tensor
    targets_M: Tensor


class LanguageModel(nn.Module):
    """An encoder whose directions do not see each other, and word vectors to predict with.

    From left to right the output at a token predicts the next one, from right to left the one
    before, so both learn from the whole review in one pass. Above the first layer a bidirectional
    encoder would read the token to be predicted in the states of the other direction; so the
    weights between directions are zero and stay it (`separate_directions`). A classifier that takes
    the encoder over computes the very same states at first, and learns those weights, too.

    Predicted tokens share their vectors with those that are read (Press & Wolf, 2017; Inan et al.,
    2017), behind a projection of the states that each direction has of its own.

    Args:
        embedding: `[V, E]`.
        config: sizes of the encoder, and dropout.
    """

    def __init__(self, embedding: nn.Embedding, config: EncoderConfig) -> None:
        super().__init__()
        self.embedding = embedding
        self.embedding_dropout = SharedDropout(config.embedding_dropout)
        self.encoder = build_encoder(embedding.embedding_dim, config)
        separate_directions(self.encoder)
        self.dropout = SharedDropout(config.dropout)
        self.projections = nn.ModuleList(
            nn.Linear(config.hidden_size, embedding.embedding_dim) for _ in self.encoder.directions
        )
        self.bias_V = nn.Parameter(torch.zeros(embedding.num_embeddings))

    def start_from(self, ids: Tensor) -> None:
        """Predict every token as often as it stands in `ids`, before anything is learned."""
        counts_V = torch.bincount(ids, minlength=len(self.bias_V)) + 1
        with torch.no_grad():
            self.bias_V.copy_((counts_V / counts_V.sum()).log())

    def forward(self, ids_TB: Tensor, lengths_B: Tensor, predicted: int) -> list[Predictions]:
        """States to predict the tokens of a batch with, for each direction.

        Args:
            ids_TB: int64 token ids.
            lengths_B: int64 lengths, 1 to T; all tokens of a review but one are predicted.
            predicted: M, how many that are, so that nobody waits for a GPU to count them.
        """
        x_TBE = self.embedding_dropout(self.embedding(ids_TB))
        outputs_TBH, _ = self.encoder(x_TBE, lengths_B)
        outputs_TBH = self.dropout(outputs_TBH)
        time_T1 = torch.arange(len(ids_TB), device=ids_TB.device).unsqueeze(1)
        is_last_or_past_TB = time_T1 >= lengths_B - 1
        place_M2 = (~is_last_or_past_TB[:-1]).nonzero_static(size=predicted)
        time_M, column_M = place_M2.unbind(dim=1)
        states = outputs_TBH.split(self.encoder.hidden_size, dim=2)
        read = (states[0][:-1], *(state[1:] for state in states[1:]))
        targets = (ids_TB[1:], ids_TB[:-1])
        return [
            Predictions(projection(state_TBH[time_M, column_M]), target_TB[time_M, column_M])
            for projection, state_TBH, target_TB in zip(
                self.projections, read, targets, strict=False
            )
        ]

    def loss(self, predictions: Predictions) -> Tensor:
        """Mean cross entropy of the predictions among all tokens of the vocabulary."""
        loss: Tensor = _CrossEntropy.apply(  # type: ignore[no-untyped-call]
            *predictions, self.embedding.weight, self.bias_V, torch.is_grad_enabled()
        )
        return loss

    def sampled_losses(
        self, predicted: Sequence[Predictions], sampled_K: Tensor, log_expected_V: Tensor
    ) -> list[Tensor]:
        """Mean cross entropy of each direction among the right tokens and some others.

        The logarithm of how often a token is expected among the sampled ones is taken off its
        logit, which makes up for its being there so often (Jean et al., 2015, section 3; Bengio &
        Senecal, 2008). A sampled token that is the right one does not count against itself.

        Args:
            predicted: of every direction.
            sampled_K: int64 tokens, the same for all predictions.
            log_expected_V: logarithm of how often each token is expected in `sampled_K`.
        """
        # Looked up at once: the gradient of each look-up is as large as the whole embedding.
        parts = [sampled_K, *(targets_M for _, targets_M in predicted)]
        tokens, sizes = torch.cat(parts), [len(part) for part in parts]
        sampled_KE, *rights = self.embedding(tokens).split_with_sizes(sizes)
        offset_K, *offsets = (self.bias_V - log_expected_V)[tokens].split_with_sizes(sizes)
        column_V = torch.full_like(log_expected_V, -1, dtype=torch.int64)
        column_V[sampled_K] = torch.arange(len(sampled_K), device=sampled_K.device)
        losses = []
        for (states_ME, targets_M), right_ME, offset_M in zip(
            predicted, rights, offsets, strict=True
        ):
            right_M = (states_ME * right_ME).sum(1) + offset_M
            others_MK = linear(states_ME, sampled_KE, offset_K).float()
            column_M1 = column_V[targets_M].unsqueeze(1)
            hit_M1 = (column_M1 >= 0).float() * IMPOSSIBLE
            others_M = others_MK.scatter_add(1, column_M1.clamp(min=0), hit_M1).logsumexp(dim=1)
            losses.append(softplus(others_M - right_M).mean())
        return losses


class _CrossEntropy(torch.autograd.Function):
    """Mean cross entropy, whose gradient is taken while the logits are at hand.

    A logit for each prediction and token is most of what a step moves through a GPU's memory: so it
    is written once, in the number format of the states, and becomes its gradient in that place. The
    logits of a few predictions are there at once.
    """

    @staticmethod
    def forward(  # type: ignore[no-untyped-def]
        ctx,
        states_ME: Tensor,
        targets_M: Tensor,
        weight_VE: Tensor,
        bias_V: Tensor,
        learns: bool,
    ) -> Tensor:
        like = states_ME.dtype
        loss = states_ME.new_zeros((), dtype=torch.float32)
        gradients = [torch.zeros_like(t) for t in (states_ME, weight_VE, bias_V) if learns]
        with torch.autocast(states_ME.device.type, enabled=False):
            weight_VE, bias_V = weight_VE.to(like), bias_V.to(like)
            for start in range(0, len(targets_M), AT_ONCE):
                part = slice(start, start + AT_ONCE)
                target_P1 = targets_M[part].unsqueeze(1)
                logit_PV = linear(states_ME[part], weight_VE, bias_V)
                log_PV = log_softmax(logit_PV, dim=1, dtype=torch.float32)
                right_P1 = log_PV.gather(1, target_P1)
                loss -= right_P1.sum()
                if not learns:
                    continue
                slope_PV = torch.exp(log_PV, out=logit_PV)
                slope_PV.scatter_(1, target_P1, right_P1.expm1().to(like))
                of_states_ME, of_weight_VE, of_bias_V = gradients
                of_states_ME[part] = slope_PV @ weight_VE
                of_weight_VE += slope_PV.T @ states_ME[part]
                of_bias_V += slope_PV.sum(dim=0, dtype=torch.float32)
        ctx.save_for_backward(*gradients)
        return loss / len(targets_M)

    @staticmethod
    def backward(ctx, slope: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[no-untyped-def]
        of_states_ME, of_weight_VE, of_bias_V = ctx.saved_tensors
        slope = slope / len(of_states_ME)
        return of_states_ME * slope, None, of_weight_VE * slope, of_bias_V * slope, None


def separate_directions(encoder: Encoder) -> None:
    """Set the weights between the directions of an encoder to zero, and keep them there.

    Above the first layer, the inputs of a direction are the outputs of both below it. Their
    gradients are set to zero by a hook, which `copy.deepcopy` leaves behind.
    """
    if not encoder.bidirectional:
        return
    size = encoder.hidden_size
    for others, layers in (
        (slice(size, None), encoder.left_to_right[1:]),
        (slice(0, size), encoder.right_to_left[1:]),
    ):
        for layer in layers:
            weight_GE = layer.get_parameter("weight_ih_l0")
            with torch.no_grad():
                weight_GE[:, others] = 0
            weight_GE.register_hook(  # type: ignore[no-untyped-call]
                partial(_without, columns=others)
            )


def _without(gradient_GE: Tensor, columns: slice) -> Tensor:
    gradient_GE = gradient_GE.clone()
    gradient_GE[:, columns] = 0
    return gradient_GE
