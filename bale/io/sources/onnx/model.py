"""The graphs of an ONNX model: its tensors, and which of them quantized operators take."""

from __future__ import annotations

from bale.io.checkpoint import QUANTIZED
from bale.io.faults import printable
from bale.io.sources.onnx.tensors import Tensor, read_tensor
from bale.io.sources.onnx.wire import BYTES, Wire
from bale.io.sources.storages import Names
from bale.io.storage.bytes import ByteSource

_GRAPH = 7  # of a model
_NODE, _INITIALIZER = 1, 5  # of a graph
_INPUT, _OUTPUT, _OPERATOR, _ATTRIBUTE = 1, 2, 4, 5  # of a node
_TENSOR, _SUBGRAPH = 5, 6  # of an attribute
_DEPTH = 8
_QUANTIZED = ("DequantizeLinear", "MatMulNBits", "MatMulBnb4", "GatherBlockQuantized", "MatMulInteger", "ConvInteger")


class Model:
    """What is found in the graphs of a model.

    Attributes
    ----------
    tensors : list of Tensor
        Initializers and constants, in the order of the file.
    nodes : int
        Nodes of all graphs.
    """

    def __init__(self, source: ByteSource) -> None:
        self.tensors, self.nodes = list[Tensor](), 0
        self._wire, self._quantized, self._names = Wire(source), dict[str, str](), Names()
        for number, kind, end in self._wire.fields(source.size):
            if number == _GRAPH and kind == BYTES:
                self._read_graph(end, 0)

    def _read_graph(self, end: int, depth: int) -> None:
        """Walk over a graph, and over those within it that are no deeper than such graphs are."""
        for number, kind, stop in self._wire.fields(end):
            if kind == BYTES and number == _INITIALIZER:
                self._read_tensor(stop, "")
            elif kind == BYTES and number == _NODE:
                self._read_node(stop, depth)

    def _read_node(self, end: int, depth: int) -> None:
        inputs, output, operator = list[str](), "constant", ""
        self.nodes += 1
        for number, kind, stop in self._wire.fields(end):
            if kind != BYTES:
                continue
            if number == _INPUT:
                inputs.append(self._wire.text(stop))
            elif number == _OUTPUT:
                output = self._wire.text(stop)
            elif number == _OPERATOR:
                operator = self._wire.text(stop)
            elif number == _ATTRIBUTE:
                self._read_attribute(stop, output, depth)
        if operator in _QUANTIZED or operator.startswith("QLinear"):
            self._quantized |= dict.fromkeys(inputs, operator)
        elif operator == "QuantizeLinear":
            self._quantized |= dict.fromkeys(inputs[1:], operator)

    def _read_attribute(self, end: int, name: str, depth: int) -> None:
        for number, kind, stop in self._wire.fields(end):
            if kind == BYTES and number == _TENSOR:
                self._read_tensor(stop, name)
            elif kind == BYTES and number == _SUBGRAPH and depth < _DEPTH:
                self._read_graph(stop, depth + 1)

    def _read_tensor(self, end: int, name: str) -> None:
        tensor = read_tensor(self._wire, end, name)
        tensor.label = self._names.unique(tensor.name)
        self.tensors.append(tensor)

    def reason(self, tensor: Tensor) -> str | None:
        """Why a tensor must never be lossy, if there is a reason."""
        found = tensor.packed or self._quantized.get(tensor.name)
        return f"{QUANTIZED}{printable(found)}" if found else None
