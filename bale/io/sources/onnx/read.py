"""ONNX models, of any version of the IR: the weights that lie in the file itself.

A model is a protocol buffer (`bale.io.sources.onnx.wire`) without a magic number: it is recognized by its first fields,
the IR's version, then texts and the graph, which is how the libraries order them. Numbers are little-endian and
not aligned.

Units are the initializers of the graph and the tensors of its nodes (of `Constant`, named by the output), also in the
graphs within `If`, `Loop` and `Scan`, if their numbers lie side by side: `raw_data`, and `float_data` and `double_data`
packed. Those of 4 and 2 bits are units of bytes. What operators of quantized models take (codes, scales, zero points)
is never lossy. Not followed: numbers in varints, texts, sparse tensors, functions, training graphs. Data in other files
is read as a source of its own (`bale.io.sources.onnx.data`).
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from operator import attrgetter
from pathlib import Path

from bale.io.checkpoint import Checkpoint
from bale.io.faults import Malformed, Unsupported, printable
from bale.io.sources.onnx.model import Model
from bale.io.sources.onnx.tensors import Tensor, is_beside
from bale.io.sources.unnamed import Unnamed, listed, unnamed_notes
from bale.io.storage.bytes import ByteSource
from bale.notes import Note, many
from bale.spec import Unit, View

_ORDINARY = 400
"""Bytes that a node or the entry of a tensor takes, about."""


def read_onnx(path: Path, source: ByteSource) -> Checkpoint:
    """Each tensor is a unit; the graph is the skeleton."""
    try:
        return _read(path, source)
    except Malformed as problem:
        if path.suffix.lower() == ".onnx":
            raise
        raise Unsupported(f"content that begins as an ONNX model does and is none: {problem}") from None


def _read(path: Path, source: ByteSource) -> Checkpoint:
    model = Model(source)
    units, unread = list[Unit](), list[Tensor]()
    for tensor in model.tensors:
        spec = tensor.spec
        if spec is None:
            unread.append(tensor)
        else:
            units.append(Unit(tensor.start, spec, (View(tensor.label, spec),), model.reason(tensor)))
    units.sort(key=attrgetter("start", "end"))
    left = source.size - sum(unit.spec.nbytes for unit in units) - _ORDINARY * (model.nodes + len(model.tensors))
    notes = (*unnamed_notes(source.size, _unnamed(left, unread)), *_external(path.parent, model.tensors))
    return Checkpoint(path, "onnx", source.size, tuple(units), notes)


def _unnamed(left: int, unread: Sequence[Tensor]) -> Iterator[Unnamed]:
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
    yield Unnamed(left, "its graph")


def _external(folder: Path, tensors: Sequence[Tensor]) -> Iterator[Note]:
    """A note on tensors whose data is in a file that does not lie beside the model."""
    beside = {location: is_beside(location) and os.path.isfile(folder / location) for location in _locations(tensors)}
    found = [printable(each.name) for each in tensors if each.is_external and not beside[each.location]]
    if found:
        yield Note("external", f"{many(len(found), 'tensor')} with data in another file, not here{listed(found)}")


def _locations(tensors: Sequence[Tensor]) -> set[str]:
    return {each.location for each in tensors if each.is_external}
