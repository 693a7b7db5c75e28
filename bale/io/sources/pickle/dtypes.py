"""Records of the dtypes of numpy, as pickles and other containers of its arrays write them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from bale.io.sources.dtypes import BY_CODE, BY_NAME
from bale.io.sources.pickle.reader import Global, Object
from bale.spec import DTYPES

_HAS_OBJECT = 0x01  # a flag of numpy's


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
        return BY_CODE.get(self.code) or BY_NAME.get(self.code)

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
