"""A stack of recurrent layers over padded, time-major batches.

Shapes: T time, B batch, E input width, D directions (1 or 2), H hidden size of one direction.

Each layer is a one-directional `nn.LSTM`, `nn.GRU` or `nn.RNN` per direction; the weights of a
bidirectional LSTM are taken by a compiled kernel on a CPU where it can (`kernel.py`). Elsewhere the
right-to-left one reads every review reversed within its own length, so that it starts at the last
real token, as `pack_padded_sequence` would have it; packing itself would take PyTorch's
step-by-step path for an LSTM, 7 to 10 times slower on a CPU.
"""

import torch
from torch import Tensor, nn

from sentiment.config import Cell, EncoderConfig
from sentiment.model import kernel

LAYERS = {Cell.lstm: nn.LSTM, Cell.gru: nn.GRU, Cell.rnn: nn.RNN}
GATES = {Cell.lstm: 4, Cell.gru: 3, Cell.rnn: 1}
"""Blocks of H rows in a layer's weights."""


class SharedDropout(nn.Module):
    """Dropout with one mask per review, the same at all its time steps (Gal & Ghahramani, 2016)."""

    def __init__(self, probability: float) -> None:
        super().__init__()
        self.probability = probability

    def forward(self, x_TBE: Tensor) -> Tensor:
        """Drop and rescale whole features of a review; the identity outside training."""
        if not self.training or self.probability == 0:
            return x_TBE
        ones_1BE = torch.ones_like(x_TBE[:1])
        return x_TBE * nn.functional.dropout(ones_1BE, self.probability)


class _Permute(torch.autograd.Function):
    """Reorders rows by a permutation that is its own inverse, so that backward is forward."""

    @staticmethod
    def forward(ctx, x_NE: Tensor, index_N: Tensor) -> Tensor:  # type: ignore[no-untyped-def]
        ctx.save_for_backward(index_N)
        return x_NE.index_select(0, index_N)

    @staticmethod
    def backward(ctx, gradient_NE: Tensor) -> tuple[Tensor, None]:  # type: ignore[no-untyped-def]
        (index_N,) = ctx.saved_tensors
        return gradient_NE.index_select(0, index_N), None


def reversal_index(lengths_B: Tensor, time: int) -> Tensor:
    """Rows of a flattened `[T * B, ...]` batch with every review reversed within its length.

    Args:
        lengths_B: int64 lengths, at most `time`.
        time: T of the batch.

    Returns:
        int64 `[T * B]`; padding stays where it is. Applying it twice changes nothing.
    """
    time_T1 = torch.arange(time, device=lengths_B.device).unsqueeze(1)
    mirrored_TB = lengths_B - 1 - time_T1
    source_TB = torch.where(mirrored_TB >= 0, mirrored_TB, time_T1)
    columns_B = torch.arange(lengths_B.shape[0], device=lengths_B.device)
    return (source_TB * lengths_B.shape[0] + columns_B).flatten()


def reverse(x_TBE: Tensor, index_N: Tensor) -> Tensor:
    """Reverse every review within its length, by an index from `reversal_index`."""
    reversed_NE: Tensor = _Permute.apply(  # type: ignore[no-untyped-call]
        x_TBE.flatten(0, 1), index_N
    )
    return reversed_NE.view_as(x_TBE)


class Encoder(nn.Module):
    """Recurrent layers with dropout, shared over time, between them.

    Equals `pack_padded_sequence` followed by PyTorch's own stack of layers with the same weights.
    Recurrent weights start orthogonal per gate, and the forget gates of an LSTM open (Gers et al.,
    2000; Jozefowicz et al., 2015): without them the state forgets the review before the final
    states reach its start, and nothing is learned in the first epoch.

    Args:
        input_size: E.
        hidden_size: H.
        layers: number of layers.
        dropout: probability between layers.
        cell: of every layer; an RNN's is tanh.
        bidirectional: each layer also reads from right to left (D = 2).
        forget_bias: what the bias of an LSTM's forget gates starts from.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        layers: int,
        dropout: float,
        cell: Cell = Cell.lstm,
        bidirectional: bool = True,
        forget_bias: float = 1.0,
    ) -> None:
        super().__init__()
        self.hidden_size, self.cell, self.bidirectional = hidden_size, cell, bidirectional
        self.output_size = hidden_size * (2 if bidirectional else 1)
        self.dropout = SharedDropout(dropout)
        widths = [input_size] + [self.output_size] * (layers - 1)
        self.left_to_right = nn.ModuleList(LAYERS[cell](width, hidden_size) for width in widths)
        self.right_to_left = nn.ModuleList(
            LAYERS[cell](width, hidden_size) for width in widths if bidirectional
        )
        for layer in (*self.left_to_right, *self.right_to_left):
            _initialize(layer, cell, forget_bias)

    @property
    def directions(self) -> dict[str, nn.ModuleList]:
        """The layers of each direction that there is, by its name."""
        found = {"left_to_right": self.left_to_right}
        return found | {"right_to_left": self.right_to_left} if self.bidirectional else found

    def forward(self, x_TBE: Tensor, lengths_B: Tensor) -> tuple[Tensor, Tensor]:
        """Encode a batch.

        Args:
            x_TBE: inputs; whatever finite numbers stand past a review's length make no difference.
            lengths_B: int64 lengths, 1 to T.

        Returns:
            The last layer's outputs `[T, B, D * H]`, 0 past each length, and its final states
            `[B, D * H]`: left to right at the last real token, right to left at the first.
        """
        time, size = x_TBE.shape[0], self.hidden_size
        is_bilstm = self.cell is Cell.lstm and self.bidirectional
        compiled = is_bilstm and kernel.can_run(x_TBE, size)
        reverses = self.bidirectional and not compiled
        index_N = reversal_index(lengths_B, time) if reverses else None
        for layer, directions in enumerate(zip(*self.directions.values(), strict=True)):
            if layer > 0:
                x_TBE = self.dropout(x_TBE)
            if compiled:
                x_TBE = _compiled_layer(x_TBE, lengths_B, *directions)
            elif index_N is None:
                x_TBE, _ = directions[0](x_TBE)
            else:
                rightward, leftward = directions
                right_TBH, _ = rightward(x_TBE)
                left_TBH, _ = leftward(reverse(x_TBE, index_N))
                x_TBE = torch.cat([right_TBH, reverse(left_TBH, index_N)], dim=2)
        if not compiled:
            time_T11 = torch.arange(time, device=lengths_B.device)[:, None, None]
            x_TBE = x_TBE.masked_fill(time_T11 >= lengths_B[:, None], 0)
        columns_1B = torch.arange(lengths_B.shape[0], device=lengths_B.device)[None]
        directions_D1 = torch.arange(len(self.directions), device=lengths_B.device)[:, None]
        last_DB = torch.where(directions_D1 == 0, lengths_B - 1, 0)
        # Looked up together, which leaves one gradient of all outputs to fill in.
        final_DBH = x_TBE.reshape(*x_TBE.shape[:2], -1, size)[last_DB, columns_1B, directions_D1]
        return x_TBE, final_DBH.transpose(0, 1).flatten(1)


def build_encoder(input_size: int, config: EncoderConfig) -> Encoder:
    """The encoder that a configuration asks for, for inputs of the given width."""
    return Encoder(
        input_size,
        config.hidden_size,
        config.layers,
        config.dropout,
        config.cell,
        config.bidirectional,
        config.forget_bias,
    )


def _compiled_layer(
    x_TBE: Tensor, lengths_B: Tensor, rightward: nn.Module, leftward: nn.Module
) -> Tensor:
    right, left = dict(rightward.named_parameters()), dict(leftward.named_parameters())
    w_ih, w_hh, b_ih, b_hh = (torch.stack([right[name], left[name]]) for name in right)
    return kernel.bidirectional_layer(x_TBE, lengths_B, w_ih, w_hh, b_ih + b_hh)


def _initialize(layer: nn.Module, cell: Cell, forget_bias: float) -> None:
    weights = dict(layer.named_parameters())
    with torch.no_grad():
        nn.init.xavier_uniform_(weights["weight_ih_l0"])
        for gate_HH in weights["weight_hh_l0"].chunk(GATES[cell]):
            nn.init.orthogonal_(gate_HH)
        for name in ("bias_ih_l0", "bias_hh_l0"):
            nn.init.zeros_(weights[name])
        if cell is Cell.lstm:
            _, forget_H, _, _ = weights["bias_ih_l0"].chunk(4)
            nn.init.constant_(forget_H, forget_bias)
