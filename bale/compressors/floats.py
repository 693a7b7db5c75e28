"""The one way from stored bits to float32 and back, for all codecs that lose precision."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np

from bale.compressors.kernels import native
from bale.errors import Refused
from bale.spec import Array, TensorSpec

_BYTE_FLOATS = {
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
    "F8_E4M3FNUZ": "float8_e4m3fnuz",
    "F8_E5M2FNUZ": "float8_e5m2fnuz",
}
_BF16_LARGEST = np.uint32(0x7F7F0000).view(np.float32)
_BLOCK = 1 << 16  # elements rounded at a time: what is needed on the way stays in the cache


def require_float(spec: TensorSpec) -> None:
    """Raise `Refused` when tensors of this spec cannot be taken to float32 and back."""
    if not spec.is_float:
        raise Refused(f"{spec.dtype} is not floating point")
    if spec.info.packed or spec.dtype == "F8_E8M0":
        raise Refused(f"{spec.dtype} is quantized already")
    if not spec.elements:
        raise Refused("it has no elements")


def to_float32(array: Array, spec: TensorSpec) -> Array:
    """Values of an array as float32.

    Parameters
    ----------
    array : Array
        Storage bits of any shape.
    spec : TensorSpec
        Gives the dtype; its shape is not looked at.

    Returns
    -------
    Array
        Float32 of the same shape; the array itself when it is F32. Exact but for F64, which is rounded to nearest and
        becomes infinite beyond float32's range, so that one test for finite values finds that too.

    Raises
    ------
    Refused
        When the dtype is not a float of 8 bits or more, or is F8_E8M0 (scales, not values).
    """
    if spec.dtype == "F32":
        return array
    if spec.dtype == "BF16":
        loop = native.of("from_bf16") if array.flags.c_contiguous else None
        if loop is not None:
            values = np.empty(array.shape, np.float32)
            loop(array.reshape(-1), values.reshape(-1))
            return values
        wide = array.astype(np.uint32)
        return np.left_shift(wide, 16, out=wide).view(np.float32)
    if spec.dtype in _BYTE_FLOATS:
        return np.asarray(_byte_values(spec.dtype)[array])
    if spec.dtype in ("F16", "F64"):
        with np.errstate(over="ignore"):
            return array.astype(np.float32)
    raise Refused(f"{spec.dtype} cannot be taken to float32 and back")


def from_float32(values: Array, spec: TensorSpec) -> Array:
    """Storage bits of float32 values, rounded to nearest even: the mirror image of `to_float32`.

    Parameters
    ----------
    values : Array
        Float32 of any shape.
    spec : TensorSpec
        Gives the dtype; its shape is not looked at.

    Returns
    -------
    Array
        Array of ``spec.storage`` of the same shape; the array itself for F32. What is beyond the largest finite value
        of a dtype narrower than float32, infinities included, becomes that value. NaN stays NaN.

    Raises
    ------
    Refused
        As for `to_float32`.
    """
    if spec.dtype == "F32":
        return values
    if spec.dtype == "F64":
        return values.astype(np.float64)
    rounded = np.empty(values.shape, spec.storage)
    loop = native.of("to_bf16") if spec.dtype == "BF16" else None
    if loop is not None:
        loop(np.ascontiguousarray(values).reshape(-1), rounded.reshape(-1))
        return rounded
    narrowed = _narrowing(spec)
    flat, target = values.reshape(-1), rounded.reshape(-1)
    for start in range(0, flat.size, _BLOCK):
        target[start : start + _BLOCK] = narrowed(flat[start : start + _BLOCK])
    return rounded


def _narrowing(spec: TensorSpec) -> Callable[[Array], Array]:
    """Conversion of float32 values to the bits of a narrower dtype."""
    if spec.dtype == "BF16":
        return _to_bf16
    if spec.dtype == "F16":
        return lambda values: np.clip(values, np.float32(-65504), np.float32(65504)).astype(np.float16)
    if spec.dtype in _BYTE_FLOATS:
        import ml_dtypes

        kind = np.dtype(getattr(ml_dtypes, _BYTE_FLOATS[spec.dtype]))
        table = _byte_values(spec.dtype)
        largest = table[np.isfinite(table)].max()
        return lambda values: np.clip(values, -largest, largest).astype(kind).view(np.uint8)
    raise Refused(f"{spec.dtype} cannot be taken to float32 and back")


def _to_bf16(values: Array) -> Array:
    """Add half of the last kept place, less one when that place is even, and cut: the carry rounds."""
    bits = np.clip(values, -_BF16_LARGEST, _BF16_LARGEST).view(np.uint32)
    odd = np.right_shift(bits, 16)
    np.bitwise_and(odd, 1, out=odd)
    odd += 0x7FFF
    odd += bits
    np.right_shift(odd, 16, out=odd)
    halves = odd.astype(np.uint16)
    lost = np.isnan(values)
    if lost.any():
        halves[lost] = 0x7FC0
    return halves


@cache
def _byte_values(dtype: str) -> Array:
    """Value of each of the 256 bytes."""
    import ml_dtypes

    kind = np.dtype(getattr(ml_dtypes, _BYTE_FLOATS[dtype]))
    table: Array = np.arange(256, dtype=np.uint8).view(kind).astype(np.float32)
    table.flags.writeable = False
    return table


def numbers(array: Array, spec: TensorSpec) -> Array | None:
    """The values of a floating-point array as float64 (from F64) or float32, or None for all other dtypes."""
    if not spec.is_float or spec.info.packed or spec.dtype == "F8_E8M0":
        return None
    return array if spec.dtype == "F64" else to_float32(array, spec)


def all_finite(values: Array) -> bool:
    """Whether an array of floats holds no NaN and no infinity."""
    loop = native.of("all_finite") if values.dtype == np.float32 and values.flags.c_contiguous else None
    return bool(np.isfinite(values).all() if loop is None else loop(values.reshape(-1)))
