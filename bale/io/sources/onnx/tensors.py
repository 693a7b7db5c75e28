"""Tensors of ONNX models: what a TensorProto says, and where its numbers lie."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import lru_cache

from bale.io.sources.onnx.wire import BYTES, VARINT, Wire
from bale.spec import DTYPES, TensorSpec

_DIMS, _TYPE, _FLOATS, _NAME, _RAW, _DOUBLES, _LOCATION = 1, 2, 4, 8, 9, 10, 14
_VARINTS = (5, 7, 11)
_RANK = 64
_FLOAT, _DOUBLE = 1, 11
_DTYPES = {
    _FLOAT: "F32",
    2: "U8",
    3: "I8",
    4: "U16",
    5: "I16",
    6: "I32",
    7: "I64",
    9: "BOOL",
    10: "F16",
    _DOUBLE: "F64",
    12: "U32",
    13: "U64",
    14: "C64",
    15: "C128",
    16: "BF16",
    17: "F8_E4M3",
    18: "F8_E4M3FNUZ",
    19: "F8_E5M2",
    20: "F8_E5M2FNUZ",
    24: "F8_E8M0",
}
_PACKED = {21: ("UINT4", 4), 22: ("INT4", 4), 23: ("FLOAT4E2M1", 4), 25: ("UINT2", 2), 26: ("INT2", 2)}
"""Names and bits of types of which several elements are in a byte."""


@dataclass
class Tensor:
    """A TensorProto; `source` is the field that holds its numbers, if they lie side by side, from `start` on.

    `name` is what nodes call it, `label` is like no other's.
    """

    name: str
    label: str = ""
    type: int = 0
    dims: list[int] = field(default_factory=list)
    source: int = 0
    start: int = 0
    size: int = 0
    varints: int = 0
    is_external: bool = False

    @property
    def packed(self) -> str:
        """The name of its type, where several elements are in a byte; else empty."""
        return _PACKED.get(self.type, ("", 0))[0]

    @property
    def spec(self) -> TensorSpec | None:
        """Dtype and shape of its unit; None where the numbers are not there, or as many as it says."""
        if not self.source or len(self.dims) > _RANK or max(self.dims, default=0) >= 1 << 62:
            return None
        elements = math.prod(self.dims)
        if self.packed:
            bits = _PACKED[self.type][1]
            found = TensorSpec("U8", (self.size,)) if -(-elements * bits // 8) == self.size else None
            return found if self.source == _RAW else None
        if self.source != _RAW and (self.source, self.type) not in ((_FLOATS, _FLOAT), (_DOUBLES, _DOUBLE)):
            return None
        dtype = _DTYPES.get(self.type)
        if dtype is None or elements * DTYPES[dtype].bits != 8 * self.size:
            return None
        return _spec(dtype, tuple(self.dims))


@lru_cache(maxsize=1024)
def _spec(dtype: str, shape: tuple[int, ...]) -> TensorSpec:
    """The same spec for equal tensors, of which a model has many."""
    return TensorSpec(dtype, shape)


def read_tensor(wire: Wire, end: int, name: str) -> Tensor:
    """What the message up to `end` says; `name` is for one without its own."""
    found, cursor = Tensor(name), wire.cursor
    for number, kind, value in wire.fields(end):
        if kind == VARINT:
            if number == _DIMS:
                found.dims.append(value)
            elif number == _TYPE:
                found.type = value
            elif number == _LOCATION:
                found.is_external = value == 1
        elif kind == BYTES:
            if number == _NAME and value > cursor.at:
                found.name = wire.text(value)
            elif number in (_RAW, _FLOATS, _DOUBLES):
                found.source, found.start, found.size = number, cursor.at, value - cursor.at
            elif number in _VARINTS:
                found.varints += value - cursor.at
            elif number == _DIMS:
                while cursor.at < value and len(found.dims) <= _RANK:
                    found.dims.append(wire.varint(value))
    return found
