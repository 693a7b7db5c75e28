"""Bits that values do not use: zeros at the end of all of them, and dtypes that hold them exactly."""

from __future__ import annotations

import numpy as np

from bale.compressors.floats import from_float32, to_float32
from bale.spec import Array, TensorSpec

_MANTISSA = {"F64": 52, "F32": 23, "F16": 10, "BF16": 7}
_WORDS = {"F64": "<u8", "F32": "<u4", "F16": "<u2", "BF16": "<u2"}
_NARROWER = {"F64": ("BF16", "F16", "F32"), "F32": ("BF16", "F16")}


def free_low_bits(array: Array, dtype: str) -> int:
    """Bits at the end of the mantissa that are zero in all values; 0 where all values are zero, or none has any."""
    if dtype not in _MANTISSA or not array.size:
        return 0
    used = int(np.bitwise_or.reduce(array.reshape(-1).view(_WORDS[dtype])))
    most = _MANTISSA[dtype]
    used &= (1 << most) - 1
    return (used & -used).bit_length() - 1 if used else _if_any(array, most)


def exact_dtypes(array: Array, dtype: str) -> tuple[str, ...]:
    """The narrower dtypes that hold every value, bit for bit, narrowest use of bits first."""
    return tuple(name for name in _NARROWER.get(dtype, ()) if _holds(array.reshape(-1), dtype, name))


def _if_any(array: Array, most: int) -> int:
    """All bits of mantissas that are powers of two only, or nothing but zeros."""
    return most if np.any(array) else 0


def _holds(array: Array, dtype: str, narrow: str) -> bool:
    words = array.view(_WORDS[dtype])
    with np.errstate(over="ignore", invalid="ignore"):
        values = array if dtype == "F32" else array.astype("<f4")
        target = TensorSpec(narrow, values.shape)
        back = to_float32(from_float32(values, target), target)
        again = back if dtype == "F32" else back.astype("<f8")
    return bool(np.array_equal(again.view(_WORDS[dtype]), words))
