"""The encoder step by step, with every hidden state and gate in sight.

The layers of PyTorch and the compiled kernel give their outputs only. An output's gradient leaves
out what it does to later steps inside the layer; here each state is a tensor that the next one is
computed from, so that its gradient is the whole of its effect.

Shapes: T time, B batch, E input width, D directions, H hidden size of one direction, G rows of a
layer's weights (4H, 3H or H).
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sentiment.config import Cell
from sentiment.model.encoder import Encoder

Step = tuple[Tensor, Tensor, tuple[Tensor, ...]]
"""Hidden state, memory, and gates after a token."""

GATE_NAMES: Mapping[Cell, tuple[str, ...]] = {
    Cell.lstm: ("input", "forget", "output"),
    Cell.gru: ("reset", "update"),
    Cell.rnn: (),
}


@dataclass(frozen=True)
class Unrolled:
    """What the encoder went through.

    Attributes:
        states: per layer T hidden states `[D, B, H]`, in the order in which a direction reads: the
            last is the final state. Each is part of the graph of all that come after it.
        gates: per layer the gates of the first review by name, `[T, D, H]`, in the same order.
        outputs_TBH: the last layer's outputs, both directions beside each other in the order of
            the text, as from `Encoder`; here H stands for D * H.
        final_BH: its final states, likewise.
    """

    states: list[list[Tensor]]
    gates: list[dict[str, Tensor]]
    outputs_TBH: Tensor
    final_BH: Tensor


def unroll(encoder: Encoder, x_TBE: Tensor) -> Unrolled:
    """Encode reviews of equal length, without dropout, in double precision.

    Gradients soon fall below what single precision can hold. The weights get none.

    Args:
        encoder: in any mode.
        x_TBE: inputs, none of them padding.
    """
    step = {Cell.lstm: _lstm, Cell.gru: _gru, Cell.rnn: _rnn}[encoder.cell]
    is_gru = encoder.cell is Cell.gru  # of the others both biases are added to the same sum
    x_TBE = x_TBE.double()
    states, gates = [], []
    for layers_D in zip(*encoder.directions.values(), strict=True):
        weights_D = [[w.detach().double() for w in layer.parameters()] for layer in layers_D]
        read_D = [x_TBE, x_TBE.flip(0)][: len(layers_D)]
        inputs_DTBG = torch.stack(
            [
                nn.functional.linear(read_TBE, w_GE, bias_G if is_gru else bias_G + recurrent_G)
                for read_TBE, (w_GE, _, bias_G, recurrent_G) in zip(read_D, weights_D, strict=True)
            ]
        )
        w_DHG = torch.stack([w_GH.T for _, w_GH, _, _ in weights_D])
        bias_D1G = torch.stack([bias_G for *_, bias_G in weights_D]).unsqueeze(1)
        h_DBH = c_DBH = x_TBE.new_zeros(len(layers_D), x_TBE.shape[1], encoder.hidden_size)
        states_T, gates_T = [], []
        for x_DBG in inputs_DTBG.unbind(1):
            h_DBH, c_DBH, found = step(x_DBG, h_DBH, c_DBH, w_DHG, bias_D1G)
            states_T.append(h_DBH.requires_grad_())
            gates_T.append([gate_DBH[:, 0].detach() for gate_DBH in found])
        states.append(states_T)
        by_name = zip(GATE_NAMES[encoder.cell], zip(*gates_T, strict=True), strict=True)
        gates.append({name: torch.stack(values_T) for name, values_T in by_name})
        rightward, *leftward = torch.stack(states_T, dim=1)
        x_TBE = torch.cat([rightward, *(left_TBH.flip(0) for left_TBH in leftward)], dim=2)
    return Unrolled(states, gates, x_TBE, torch.cat([*states[-1][-1]], dim=1))


def _lstm(x_DBG: Tensor, h_DBH: Tensor, c_DBH: Tensor, w_DHG: Tensor, _: Tensor) -> Step:
    i, f, g, o = torch.baddbmm(x_DBG, h_DBH, w_DHG).chunk(4, dim=2)
    i, f, o = i.sigmoid(), f.sigmoid(), o.sigmoid()
    c_DBH = torch.addcmul(f * c_DBH, i, g.tanh())
    return o * c_DBH.tanh(), c_DBH, (i, f, o)


def _gru(x_DBG: Tensor, h_DBH: Tensor, c_DBH: Tensor, w_DHG: Tensor, bias_D1G: Tensor) -> Step:
    x_r, x_z, x_n = x_DBG.chunk(3, dim=2)
    h_r, h_z, h_n = torch.baddbmm(bias_D1G, h_DBH, w_DHG).chunk(3, dim=2)
    r, z = (x_r + h_r).sigmoid(), (x_z + h_z).sigmoid()
    n = (x_n + r * h_n).tanh()
    return n + z * (h_DBH - n), c_DBH, (r, z)


def _rnn(x_DBG: Tensor, h_DBH: Tensor, c_DBH: Tensor, w_DHG: Tensor, _: Tensor) -> Step:
    return torch.baddbmm(x_DBG, h_DBH, w_DHG).tanh(), c_DBH, ()
