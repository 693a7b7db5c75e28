"""Descriptions of tensors, known before any of their data is read: dtype, shape, and place in a file."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, NamedTuple

import numpy as np

CHUNK_LIMIT = 1 << 20
"""Elements of a chunk at the most; longer quantized tensors are coded in blocks."""

# Arrays are held in their storage bits: BF16 as uint16, 8-bit floats as uint8, packed types as bytes.
Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class Dtype:
    """One element type: its width and the numpy type that holds its bits.

    `kind` is ``"float"``, ``"int"``, ``"bool"`` or ``"complex"``. `packed` marks types below a byte: they are
    held as bytes, several elements to a byte. `portable` marks those that the safetensors format knows.
    """

    name: str
    bits: int
    kind: str
    storage: str
    portable: bool = True

    @property
    def packed(self) -> bool:
        """Whether several elements share a byte."""
        return self.bits < 8

    @property
    def of_numpy(self) -> bool:
        """Whether the numpy type that holds the bits is the type itself."""
        return self.kind != "float" or self.storage[1] == "f"


DTYPES: dict[str, Dtype] = {
    d.name: d
    for d in (
        Dtype("BOOL", 8, "bool", "bool"),
        Dtype("F4", 4, "float", "u1"),
        Dtype("F6_E2M3", 6, "float", "u1"),
        Dtype("F6_E3M2", 6, "float", "u1"),
        Dtype("U8", 8, "int", "u1"),
        Dtype("I8", 8, "int", "i1"),
        Dtype("F8_E5M2", 8, "float", "u1"),
        Dtype("F8_E4M3", 8, "float", "u1"),
        Dtype("F8_E8M0", 8, "float", "u1"),
        Dtype("F8_E4M3FNUZ", 8, "float", "u1"),
        Dtype("F8_E5M2FNUZ", 8, "float", "u1"),
        Dtype("I16", 16, "int", "<i2"),
        Dtype("U16", 16, "int", "<u2"),
        Dtype("F16", 16, "float", "<f2"),
        Dtype("BF16", 16, "float", "<u2"),
        Dtype("I32", 32, "int", "<i4"),
        Dtype("U32", 32, "int", "<u4"),
        Dtype("F32", 32, "float", "<f4"),
        Dtype("C64", 64, "complex", "<c8"),
        Dtype("F64", 64, "float", "<f8"),
        Dtype("I64", 64, "int", "<i8"),
        Dtype("U64", 64, "int", "<u8"),
        Dtype("C128", 128, "complex", "<c16", portable=False),
    )
}


@dataclass(frozen=True)
class TensorSpec:
    """Element type and shape of a tensor.

    Parameters
    ----------
    dtype : str
        A key of `DTYPES`, spelled as in a safetensors header.
    shape : tuple of int
        Dimensions, outermost first; ``()`` for a single value.
    """

    dtype: str
    shape: tuple[int, ...]

    @cached_property
    def elements(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def info(self) -> Dtype:
        """The row of `DTYPES`."""
        return DTYPES[self.dtype]

    @property
    def is_float(self) -> bool:
        """Whether the elements are real floating-point numbers."""
        return self.info.kind == "float"

    @cached_property
    def nbytes(self) -> int:
        """Bytes of the plain tensor."""
        return (self.elements * self.info.bits + 7) // 8

    @property
    def storage(self) -> np.dtype[Any]:
        """The numpy type that holds the elements' bits (bytes for packed types)."""
        return np.dtype(self.info.storage)

    @property
    def storage_shape(self) -> tuple[int, ...]:
        """Shape of the array that holds the bits: `shape`, or a run of bytes for packed types."""
        return (self.nbytes,) if self.info.packed else self.shape

    def __str__(self) -> str:
        return f"{self.dtype}[{','.join(map(str, self.shape))}]"


@lru_cache(maxsize=1024)
def shared_spec(dtype: str, shape: tuple[int, ...]) -> TensorSpec:
    """A spec, the same object for equal ones: a checkpoint has many tensors and few shapes."""
    return TensorSpec(dtype, shape)


class View(NamedTuple):
    """A tensor name and where its values lie within a unit.

    `offset` and `strides` count elements of the tensor's own dtype; `strides` is None for a tensor that is the whole
    unit, in the unit's order.
    """

    name: str
    spec: TensorSpec
    offset: int = 0
    strides: tuple[int, ...] | None = None

    @property
    def reach(self) -> int:
        """Bits from the start of the unit to the end of the tensor's last element."""
        if not self.spec.elements:
            return 0
        if self.strides is None:
            last = self.spec.elements - 1
        else:
            last = sum((size - 1) * stride for size, stride in zip(self.spec.shape, self.strides, strict=True))
        return (self.offset + last + 1) * self.spec.info.bits


class Unit(NamedTuple):
    """A range of the file that is coded as one: its spec has the dimensions in memory order.

    Without views it is payload that belongs to no tensor (a gap in a storage). `exact` is the reason why it must never
    be lossy, if there is one. `swapped` marks big-endian elements.
    """

    start: int
    spec: TensorSpec
    views: tuple[View, ...]
    exact: str | None = None
    swapped: bool = False

    @property
    def label(self) -> str:
        """Its name in messages: the first of its names."""
        return self.views[0].name if self.views else "payload between tensors"

    @property
    def end(self) -> int:
        """Offset of the first byte behind the unit."""
        return self.start + self.spec.nbytes
