"""The classifier as an ONNX graph, node by node.

ONNX has recurrent layers that read every text of a batch within its own length, in both
directions, as `encoder.py` does; tracing PyTorch's would unroll them over time. An n-gram is looked
up in a hash table, ONNX-ML's `LabelEncoder`.

Shapes: T time, B batch, V vocabulary, D directions, G gates times H, otherwise as in
`classifier.py`, `encoder.py` and `ngrams.py`.
"""

from collections.abc import Mapping, Sequence
from itertools import count
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import ArrayLike
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from sentiment.config import Pooling
from sentiment.model.classifier import Classifier
from sentiment.model.ngrams import NO_NGRAM, NGramFeatures

OPSETS = {"": 18, "ai.onnx.ml": 4}
IR_VERSION = 10  # of the file; onnxruntime 1.18 and newer read it
LAYERS: dict[str, tuple[str, tuple[int, ...], dict[str, int]]] = {
    "LSTM": ("LSTM", (0, 3, 1, 2), {}),
    "GRU": ("GRU", (1, 0, 2), {"linear_before_reset": 1}),
    "RNN_TANH": ("RNN", (0,), {}),
}
"""Of each mode of `nn.RNNBase` the operator, PyTorch's gates in its order, and its attributes."""


class _Graph:
    """Nodes and constants in the order in which they are added."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self._numbers = count()

    def constant(self, value: ArrayLike | Tensor) -> str:
        """Add a constant; its name."""
        name = f"constant_{next(self._numbers)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value, order="C"), name))
        return name

    def add(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """Add a node; the name of its output."""
        return self.add_several(operator, *inputs, outputs=1, **attributes)[0]

    def add_several(
        self, operator: str, *inputs: str, outputs: int, **attributes: Any
    ) -> list[str]:
        """Add a node; the names of its outputs."""
        names = [f"{operator}_{next(self._numbers)}" for _ in range(outputs)]
        self.nodes.append(helper.make_node(operator, inputs, names, **attributes))
        return names


def onnx_model(model: Classifier, unknown_id: int, metadata: Mapping[str, str]) -> onnx.ModelProto:
    """Build the graph of a trained classifier.

    Its inputs are int64 `ids [batch, time]` and `lengths [batch]`, from 0 to time; its outputs are
    float32 `logit [batch]` and `probability [batch]`. What stands past a length is not read.

    Args:
        model: on the CPU.
        unknown_id: what a text of no tokens is read as.
        metadata: strings to carry along.
    """
    graph = _Graph()
    zero, one, axis_0, axis_1 = (graph.constant(np.array(v)) for v in (0, 1, [0], [1]))
    unknown = graph.constant(np.array(unknown_id))

    # A step more, as a text may have none.
    ids_TB = graph.add("Transpose", "ids", perm=[1, 0])
    ids_TB = graph.add("Pad", ids_TB, graph.constant(np.array([0, 0, 1, 0])), unknown)
    time = graph.add("Squeeze", graph.add("Shape", ids_TB, start=0, end=1), axis_0)
    time_T1 = graph.add("Range", zero, time, one)
    time_T1 = graph.add("Unsqueeze", time_T1, axis_1)
    ids_TB = graph.add("Where", graph.add("Less", time_T1, "lengths"), ids_TB, unknown)
    lengths_B = graph.add("Max", "lengths", one)

    embedding_VE = graph.constant(model.embedding.weight.detach())
    x_TBE = graph.add("Gather", embedding_VE, ids_TB)
    if hasattr(model, "ngrams"):
        features = _ngram_features(graph, model.ngrams, ids_TB)
        x_TBE = graph.add("Concat", x_TBE, *features, axis=2)

    final_DBH = ""
    steps_B = graph.add("Cast", lengths_B, to=TensorProto.INT32)
    for directions in zip(*model.encoder.directions.values(), strict=True):
        x_TBE, final_DBH = _recurrent_layer(graph, directions, x_TBE, steps_B)

    is_real_TB = graph.add("Less", time_T1, lengths_B)
    is_real_TB1 = graph.add("Unsqueeze", is_real_TB, graph.constant(np.array([2])))
    pooled = [
        _pool(graph, model, pooling, x_TBE, final_DBH, lengths_B, is_real_TB1)
        for pooling in model.pooling
    ]
    logit_B1 = _linear(graph, model.output, graph.add("Concat", *pooled, axis=1))
    graph.nodes.append(helper.make_node("Squeeze", [logit_B1, axis_1], ["logit"]))
    graph.nodes.append(helper.make_node("Sigmoid", ["logit"], ["probability"]))
    return _finished(graph, metadata)


def _ngram_features(graph: _Graph, ngrams: NGramFeatures, ids_TB: str) -> list[str]:
    """Features `[T, B, C]` of the n-grams of each length, as `NGramFeatures` finds them."""
    size = graph.constant(np.array(ngrams.vocabulary_size))
    # A step down, and the last one off.
    shift, nothing = graph.constant(np.array([1, 0, -1, 0])), graph.constant(np.array(-1))
    found: list[str] = []
    place_TB = ""
    features_OSC = ngrams.features_OSC * ngrams.scale_OC.unsqueeze(1)
    for keys_S, features_SC in zip(ngrams.keys_OS, features_OSC, strict=True):
        key_TB = ids_TB
        if found:
            # After an unknown n-gram, at -1, the key is below 0, which is unknown too.
            prefix_TB = graph.add("Pad", place_TB, shift, nothing)
            key_TB = graph.add("Add", graph.add("Mul", prefix_TB, size), ids_TB)
        known = max(1, int((keys_S != NO_NGRAM).sum()))
        place_TB = graph.add(
            "LabelEncoder",
            key_TB,
            domain="ai.onnx.ml",
            keys_tensor=numpy_helper.from_array(keys_S[:known].numpy()),
            values_tensor=numpy_helper.from_array(np.arange(known)),
            default_tensor=numpy_helper.from_array(np.array([-1])),
        )
        # The place -1 is that of the last row.
        rows_SC = nn.functional.pad(features_SC[:known], (0, 0, 0, 1))
        found.append(graph.add("Gather", graph.constant(rows_SC), place_TB))
    return found


def _recurrent_layer(
    graph: _Graph, directions: Sequence[nn.Module], x_TBE: str, steps_B: str
) -> tuple[str, str]:
    """Outputs `[T, B, D * H]` and final states `[D, B, H]` of a layer."""
    first = directions[0]
    assert isinstance(first, nn.RNNBase)
    operator, order, attributes = LAYERS[first.mode]

    def stacked(*names: str) -> str:
        """The tensors of these names one after the other, of each direction, in ONNX's order."""
        return graph.constant(
            torch.stack(
                [
                    torch.cat([_reorder(getattr(d, name), order) for name in names])
                    for d in directions
                ]
            )
        )

    outputs_TDBH, final_DBH = graph.add_several(
        operator,
        x_TBE,
        stacked("weight_ih_l0"),
        stacked("weight_hh_l0"),
        stacked("bias_ih_l0", "bias_hh_l0"),
        steps_B,
        outputs=2,
        hidden_size=first.hidden_size,
        direction="bidirectional" if len(directions) == 2 else "forward",
        **attributes,
    )
    outputs_TBDH = graph.add("Transpose", outputs_TDBH, perm=[0, 2, 1, 3])
    return graph.add("Reshape", outputs_TBDH, graph.constant(np.array([0, 0, -1]))), final_DBH


def _pool(
    graph: _Graph,
    model: Classifier,
    pooling: Pooling,
    outputs_TBH: str,
    final_DBH: str,
    lengths_B: str,
    is_real_TB1: str,
) -> str:
    if pooling is Pooling.final:
        final_BDH = graph.add("Transpose", final_DBH, perm=[1, 0, 2])
        return graph.add("Reshape", final_BDH, graph.constant(np.array([0, -1])))
    over_time = graph.constant(np.array([0]))
    if pooling is Pooling.mean:
        outputs_TBH = graph.add("Where", is_real_TB1, outputs_TBH, _float(graph, 0))
        sum_BH = graph.add("ReduceSum", outputs_TBH, over_time, keepdims=0)
        lengths_B1 = graph.add("Unsqueeze", lengths_B, graph.constant(np.array([1])))
        return graph.add("Div", sum_BH, graph.add("Cast", lengths_B1, to=TensorProto.FLOAT))
    least = _float(graph, -np.inf)
    if pooling is Pooling.max:
        outputs_TBH = graph.add("Where", is_real_TB1, outputs_TBH, least)
        return graph.add("ReduceMax", outputs_TBH, over_time, keepdims=0)
    projected_TBH = graph.add("Tanh", _linear(graph, model.attention.projection, outputs_TBH))
    score_TB1 = _linear(graph, model.attention.score, projected_TBH)
    weight_TB1 = graph.add("Where", is_real_TB1, score_TB1, least)
    weighted_TBH = graph.add("Mul", graph.add("Softmax", weight_TB1, axis=0), outputs_TBH)
    return graph.add("ReduceSum", weighted_TBH, over_time, keepdims=0)


def _reorder(weights_G: Tensor, order: Sequence[int]) -> Tensor:
    gates = weights_G.detach().chunk(len(order))
    return torch.cat([gates[gate] for gate in order])


def _linear(graph: _Graph, linear: nn.Linear, x: str) -> str:
    product = graph.add("MatMul", x, graph.constant(linear.weight.detach().T))
    if linear.bias is None:
        return product
    return graph.add("Add", product, graph.constant(linear.bias.detach()))


def _float(graph: _Graph, value: float) -> str:
    return graph.constant(np.array(value, np.float32))


def _finished(graph: _Graph, metadata: Mapping[str, str]) -> onnx.ModelProto:
    def described(name: str, kind: int, *shape: str) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, kind, shape)

    inputs = [
        described("ids", TensorProto.INT64, "batch", "time"),
        described("lengths", TensorProto.INT64, "batch"),
    ]
    outputs = [described(name, TensorProto.FLOAT, "batch") for name in ("logit", "probability")]
    made = helper.make_model(
        helper.make_graph(graph.nodes, "sentiment", inputs, outputs, graph.constants),
        producer_name="sentiment",
        opset_imports=[helper.make_opsetid(domain, n) for domain, n in OPSETS.items()],
        ir_version=IR_VERSION,
    )
    helper.set_model_props(made, dict(metadata))
    onnx.checker.check_model(made, full_check=True)
    return made
