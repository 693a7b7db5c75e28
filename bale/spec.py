"""What a tensor is before any of its data is read: name of the dtype, shape, sizes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

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
