"""ONNX models, of any version of the IR: the weights that lie in the file itself.

A model is a protocol buffer (`bale.io.sources.onnx.wire`) without a magic number: it is recognized by its first fields,
the IR's version, then texts and the graph, which is how the libraries order them. Numbers are little-endian and
not aligned.

Units are the initializers of the graph and the tensors of its nodes (of `Constant`, named by the output), also in the
graphs within `If`, `Loop` and `Scan`, if their numbers lie side by side: `raw_data`, and `float_data` and `double_data`
packed. Those of 4 and 2 bits are units of bytes. What operators of quantized models take (codes, scales, zero points)
is never lossy. Not followed: numbers in varints, texts, sparse tensors, functions, training graphs, and data in other
files, which are files of their own for bale.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from operator import attrgetter
from pathlib import Path

from bale.io.checkpoint import QUANTIZED, Checkpoint
from bale.io.faults import Malformed, Unsupported, printable
from bale.io.sources.onnx.tensors import Tensor, read_tensor
from bale.io.sources.onnx.wire import BYTES, Wire
from bale.io.sources.storages import Names
from bale.io.sources.unnamed import Unnamed, listed, unnamed_notes
from bale.io.storage.bytes import ByteSource
from bale.notes import Note, many
from bale.spec import Unit, View

_GRAPH = 7  # of a model
_NODE, _INITIALIZER = 1, 5  # of a graph
_INPUT, _OUTPUT, _OPERATOR, _ATTRIBUTE = 1, 2, 4, 5  # of a node
_TENSOR, _SUBGRAPH = 5, 6  # of an attribute
_DEPTH = 8
_ORDINARY = 400
"""Bytes that a node or the entry of a tensor takes, about."""

_QUANTIZED = ("DequantizeLinear", "MatMulNBits", "MatMulBnb4", "GatherBlockQuantized", "MatMulInteger", "ConvInteger")


def read_onnx(path: Path, source: ByteSource) -> Checkpoint:
    """Each tensor is a unit; the graph is the skeleton."""
    try:
        return _read(path, source)
    except Malformed as problem:
        if path.suffix.lower() == ".onnx":
            raise
        raise Unsupported(f"content that begins as an ONNX model does and is none: {problem}") from None


def _read(path: Path, source: ByteSource) -> Checkpoint:
    model = _Model(Wire(source))
    wire = model.wire
    for number, kind, end in wire.fields(source.size):
        if number == _GRAPH and kind == BYTES:
            model.read_graph(end, 0)
    units, unread = list[Unit](), list[Tensor]()
    for tensor in model.tensors:
        spec = tensor.spec
        if spec is None:
            unread.append(tensor)
        else:
            units.append(Unit(tensor.start, spec, (View(tensor.label, spec),), model.reason(tensor)))
    units.sort(key=attrgetter("start", "end"))
    payload = source.size - sum(unit.spec.nbytes for unit in units)
    notes = (*unnamed_notes(source.size, model.unnamed(payload, unread)), *model.external())
    return Checkpoint(path, "onnx", source.size, tuple(units), notes)


class _Model:
    """What is found in the graphs of a model: tensors, and the names of those that quantized operators take."""

    def __init__(self, wire: Wire) -> None:
        self.wire, self.tensors, self._quantized, self._nodes = wire, list[Tensor](), dict[str, str](), 0
        self._names = Names()

    def read_graph(self, end: int, depth: int) -> None:
        """Walk over a graph, and over those within it that are no deeper than such graphs are."""
        for number, kind, stop in self.wire.fields(end):
            if kind == BYTES and number == _INITIALIZER:
                self._read_tensor(stop, "")
            elif kind == BYTES and number == _NODE:
                self._read_node(stop, depth)

    def _read_node(self, end: int, depth: int) -> None:
        inputs, output, operator = list[str](), "constant", ""
        self._nodes += 1
        for number, kind, stop in self.wire.fields(end):
            if kind != BYTES:
                continue
            if number == _INPUT:
                inputs.append(self.wire.text(stop))
            elif number == _OUTPUT:
                output = self.wire.text(stop)
            elif number == _OPERATOR:
                operator = self.wire.text(stop)
            elif number == _ATTRIBUTE:
                self._read_attribute(stop, output, depth)
        if operator in _QUANTIZED or operator.startswith("QLinear"):
            self._quantized |= dict.fromkeys(inputs, operator)
        elif operator == "QuantizeLinear":
            self._quantized |= dict.fromkeys(inputs[1:], operator)

    def _read_attribute(self, end: int, name: str, depth: int) -> None:
        for number, kind, stop in self.wire.fields(end):
            if kind == BYTES and number == _TENSOR:
                self._read_tensor(stop, name)
            elif kind == BYTES and number == _SUBGRAPH and depth < _DEPTH:
                self.read_graph(stop, depth + 1)

    def _read_tensor(self, end: int, name: str) -> None:
        tensor = read_tensor(self.wire, end, name)
        tensor.label = self._names.unique(tensor.name)
        self.tensors.append(tensor)

    def reason(self, tensor: Tensor) -> str | None:
        """Why a tensor must never be lossy, if there is a reason."""
        found = tensor.packed or self._quantized.get(tensor.name)
        return f"{QUANTIZED}{printable(found)}" if found else None

    def unnamed(self, left: int, unread: Sequence[Tensor]) -> Iterator[Unnamed]:
        """Bytes in no unit, of `left` in all, some in tensors that are not read."""
        kinds = {
            "numbers as varints": [(each, each.varints) for each in unread if each.varints],
            "tensors that are not read": [(each, each.size) for each in unread if each.size],
        }
        for what, found in kinds.items():
            size = sum(size for _, size in found)
            left -= size
            found.sort(key=lambda each: -each[1])
            yield Unnamed(size, what + listed([printable(each.name) for each, _ in found]))
        yield Unnamed(left - _ORDINARY * (self._nodes + len(self.tensors)), "its graph")

    def external(self) -> Iterator[Note]:
        """A note on tensors whose data is elsewhere."""
        found = [printable(each.name) for each in self.tensors if each.is_external]
        if found:
            yield Note("external", f"{many(len(found), 'tensor')} with data in another file, not here{listed(found)}")
