"""The classifier as a program of `torch.export`, which torch alone loads and runs.

Shapes: T time, B batch, E input width, H hidden size of one direction.
"""

import copy
import io
import json
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch._higher_order_ops.scan import scan
from torch.export import Dim, export, save
from torch.fx import GraphModule

from sentiment.model.classifier import Classifier

METADATA = "metadata.json"
CELLS: dict[str, Callable[..., Any]] = {
    "LSTM": torch.lstm_cell,
    "GRU": torch.gru_cell,
    "RNN_TANH": torch.rnn_tanh_cell,
}
"""Of each mode of `nn.RNNBase` what computes a step."""


class _Scanned(nn.Module):
    """A one-directional layer step by step: PyTorch's own would be traced for a single length."""

    def __init__(self, layer: nn.RNNBase) -> None:
        super().__init__()
        self.mode, self.hidden_size = layer.mode, layer.hidden_size
        for name, weight in layer.named_parameters():
            self.register_buffer(name, weight.detach())

    def forward(self, x_TBE: Tensor) -> tuple[Tensor, None]:
        """Outputs `[T, B, H]`."""
        weights = (self.weight_ih_l0, self.weight_hh_l0, self.bias_ih_l0, self.bias_hh_l0)

        def step(state: tuple[Tensor, ...], x_BE: Tensor) -> tuple[tuple[Tensor, ...], Tensor]:
            before = state if self.mode == "LSTM" else state[0]
            after = CELLS[self.mode](x_BE, before, *weights)
            after = after if self.mode == "LSTM" else (after,)
            return after, after[0].clone()

        zeros_BH = x_TBE.new_zeros(x_TBE.shape[1], self.hidden_size)
        begin = (zeros_BH, zeros_BH.clone()) if self.mode == "LSTM" else (zeros_BH,)
        _, outputs_TBH = scan(step, begin, x_TBE)
        return outputs_TBH, None


class _Program(nn.Module):
    """A trained classifier with the inputs and outputs of `onnx_model`."""

    def __init__(self, model: Classifier, unknown_id: int) -> None:
        super().__init__()
        self.model, self.unknown_id = copy.deepcopy(model).eval().requires_grad_(False), unknown_id
        for layers in self.model.encoder.directions.values():
            for number, layer in enumerate(layers):
                assert isinstance(layer, nn.RNNBase)
                layers[number] = _Scanned(layer)

    def forward(self, ids: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        # A step more, as a text may have none.
        ids_TB = nn.functional.pad(ids.T, (0, 0, 0, 1))
        time_T1 = torch.arange(ids_TB.shape[0], device=ids.device).unsqueeze(1)
        ids_TB = torch.where(time_T1 < lengths, ids_TB, self.unknown_id)
        logits_B = self.model(ids_TB, lengths.clamp(min=1))
        return logits_B, logits_B.sigmoid()


def torch_program(model: Classifier, unknown_id: int, metadata: Mapping[str, str]) -> bytes:
    """Export a trained classifier; the contents of a `.pt2` file.

    Its inputs are int64 `ids [batch, time]` and `lengths [batch]`, from 0 to time; its outputs are
    float32 logits and probabilities, `[batch]` each. What stands past a length is not read.

    Args:
        model: on the CPU.
        unknown_id: what a text of no tokens is read as.
        metadata: strings to carry along, in the extra file `metadata.json`.
    """
    program = _Program(model, unknown_id)
    example = (torch.full((2, 3), unknown_id), torch.tensor([3, 2]))
    shapes = {"ids": {0: Dim.DYNAMIC, 1: Dim.DYNAMIC}, "lengths": {0: Dim.DYNAMIC}}
    with torch.no_grad():
        exported = export(program, example, dynamic_shapes=shapes)
    # Where in which file of this machine each node comes from.
    for module in exported.graph_module.modules():
        for node in module.graph.nodes if isinstance(module, GraphModule) else ():
            node.meta.pop("stack_trace", None)
    file = io.BytesIO()
    save(exported, file, extra_files={METADATA: json.dumps(dict(metadata))})
    return file.getvalue()
