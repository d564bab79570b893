import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from sentiment.config import Cell
from sentiment.model.encoder import Encoder, SharedDropout, reversal_index, reverse

# T time, B batch, E input width, H hidden size of one direction.


def reference_for(encoder: Encoder, input_size: int, hidden: int, layers: int) -> nn.RNNBase:
    """PyTorch's own stack of layers with the encoder's weights."""
    kind = {Cell.lstm: nn.LSTM, Cell.gru: nn.GRU, Cell.rnn: nn.RNN}[encoder.cell]
    rnn = kind(input_size, hidden, layers, bidirectional=encoder.bidirectional)
    weights = {}
    for stack, suffix in ((encoder.left_to_right, ""), (encoder.right_to_left, "_reverse")):
        for layer, one in enumerate(stack):
            for name, value in one.named_parameters():
                weights[name.replace("_l0", f"_l{layer}") + suffix] = value.detach()
    rnn.load_state_dict(weights)
    return rnn


def run_packed(rnn: nn.RNNBase, x_TBE: Tensor, lengths_B: Tensor) -> tuple[Tensor, Tensor]:
    packed = pack_padded_sequence(x_TBE, lengths_B, enforce_sorted=False)
    outputs, states = rnn(packed)
    if isinstance(rnn, nn.LSTM):
        states, _ = states
    finals = list(states[-2:] if rnn.bidirectional else states[-1:])
    return pad_packed_sequence(outputs, total_length=len(x_TBE))[0], torch.cat(finals, dim=1)


@settings(max_examples=25, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 17), min_size=1, max_size=6),
    extra_padding=st.integers(0, 2),
    layers=st.integers(1, 3),
    cell=st.sampled_from(Cell),
    bidirectional=st.booleans(),
    seed=st.integers(0, 2**31),
)
def test_equals_packed_layers_in_outputs_final_states_and_gradients(
    lengths: list[int], extra_padding: int, layers: int, cell: Cell, bidirectional: bool, seed: int
) -> None:
    torch.manual_seed(seed)
    E, H = 5, 7
    lengths_B = torch.tensor([*lengths, 1])
    T, B = int(lengths_B.max()) + extra_padding, len(lengths_B)
    encoder = Encoder(E, H, layers, 0.0, cell, bidirectional)
    reference = reference_for(encoder, E, H, layers)
    x_TBE = torch.randn(T, B, E, requires_grad=True)
    y_TBE = x_TBE.detach().clone().requires_grad_()

    ours = encoder(x_TBE, lengths_B)
    theirs = run_packed(reference, y_TBE, lengths_B)
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, other, atol=1e-5, rtol=0)

    seen = [torch.randn_like(each) for each in theirs]
    sum((a * b).sum() for a, b in zip(ours, seen, strict=True)).backward()
    sum((a * b).sum() for a, b in zip(theirs, seen, strict=True)).backward()
    torch.testing.assert_close(x_TBE.grad, y_TBE.grad, atol=1e-5, rtol=1e-5)
    expected = {name: p.grad for name, p in reference.named_parameters()}
    for stack, suffix in ((encoder.left_to_right, ""), (encoder.right_to_left, "_reverse")):
        for layer, one in enumerate(stack):
            for name, parameter in one.named_parameters():
                other = expected[name.replace("_l0", f"_l{layer}") + suffix]
                torch.testing.assert_close(parameter.grad, other, atol=1e-5, rtol=1e-5)


def test_one_step_agrees_with_the_equations() -> None:
    torch.manual_seed(0)
    encoder = Encoder(input_size=3, hidden_size=4, layers=1, dropout=0.0)
    x_BE = torch.randn(2, 3)

    def cell(lstm: nn.Module) -> Tensor:
        w = dict(lstm.named_parameters())
        gates = x_BE @ w["weight_ih_l0"].T + w["bias_ih_l0"] + w["bias_hh_l0"]
        i, f, g, o = gates.chunk(4, dim=1)
        c = torch.sigmoid(f) * 0 + torch.sigmoid(i) * torch.tanh(g)
        return torch.sigmoid(o) * torch.tanh(c)

    _, final_BH = encoder(x_BE.unsqueeze(0), torch.tensor([1, 1]))
    expected = torch.cat([cell(encoder.left_to_right[0]), cell(encoder.right_to_left[0])], dim=1)
    torch.testing.assert_close(final_BH, expected, atol=1e-6, rtol=0)


def test_two_steps_agree_with_the_equations() -> None:
    torch.manual_seed(1)
    encoder = Encoder(input_size=3, hidden_size=4, layers=1, dropout=0.0)
    x_TBE = torch.randn(2, 1, 3)
    w = dict(encoder.left_to_right[0].named_parameters())
    h, c = torch.zeros(1, 4), torch.zeros(1, 4)
    for x_BE in x_TBE:
        gates = x_BE @ w["weight_ih_l0"].T + w["bias_ih_l0"]
        gates = gates + h @ w["weight_hh_l0"].T + w["bias_hh_l0"]
        i, f, g, o = gates.chunk(4, dim=1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        h = torch.sigmoid(o) * torch.tanh(c)
    _, final_BH = encoder(x_TBE, torch.tensor([2]))
    torch.testing.assert_close(final_BH[:, :4], h, atol=1e-6, rtol=0)


def test_padding_is_not_read() -> None:
    torch.manual_seed(0)
    encoder = Encoder(input_size=3, hidden_size=4, layers=2, dropout=0.0)
    x_TBE, lengths_B = torch.randn(5, 2, 3), torch.tensor([5, 2])
    _, expected = encoder(x_TBE, lengths_B)
    x_TBE[2:, 1] = 1e6
    outputs, final = encoder(x_TBE, lengths_B)
    torch.testing.assert_close(final, expected)
    assert (outputs[2:, 1] == 0).all()


@given(st.lists(st.integers(1, 9), min_size=1, max_size=5))
def test_reversal_is_within_each_length_and_its_own_inverse(lengths: list[int]) -> None:
    lengths_B, T = torch.tensor(lengths), max(lengths)
    x_TB1 = torch.arange(T * len(lengths), dtype=torch.float32).view(T, -1, 1)
    index_N = reversal_index(lengths_B, T)
    once = reverse(x_TB1, index_N)
    for column, length in enumerate(lengths):
        assert torch.equal(once[:length, column], x_TB1[:length, column].flip(0))
        assert torch.equal(once[length:, column], x_TB1[length:, column])
    assert torch.equal(reverse(once, index_N), x_TB1)


def test_forget_bias_is_one_and_recurrent_gates_are_orthogonal() -> None:
    encoder = Encoder(input_size=3, hidden_size=4, layers=2, dropout=0.0)
    for lstm in (*encoder.left_to_right, *encoder.right_to_left):
        w = dict(lstm.named_parameters())
        bias = w["bias_ih_l0"] + w["bias_hh_l0"]
        assert bias.tolist() == [0.0] * 4 + [1.0] * 4 + [0.0] * 8
        for gate in w["weight_hh_l0"].chunk(4):
            torch.testing.assert_close(gate @ gate.T, torch.eye(4), atol=1e-6, rtol=0)


@pytest.mark.parametrize("cell", Cell)
def test_recurrent_weights_of_every_cell_are_orthogonal(cell: Cell) -> None:
    encoder = Encoder(3, 4, 2, 0.0, cell, forget_bias=-2.0)
    for layer in (*encoder.left_to_right, *encoder.right_to_left):
        for gate in layer.weight_hh_l0.split(4):
            torch.testing.assert_close(gate @ gate.T, torch.eye(4), atol=1e-6, rtol=0)
        bias = (layer.bias_ih_l0 + layer.bias_hh_l0).tolist()
        blocks = {Cell.lstm: [0.0, -2.0, 0.0, 0.0], Cell.gru: [0.0] * 3, Cell.rnn: [0.0]}[cell]
        assert bias == [value for value in blocks for _ in range(4)]


def test_dropout_mask_is_shared_over_time_and_off_in_evaluation() -> None:
    torch.manual_seed(0)
    dropout, x_TBE = SharedDropout(0.5), torch.ones(6, 50, 40)
    dropped = dropout(x_TBE)
    assert torch.equal(dropped, dropped[:1].expand_as(dropped))
    assert dropped.unique().tolist() == [0.0, 2.0]
    assert dropped.mean().item() == pytest.approx(1.0, abs=0.1)
    assert torch.equal(dropout.eval()(x_TBE), x_TBE)


def test_the_final_state_feels_tokens_far_away() -> None:
    def share_of_gradient(encoder: Encoder, distance: int) -> float:
        """Gradient norm of the final left-to-right state, that far from the end, by its last."""
        torch.manual_seed(0)
        x_TBE = (0.1 * torch.randn(200, 8, 50)).requires_grad_()
        _, final_BH = encoder(x_TBE, torch.full((8,), 200))
        (gradient,) = torch.autograd.grad((final_BH[:, :64] * torch.randn(8, 64)).sum(), x_TBE)
        return (gradient[-1 - distance].norm() / gradient[-1].norm()).item()

    torch.manual_seed(0)
    encoder = Encoder(input_size=50, hidden_size=64, layers=2, dropout=0.0)
    assert share_of_gradient(encoder, 100) > 0.01
    for lstm in (*encoder.left_to_right, *encoder.right_to_left):
        lstm.reset_parameters()  # what nn.LSTM starts from
    assert share_of_gradient(encoder, 100) < 1e-12
