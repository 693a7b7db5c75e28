"""Scales of groups, stored as floats or in 8 bits each. A scale is never zero, and rounded up."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from bale.compressors.base import PartBound, Place, Values
from bale.compressors.floats import to_float32
from bale.errors import Refused
from bale.spec import Array, TensorSpec

DOUBLE = "double"
"""The way of ``nf4:double=true``: 8 bits of a step that `SHARED` scales have in common."""

SHARED = 256
_FLOATS = {"auto": "F32", "fp16": "F16", "bf16": "BF16", "fp32": "F32"}
"""Ways that are floats by themselves, and the widest dtype of each."""
_HALF_LEAST, _HALF_LARGEST = 2.0**-14, 65504.0
_INF_BF16 = 0x7F80
_LARGEST = float(np.finfo(np.float32).max)
_E4M3, _LAST_E4M3, _LARGEST_E4M3 = TensorSpec("F8_E4M3", (127,)), 126, 448.0


def parts(kind: str, groups: int) -> tuple[PartBound, ...]:
    """Names and upper bounds of what is stored."""
    if kind in _FLOATS:
        return (PartBound("scale", TensorSpec(_FLOATS[kind], (groups,))),)
    shared = {"fp8": 1, "log": 2, DOUBLE: -(-groups // SHARED)}[kind]
    return (
        PartBound("scale", TensorSpec("U8", (groups,)), bits=8),
        PartBound("scale.range", TensorSpec("F32", (shared,))),
    )


def rounded_up(exact: Array) -> Array:
    """The least float32 numbers that are not below these."""
    with np.errstate(over="ignore"):
        return _rounded_up(exact, np.float32)


def store(wanted: Array, kind: str) -> dict[str, Array]:
    """Scales as they are stored, the least that are not below these (float32; where it is 0 any will do).

    ``auto`` is F16, or F32 for all if one of them is no normal F16. ``bf16`` has 8 bits of mantissa. ``fp8`` is a float
    of 4 bits of exponent and 3 of mantissa (E4M3) times a factor. ``log`` has 256 values whose bits, as F32, are evenly
    spaced between those of the least and the largest scale. ``double`` is 1 to 255 times a step for each `SHARED`
    scales.

    Raises
    ------
    Refused
        When F16 is asked for and does not do, or a scale is beyond float32.
    """
    if not np.isfinite(wanted.max(initial=0)):
        raise Refused("its range is beyond float32")
    floats = kind in _FLOATS
    spare = 1.0 if floats else np.min(wanted, where=wanted > 0, initial=_LARGEST)
    scale = np.where(wanted > 0, wanted, np.float32(spare))
    if kind in ("auto", "fp16") and _are_normal_halves(scale):
        return {"scale": _rounded_up(scale, np.float16)}
    if kind == "fp16":
        raise Refused("a scale is not a normal number of F16: scale=auto takes F32 then")
    if kind == "bf16":
        return {"scale": _rounded_up_to_bf16(scale)}
    if floats:
        return {"scale": scale}
    if kind == DOUBLE:
        return _steps(scale)
    ends = np.array([scale.min(), scale.max()], np.float32)
    if kind == "fp8":
        ends = rounded_up(ends[1:].astype(np.float64) / _LARGEST_E4M3)
    return {"scale": np.searchsorted(_table(ends, kind), scale).astype(np.uint8), "scale.range": ends}


def estimated(wanted: Array) -> Array:
    """Float32 scales as ``auto`` would store each on its own: what other groups need is not known yet."""
    scale = np.where(wanted > 0, wanted, np.float32(1))
    halves = (scale >= _HALF_LEAST) & (scale <= _HALF_LARGEST)
    scale[halves] = _rounded_up(scale[halves], np.float16)
    return scale


def load(side: Mapping[str, Values], kind: str, groups: int, at: slice) -> Array:
    """Float32 scales of some groups. Raises `ValueError` where the parts are not those of `groups` groups."""
    for bound in parts(kind, groups):
        if side[bound.name].array.shape != bound.spec.shape:
            raise ValueError(f"{side[bound.name].spec} for the {bound.name} of {groups} groups")
    scale = side["scale"].array[at]
    if kind == "fp8" and scale.max(initial=0) > _LAST_E4M3:
        raise ValueError("a scale is not a number")
    if kind == "bf16":
        if side["scale"].spec.dtype != "BF16":
            raise ValueError(f"scales in {side['scale'].spec.dtype}, not in BF16")
        found = to_float32(scale, TensorSpec("BF16", scale.shape))
    elif kind in _FLOATS:
        found = scale.astype(np.float32)
    else:
        shared = side["scale.range"].array.astype(np.float32)
        steps = shared[np.arange(at.start, at.stop) // SHARED] if kind == DOUBLE else shared
        found = _multiples(scale, steps) if kind == DOUBLE else _table(steps, kind)[scale]
    if not np.isfinite(found).all():
        raise ValueError("a scale is not a number")
    return found


def values(state: Mapping[str, Array], zero_bits: int | None = None, place: Place | None = None) -> dict[str, Values]:
    """Arrays as parts, floats as they are and bytes as codes; `place` is where groups lie."""
    dtypes = {"f2": "F16", "u2": "BF16", "f4": "F32", "u1": "U8"}
    return {
        name: Values(
            TensorSpec(dtypes[array.dtype.str[1:]], array.shape),
            array,
            None if array.dtype != np.uint8 else zero_bits if name == "zero" else 8,
            None if name == "scale.range" else place,
        )
        for name, array in state.items()
    }


def _table(shared: Array, kind: str) -> Array:
    """The float32 scale of each code, ascending."""
    if kind == "fp8":
        return _multiples(to_float32(np.arange(_LAST_E4M3 + 1, dtype=np.uint8), _E4M3), shared[0])
    least, largest = (int(word) for word in shared.view(np.uint32))
    words = [least + (largest - least) * code // 255 for code in range(256)]
    return np.array(words, np.uint32).view(np.float32)


def _steps(scale: Array) -> dict[str, Array]:
    """Scales as multiples of a step that `SHARED` of them have in common."""
    filled = np.zeros(-(-scale.size // SHARED) * SHARED, np.float32)
    filled[: scale.size] = scale
    shared = rounded_up(filled.reshape(-1, SHARED).max(axis=1).astype(np.float64) / 255)
    step = np.repeat(shared, SHARED)[: scale.size]
    codes = np.clip(np.ceil(scale / step), 1, 255)
    codes += (_multiples(codes, step) < scale) & (codes < 255)
    return {"scale": codes.astype(np.uint8), "scale.range": shared}


def _multiples(codes: Array, step: Array) -> Array:
    """Products, float32; the largest number where they are beyond it."""
    with np.errstate(over="ignore", invalid="ignore"):
        return np.minimum(codes.astype(np.float32) * step, np.float32(_LARGEST))


def _rounded_up_to_bf16(scale: Array) -> Array:
    """The least numbers of BF16 that are not below these, which are above zero, as their bits."""
    bits = (scale.view(np.uint32) + np.uint32(0xFFFF)) >> np.uint32(16)
    if (bits >= _INF_BF16).any():
        raise Refused("its range is beyond BF16")
    return bits.astype(np.uint16)


def _are_normal_halves(exact: Array) -> bool:
    """Whether all scales are normal numbers of F16, rounded up or not."""
    return bool(exact.min(initial=1.0) >= _HALF_LEAST and exact.max(initial=1.0) <= _HALF_LARGEST)


def _rounded_up(exact: Array, kind: type[np.float16 | np.float32]) -> Array:
    """The least numbers of `kind` that are not below these."""
    near: Array = exact.astype(kind)
    np.nextafter(near, kind(np.inf), out=near, where=near < exact)
    return near
