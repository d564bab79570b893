import pytest
import torch
from torch import Tensor, nn

from sentiment.config import Cell
from sentiment.model.encoder import Encoder
from sentiment.model.unrolled import unroll

# T time, B batch, E input width, H hidden size of one direction.
T, B, E, H = 9, 3, 5, 4


@pytest.fixture(params=[(cell, both) for cell in Cell for both in (True, False)], ids=str)
def encoder(request: pytest.FixtureRequest) -> Encoder:
    torch.manual_seed(0)
    encoder = Encoder(E, H, 2, 0.5, *request.param)
    for parameter in encoder.parameters():
        nn.init.normal_(parameter, std=0.7)
    return encoder.eval()


def run_through(rnn: nn.Module, x_TBE: Tensor, cut: int | None) -> tuple[Tensor, Tensor]:
    """PyTorch's layer in two parts: its outputs, and the state between them, from which on the
    second part was computed; with `None` in one, and no state."""
    if cut is None:
        return rnn(x_TBE)[0], x_TBE
    before_TBH, state = rnn(x_TBE[: cut + 1])
    hidden_BH = before_TBH[-1].detach().requires_grad_()
    state = (hidden_BH[None], state[1].detach()) if isinstance(rnn, nn.LSTM) else hidden_BH[None]
    parts = [before_TBH[:-1].detach(), hidden_BH[None]]
    if cut + 1 < T:
        parts.append(rnn(x_TBE[cut + 1 :], state)[0])
    return torch.cat(parts), hidden_BH


def gradient_by_restart(
    encoder: Encoder, x_TBE: Tensor, at: tuple[int, str, int], seen_TBH: Tensor
) -> Tensor:
    """Gradient of a hidden state, by starting its layer again from there."""
    hidden_BH = x_TBE
    for layer in range(len(encoder.left_to_right)):
        outputs = []
        for direction, layers in encoder.directions.items():
            cut = at[2] if at[:2] == (layer, direction) else None
            backwards = direction == "right_to_left"
            read_TBE = x_TBE.flip(0) if backwards else x_TBE
            out_TBH, found_BH = run_through(layers[layer], read_TBE, cut)
            outputs.append(out_TBH.flip(0) if backwards else out_TBH)
            hidden_BH = hidden_BH if cut is None else found_BH
        x_TBE = torch.cat(outputs, dim=2)
    (gradient_BH,) = torch.autograd.grad((x_TBE * seen_TBH).sum(), hidden_BH)
    return gradient_BH


def test_it_computes_what_the_encoder_does(encoder: Encoder) -> None:
    x_TBE = torch.randn(T, B, E)
    unrolled = unroll(encoder, x_TBE)
    outputs_TBH, final_BH = encoder(x_TBE, torch.full((B,), T))
    torch.testing.assert_close(unrolled.outputs_TBH.float(), outputs_TBH, atol=1e-6, rtol=0)
    torch.testing.assert_close(unrolled.final_BH.float(), final_BH, atol=1e-6, rtol=0)


def test_a_state_s_gradient_is_the_whole_of_its_effect(encoder: Encoder) -> None:
    encoder.double()
    x_TBE = torch.randn(T, B, E).double()
    unrolled = unroll(encoder, x_TBE)
    seen_TBH = torch.randn_like(unrolled.outputs_TBH)
    loss = (unrolled.outputs_TBH * seen_TBH).sum()
    for layer, states_T in enumerate(unrolled.states):
        gradients_T = torch.autograd.grad(loss, states_T, retain_graph=True)
        for d, direction in enumerate(encoder.directions):
            for cut in (0, 4, T - 1):
                expected = gradient_by_restart(encoder, x_TBE, (layer, direction, cut), seen_TBH)
                torch.testing.assert_close(gradients_T[cut][d], expected)


def test_gates_agree_with_the_equations() -> None:
    torch.manual_seed(0)
    x_TBE = torch.randn(2, B, E)
    for cell, names in (
        (Cell.lstm, ["input", "forget", "", "output"]),
        (Cell.gru, ["reset", "update"]),
    ):
        encoder = Encoder(E, H, 1, 0.0, cell, bidirectional=False)
        (w,) = (dict(layer.named_parameters()) for layer in encoder.left_to_right)
        unrolled = unroll(encoder, x_TBE)
        (gates,) = unrolled.gates
        before_H = unrolled.states[0][0][0, 0].float()
        sums_G = w["weight_ih_l0"] @ x_TBE[1, 0] + w["bias_ih_l0"]
        sums_G = sums_G + w["weight_hh_l0"] @ before_H + w["bias_hh_l0"]
        for name, sums_H in zip(names, sums_G.split(H), strict=False):
            if name:
                torch.testing.assert_close(gates[name][1, 0].float(), sums_H.sigmoid())
    assert unroll(Encoder(E, H, 1, 0.0, Cell.rnn), x_TBE).gates == [{}]
