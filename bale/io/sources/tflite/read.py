"""TensorFlow Lite models, version 3: the weights in their buffers.

A model is a FlatBuffer (`bale.io.sources.tflite.flatbuffer`) with ``TFL3`` at byte 4. Its tables used here, by the
numbers of their fields: the model has graphs (2) and buffers (4); a graph has tensors (0); a tensor a shape (0), a
type (1), the number of its buffer (2) and a name (3); a buffer its bytes (0), or in files above 2 GB where they lie (1)
and how many they are (2).

Each buffer that a tensor fills is a unit, with one view for each such tensor; those of 4 bits are bytes. Not
followed: texts, sparse tensors (by their size), metadata and weights of custom operators, which stay as they are.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from itertools import pairwise
from operator import attrgetter
from pathlib import Path

from bale.io.checkpoint import Checkpoint
from bale.io.faults import Unsupported
from bale.io.sources.storages import Names, Storage, Tensor, make_units
from bale.io.sources.tflite.flatbuffer import FlatBuffer
from bale.io.sources.unnamed import Unnamed, unnamed_notes
from bale.io.storage.bytes import ByteSource
from bale.spec import DTYPES, Unit, View, shared_spec

_GRAPHS, _BUFFERS = 2, 4  # of a model
_TENSORS = 0  # of a graph
_SHAPE, _TYPE, _BUFFER, _NAME = 0, 1, 2, 3  # of a tensor
_DATA, _OFFSET, _SIZE = 0, 1, 2  # of a buffer
_DTYPES = {
    0: "F32",
    1: "F16",
    2: "I32",
    3: "U8",
    4: "I64",
    6: "BOOL",
    7: "I16",
    8: "C64",
    9: "I8",
    10: "F64",
    11: "C128",
    12: "U64",
    15: "U32",
    16: "U16",
    18: "BF16",
}
_FOUR_BITS = 17
_LIMIT, _RANK = 250_000, 64
_ORDINARY = 400
"""Bytes that a tensor, its buffer and its operator take, about."""


def begins_as_tflite(head: bytes) -> bool:
    """Whether a file that begins with these bytes is a TensorFlow Lite model."""
    return head[4:8] == b"TFL3"


def read_tflite(path: Path, source: ByteSource) -> Checkpoint:
    """Each buffer of a tensor is a unit; all else is the skeleton."""
    buffer = FlatBuffer(source)
    model = buffer.target(0)
    buffer.taken.add(0, 8)
    ranges = _ranges(buffer, model)
    tensors = list(_tensors(buffer, model, ranges))
    units = _units(tensors, ranges)
    buffer.taken.refuse_within(units)
    left = source.size - sum(unit.spec.nbytes for unit in units) - _ORDINARY * len(tensors)
    notes = unnamed_notes(source.size, [Unnamed(left, "its graph, metadata, and buffers of no tensor")])
    return Checkpoint(path, "tflite", source.size, units, notes)


def _ranges(buffer: FlatBuffer, model: int) -> dict[str, Storage]:
    """The buffers that are not empty, by their numbers."""
    found = {}
    for number, table in enumerate(buffer.tables(model, _BUFFERS, _LIMIT)):
        start, size = buffer.vector(table, _DATA, 1)
        if not size and (offset := buffer.field(table, _OFFSET)) and (length := buffer.field(table, _SIZE)):
            start, size = buffer.u64(offset), buffer.u64(length)
        if size and start + size <= buffer.size:
            found[str(number)] = Storage(start, size)
    return found


def _tensors(buffer: FlatBuffer, model: int, ranges: dict[str, Storage]) -> Iterator[Tensor]:
    """The tensors that fill their buffers, of all graphs."""
    names, left = Names(), _LIMIT
    for graph in buffer.tables(model, _GRAPHS, _LIMIT):
        tables = buffer.tables(graph, _TENSORS, left)
        left -= len(tables)
        for table in tables:
            at = buffer.field(table, _BUFFER)
            key = str(buffer.u32(at)) if at else "0"
            found = _form(buffer, table, ranges[key].nbytes) if key in ranges else None
            if found is not None:
                dtype, shape = found
                strides = tuple([math.prod(shape[index + 1 :]) for index in range(len(shape))])
                yield Tensor(names.unique(buffer.text(table, _NAME)), key, dtype, 0, shape, strides)


def _form(buffer: FlatBuffer, table: int, size: int) -> tuple[str, tuple[int, ...]] | None:
    """Dtype and shape of a tensor of so many bytes; None for one that has more or fewer."""
    at = buffer.field(table, _TYPE)
    kind = buffer.u8(at) if at else 0
    start, rank = buffer.vector(table, _SHAPE, 4)
    if rank > _RANK:
        return None
    shape = struct.unpack(f"<{rank}I", buffer.bytes(start, 4 * rank))
    if kind == _FOUR_BITS:
        return ("U8", (size,)) if -(-math.prod(shape) // 2) == size else None
    dtype = _DTYPES.get(kind)
    if dtype is None or math.prod(shape) * DTYPES[dtype].bits != 8 * size:
        return None
    return dtype, shape


def _units(tensors: list[Tensor], ranges: dict[str, Storage]) -> tuple[Unit, ...]:
    """A unit for each buffer, most of which have one tensor."""
    members: dict[str, list[Tensor]] = {}
    for tensor in tensors:
        members.setdefault(tensor.storage, []).append(tensor)
    alone = {key: found for key, (found, *others) in members.items() if not others}
    shared = [tensor for tensor in tensors if tensor.storage not in alone]
    units = list(make_units({tensor.storage: ranges[tensor.storage] for tensor in shared}, shared))
    for key, tensor in alone.items():
        spec = shared_spec(tensor.dtype, tensor.shape)
        units.append(Unit(ranges[key].start, spec, (View(tensor.name, spec),)))
    units.sort(key=attrgetter("start", "end"))
    if any(after.start < before.end for before, after in pairwise(units)):
        raise Unsupported("a TensorFlow Lite model whose buffers overlap")
    return tuple(units)
