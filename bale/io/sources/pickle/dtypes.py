"""The dtypes of numpy, as pickles and other containers of its arrays write them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from bale.io.sources.pickle.reader import Global, Object
from bale.spec import DTYPES

_HAS_OBJECT = 0x01  # a flag of numpy's
_LETTERS = {
    "b1": "BOOL",
    "i1": "I8",
    "i2": "I16",
    "i4": "I32",
    "i8": "I64",
    "u1": "U8",
    "u2": "U16",
    "u4": "U32",
    "u8": "U64",
    "f2": "F16",
    "f4": "F32",
    "f8": "F64",
    "c8": "C64",
    "c16": "C128",
}
BY_NAME = {
    "bool": "BOOL",
    "int8": "I8",
    "int16": "I16",
    "int32": "I32",
    "int64": "I64",
    "uint8": "U8",
    "uint16": "U16",
    "uint32": "U32",
    "uint64": "U64",
    "float16": "F16",
    "float32": "F32",
    "float64": "F64",
    "complex64": "C64",
    "complex128": "C128",
    "bfloat16": "BF16",
    "float8_e4m3fn": "F8_E4M3",
    "float8_e5m2": "F8_E5M2",
    "float8_e4m3fnuz": "F8_E4M3FNUZ",
    "float8_e5m2fnuz": "F8_E5M2FNUZ",
    "float8_e8m0fnu": "F8_E8M0",
}
"""bale's names of numpy's dtypes, and of those that ml_dtypes adds."""


@dataclass(frozen=True)
class Dtype:
    """What a pickle says of a dtype.

    Attributes
    ----------
    code : str
        Kind and bytes, such as ``f4`` or ``V56``; the name of one that numpy does not have itself.
    swapped : bool
        Whether its elements are big-endian.
    has_object : bool
        Whether elements are Python objects, or hold some.
    """

    code: str
    swapped: bool = False
    has_object: bool = False

    @property
    def name(self) -> str | None:
        """Bale's name; None for records, texts, dates and others whose elements are mere bytes."""
        return _LETTERS.get(self.code) or BY_NAME.get(self.code)

    @property
    def width(self) -> int | None:
        """Bytes of an element, if they are known."""
        digits = self.code[1:]
        if digits.isdecimal() and len(digits) < 19:
            return int(digits) * (4 if self.code[0] == "U" else 1)
        return DTYPES[self.name].bits // 8 if self.name else None


def dtype_of(node: Any) -> Dtype | None:
    """What the record of a dtype says; None for what is no dtype, or one that cannot be told."""
    match node:
        case Object(cls=Global(module="numpy", name="dtype"), args=(str() as code, *_)):
            pass
        case Object(cls=Global(module="numpy", name="dtype"), args=(Global(module="ml_dtypes", name=code), *_)):
            pass
        case _:
            return None
    match node.state:
        case (_, str() as order, _, _, _, _, _, int() as flags, *_):
            return Dtype(code, order == ">", bool(flags & _HAS_OBJECT) or code.startswith("O"))
    return Dtype(code, has_object=code.startswith("O"))
