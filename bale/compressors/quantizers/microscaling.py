"""Small floats with a scale for each row or block: FP8, the MX formats and NVFP4."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from bale.compressors.base import PartBound, Values
from bale.compressors.quantizers.groups import Groups
from bale.compressors.quantizers.levels import Levels, Scaled, float_levels
from bale.compressors.settings import setting
from bale.errors import Refused
from bale.spec import Array, TensorSpec

FORMATS: dict[str, Levels] = {
    "e2m1": float_levels(2, 1, 6),
    "e2m3": float_levels(2, 3, 7.5),
    "e3m2": float_levels(3, 2, 28),
    "e4m3": float_levels(4, 3, 448),
    "e5m2": float_levels(5, 2, 57344),
}
"""Magnitudes of each format: those of OCP's FP8 and MX specifications, without infinities and NaN."""

_BLOCK, _NV_BLOCK = 32, 16
_LEAST_EXPONENT, _BIAS = -127, 127
_LEAST_PEAK = 2.0**-110
FIXED_RANGE = 2.0**-7
"""The scale of tensors with ``nvfp4:range=fixed``: blocks with values from 0.0008 to 21 have all bits of theirs."""


@dataclass(frozen=True)
class Fp8(Scaled):
    """Floats of 8 bits with a scale for each row, or for the whole tensor.

    A group with the largest magnitude m has the scale ``s = m / L``, where L is the format's largest number: 448 for
    E4M3 (4 bits of exponent, 3 of mantissa), 57344 for E5M2. ``x / s`` is rounded to the nearest float, half to even,
    and comes back times s.

    Parts: ``qdata``, the float's bits as in OCP's FP8 (no infinities, no NaN); ``scale``, rounded up to F16, or to F32
    for the whole tensor when one would not be a normal F16, unless the setting says otherwise: ``bf16`` is what
    software for models in BF16 loads (`bale export`).

    Error: ``|x - x'| <= max(2^-(M+1) |x|, d s / 2)`` with the stored scale, M bits of mantissa, and d the least number
    of the format, 2^-9 for E4M3 and 2^-16 for E5M2; plus rounding to the tensor's dtype.

    Use it where others expect FP8, or for values of many magnitudes: E4M3 keeps about 31.5 dB of anything. On weights
    `int:bits=7` keeps 4 dB more in less room. About 260 M weights/s encoding, 800 M decoding.

    Micikevicius et al. 2022 (arXiv:2209.05433); OCP 8-bit Floating Point Specification 1.0.

    >>> x = Values(TensorSpec("F32", (1, 4)), np.array([[0.1, -0.5, 2, 3.5]], np.float32))
    >>> parts = Fp8().encode(x)
    >>> parts["scale"].array.tolist(), parts["qdata"].array.tolist()
    ([0.0078125], [[85, 232, 120, 126]])
    >>> Fp8().decode(parts, x.spec).tolist()
    [[0.1015625, -0.5, 2.0, 3.5]]
    """

    name: ClassVar[str] = "fp8"

    format: Literal["e4m3", "e5m2"] = setting("e4m3", help="bits of exponent and mantissa")
    group: int | Literal["row", "column", "tensor"] = setting(
        "row", low=1, help="elements that share a scale: a row (first dimension), a column, a number of them, or all"
    )
    scale: Literal["auto", "fp16", "bf16", "fp32"] = setting(
        "auto", help="form that scales are stored in; auto is fp16, or fp32 where that does not do"
    )

    @property
    def kind(self) -> str:
        """As the setting says."""
        return self.scale

    @property
    def levels(self) -> Levels:
        """The floats."""
        return FORMATS[self.format]

    @property
    def width(self) -> int:
        """Eight bits."""
        return 8

    def groups(self, spec: TensorSpec) -> Groups:
        """Rows, groups, or all."""
        return Groups.of(spec, self.group)


@dataclass(frozen=True)
class Mx(Scaled):
    """OCP Microscaling formats: small floats in blocks of 32 with a power of two as scale.

    A block of 32 consecutive elements (the last may be shorter) with the largest magnitude m has the scale ``s =
    2^(floor(log2 m) - e)``, e the exponent of the format's largest number, and the least scale, 2^-127, if m is 0.
    ``x / s`` is rounded to the nearest float of the format, half to even; what is beyond its largest number L becomes
    that, with its sign. It comes back times s.

    Parts: ``qdata``, the float's bits; ``scale``, E8M0: the exponent of s plus 127, one byte for each block.

    Error: ``|x - x'| <= max(2^-(M+1) |x|, d s / 2, 2^(e+1) s - L s)`` with M bits of mantissa and d the least number of
    the format; the last term, for what is beyond L, is at most a quarter of x for E2M1, an eighth for E4M3, E5M2 and
    E3M2, and a sixteenth for E2M3. Plus rounding to the tensor's dtype.

    Use it where the bits of MX are wanted: blocks are those of the specification where rows are multiples of 32. On
    weights `int` keeps more in less room: 18.5 dB at 4.25 bits for MXFP4. About 140 M
    weights/s encoding, 800 M decoding.

    OCP Microscaling Formats (MX) Specification 1.0.

    >>> x = Values(TensorSpec("F32", (4,)), np.array([0.1, -0.5, 2, 3.5], np.float32))
    >>> parts = Mx().encode(x)
    >>> parts["scale"].array.tolist(), parts["qdata"].array.tolist()
    ([126], [0, 10, 6, 7])
    >>> Mx().decode(parts, x.spec).tolist()
    [0.0, -0.5, 2.0, 3.0]
    """

    name: ClassVar[str] = "mx"

    format: Literal["e2m1", "e2m3", "e3m2", "e4m3", "e5m2"] = setting("e2m1", help="bits of exponent and mantissa")

    @property
    def levels(self) -> Levels:
        """The floats."""
        return FORMATS[self.format]

    @property
    def width(self) -> int:
        """Bits of a float, with its sign."""
        return 1 + sum(int(digit) for digit in self.format if digit.isdigit())

    def groups(self, spec: TensorSpec) -> Groups:
        """The blocks."""
        return Groups.of(spec, _BLOCK)

    @property
    def reach(self) -> float:
        """The power of two above the largest number: what is beyond that one is in its cell."""
        return float(2 ** np.frexp(self.levels.largest)[1])

    def scale_parts(self, groups: int) -> tuple[PartBound, ...]:
        """One byte for each block."""
        return (PartBound("scale", TensorSpec("U8", (groups,)), bits=8),)

    def scales_of(self, peaks: Array) -> dict[str, Array]:
        """Exponents of the scales, from those of the largest magnitudes."""
        exponents = np.frexp(peaks)[1] - np.frexp(np.float32(self.levels.largest))[1]
        exponents = np.where(peaks > 0, np.maximum(exponents, _LEAST_EXPONENT), _LEAST_EXPONENT)
        return {"scale": (exponents + _BIAS).astype(np.uint8)}

    def load_scales(self, side: Mapping[str, Values], groups: int, at: slice) -> Array:
        """Powers of two."""
        scale = side["scale"].array
        if scale.shape != (groups,):
            raise ValueError(f"{scale.size} scales for {groups} blocks")
        if scale[at].max(initial=0) == 2 * _BIAS + 1:
            raise ValueError("a scale is not a number")
        return np.ldexp(np.float32(1), scale[at].astype(np.int32) - _BIAS)


@dataclass(frozen=True)
class Nvfp4(Scaled):
    """NVFP4: floats of 4 bits in blocks of 16, with scales that are floats of 8 bits, and one for the tensor.

    With the largest magnitude M of the tensor, its scale is ``t = M / (6 x 448)``, F32. A block of 16 consecutive
    elements (the last may be shorter) with the largest magnitude m has the scale ``u``, which is ``m / 6t`` rounded to
    E4M3, half to even, at least 2^-9. With ``s = u t``, ``x / s`` is rounded to the nearest E2M1 (0, 0.5, 1, 1.5, 2, 3,
    4, 6 and their negatives), half to even, at most 6; it comes back times s. With ``range=fixed`` t is 2^-7 for all
    tensors, so that products of scales are exact, and a tensor with values beyond 21 is refused.

    Parts: ``qdata``, the float's bits; ``scale``, E4M3 bits, one byte for each block; ``scale.range``, t.

    Error: ``|x - x'| <= s``; up to 3 s in blocks whose m is below 3t / 32, where u has few bits. Plus rounding to the
    tensor's dtype. A tensor whose M is below 2^-110 is refused.

    Use it where the bits of NVFP4 are wanted, with t for the reciprocal that some tools store; with ``range=fixed``
    where other software is to load them (`bale export`), which may read several tensors as one. On weights it is as
    good as `int4`, in 0.4 bits more. About 100 M weights/s encoding, 700 M decoding.

    NVIDIA 2025, "Pretraining Large Language Models with NVFP4" (arXiv:2509.25149).

    >>> x = Values(TensorSpec("F32", (4,)), np.array([0.5, -1, 0, 6], np.float32))
    >>> parts = Nvfp4().encode(x)
    >>> parts["qdata"].array.tolist()
    [1, 10, 0, 7]
    >>> Nvfp4().decode(parts, x.spec).round(3).tolist()
    [0.5, -1.0, 0.0, 6.0]
    """

    name: ClassVar[str] = "nvfp4"

    range: Literal["tensor", "fixed"] = setting(
        "tensor", help="factor of all scales: by the largest value of the tensor, or 2^-7 whatever it is"
    )

    @property
    def levels(self) -> Levels:
        """The floats."""
        return FORMATS["e2m1"]

    @property
    def width(self) -> int:
        """Four bits."""
        return 4

    @property
    def reach(self) -> float:
        """A sixteenth beyond the largest number, as scales are rounded to nearest."""
        return self.levels.largest * (1 + 2.0**-4)

    @property
    def kind(self) -> str:
        """E4M3 times a factor."""
        return "fp8"

    def groups(self, spec: TensorSpec) -> Groups:
        """The blocks."""
        return Groups.of(spec, _NV_BLOCK)

    def scales_of(self, peaks: Array) -> dict[str, Array]:
        """The tensor's scale, and for each block its own, rounded to nearest."""
        factor, small = self._factor(float(peaks.max(initial=0))), FORMATS["e4m3"]
        wanted = (peaks.astype(np.float64) / (self.levels.largest * float(factor))).astype(np.float32)
        return {"scale": np.maximum(small.nearest(wanted), 1), "scale.range": np.array([factor], np.float32)}

    def _factor(self, peak: float) -> np.float32:
        """The tensor's scale, where its largest magnitude is `peak`."""
        most = self.levels.largest * FORMATS["e4m3"].largest
        if self.range == "fixed":
            if peak > most * FIXED_RANGE:
                raise Refused(f"its values are beyond {most * FIXED_RANGE:g}, the largest of nvfp4:range=fixed")
            return np.float32(FIXED_RANGE)
        if 0 < peak < _LEAST_PEAK:
            raise Refused("its values are too small for the scales of nvfp4")
        return np.float32(peak / most if peak else 1.0)
