"""Tensors of ONNX models: what a TensorProto says, and where its numbers lie."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import PurePosixPath

from bale.io.sources.onnx.wire import BYTES, VARINT, Wire
from bale.spec import TensorSpec, shared_spec

_DIMS, _TYPE, _FLOATS, _NAME, _RAW, _DOUBLES, _EXTERNAL, _LOCATION = 1, 2, 4, 8, 9, 10, 13, 14
_VARINTS = (5, 7, 11)
_KEY, _VALUE = 1, 2  # of an entry on external data
_ENTRIES, _DIGITS = 8, 19
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

    `name` is what nodes call it, `label` is like no other's. `external` says where the numbers are in another file.
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
    external: dict[str, str] = field(default_factory=dict)

    @property
    def packed(self) -> str:
        """The name of its type, where several elements are in a byte; else empty."""
        return _PACKED.get(self.type, ("", 0))[0]

    @property
    def spec(self) -> TensorSpec | None:
        """Dtype and shape of its unit; None where the numbers are not there, or as many as it says."""
        is_there = self.source == _RAW or (self.source, self.type) in ((_FLOATS, _FLOAT), (_DOUBLES, _DOUBLE))
        found = self._spec if is_there and not (self.packed and self.source != _RAW) else None
        return found if found is not None and found.nbytes == self.size else None

    @property
    def location(self) -> str:
        """The path of the file that its numbers are in; empty where that is this one."""
        return self.external.get("location", "") if self.is_external else ""

    def elsewhere(self) -> tuple[TensorSpec, int] | None:
        """The same in another file, and the offset there; None where that makes no sense."""
        start, size = self.external.get("offset", "0"), self.external.get("length")
        found = self._spec
        if found is None or not _is_number(start) or size not in (None, str(found.nbytes)):
            return None
        return found, int(start)

    @property
    def _spec(self) -> TensorSpec | None:
        """What its type and dimensions say."""
        if len(self.dims) > _RANK or max(self.dims, default=0) >= 1 << 62:
            return None
        if self.packed:
            return _spec("U8", (-(-math.prod(self.dims) * _PACKED[self.type][1] // 8),))
        dtype = _DTYPES.get(self.type)
        return None if dtype is None else _spec(dtype, tuple(self.dims))


@lru_cache(maxsize=1024)
def _spec(dtype: str, shape: tuple[int, ...]) -> TensorSpec:
    """The same spec for equal tensors, of which a model has many."""
    return shared_spec(dtype, shape)


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
            elif number == _EXTERNAL and len(found.external) < _ENTRIES:
                key, text = _entry(wire, value)
                found.external[key] = text
            elif number == _DIMS:
                while cursor.at < value and len(found.dims) <= _RANK:
                    found.dims.append(wire.varint(value))
    return found


def is_beside(location: str) -> bool:
    """Whether the path of a file with data is that of one beside its model."""
    return len(PurePosixPath(location).parts) == 1 and location != ".."


def _entry(wire: Wire, end: int) -> tuple[str, str]:
    """A key and its value."""
    pair = {number: wire.text(stop) for number, kind, stop in wire.fields(end) if kind == BYTES}
    return pair.get(_KEY, ""), pair.get(_VALUE, "")


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) < _DIGITS
