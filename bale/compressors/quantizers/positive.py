"""Tensors that are never negative, in a domain where a quantizer keeps small values apart from zero."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from bale.compressors.base import PartBound, Transform, Values
from bale.compressors.floats import from_float32, require_float, to_float32
from bale.compressors.settings import setting
from bale.errors import Refused
from bale.spec import Array, TensorSpec

_LARGEST_WORD = 0x7F7FFFFF


@dataclass(frozen=True)
class Positive(Transform):
    """Logarithms or square roots of a tensor that is never negative, for a quantizer behind it.

    What is zero comes back as zero, and what is not as a number above zero, whatever the quantizer does: which elements
    are zero is kept apart, and the others come back as no less than the least of them. A tensor with a negative
    element is refused, and stays lossless.

    With ``domain=log`` the quantizer sees ``e + f`` for ``x = 2^e (1 + f)``, 0 <= f < 1 (``2^126 x - 127`` for
    subnormal x): the bits of x as a number, which is the binary logarithm with straight lines between powers of two.
    With ``domain=sqrt`` it sees the square root.

    Parts: ``value``, what the quantizer sees, F32; ``zeros``, 1 where x is zero, one bit for each element; ``least``,
    the least x above zero.

    Error, where the quantizer is off by d: for the logarithm ``|x - x'| <= 2 d x + 2^-126 d`` if d <= 1, so that
    *relative* errors are bounded; for the square root ``|x - x'| <= d (2 sqrt(x) + d)``. Float32 adds
    ``2^-17 x + 2^-143``, and rounding to the tensor's dtype half a unit in the last place.

    Use it for the second moments of Adam and other variances, which stand in denominators, where a plain quantizer
    makes small ones zero and steps explode. ``positive+int:zero=float`` keeps half of them within 0.4 %, in 7.3 bits;
    ``positive:domain=sqrt+int8`` has the smaller squared error, 4 dB less than `int8`, but small ones are off by more.
    Behind the logarithm ``zero=float`` is worth 8 dB, as zero is nothing special there. Not for weights. The whole
    tensor is held in memory. About 50 M values/s.

    In front of `svd` and a second layer, ``positive:domain=sqrt+svd:rank=auto+trellis:bits=5/trellis:bits=3``, it is
    there for the smaller squared error alone: what the second layer adds can make small values zero or negative.

    The logarithm by straight lines is Mitchell 1962 ("Computer multiplication and division using binary logarithms");
    its use here is bale's own.

    >>> x = Values(TensorSpec("F32", (4,)), np.array([0, 0.25, 1, 4], np.float32))
    >>> parts = Positive(domain="sqrt").encode(x)
    >>> {name: part.array.tolist() for name, part in parts.items()}
    {'value': [0.0, 0.5, 1.0, 2.0], 'zeros': [1, 0, 0, 0], 'least': [0.25]}
    >>> Positive(domain="sqrt").decode(parts, x.spec).tolist()
    [0.0, 0.25, 1.0, 4.0]
    """

    name: ClassVar[str] = "positive"
    keeps_positive: ClassVar[bool] = True
    lossless: ClassVar[bool] = False

    domain: Literal["log", "sqrt"] = setting("log", help="what the quantizer sees: the logarithm or the square root")

    def validate(self, spec: TensorSpec) -> None:
        """Refuse what is not floating point, is quantized already or has no elements."""
        require_float(spec)

    def parts(self, spec: TensorSpec) -> tuple[PartBound, ...]:
        """The values that the quantizer sees, flags for elements that are zero, and the least that is not."""
        return (
            PartBound("value", TensorSpec("F32", spec.shape), primary=True),
            PartBound("zeros", TensorSpec("U8", spec.shape), bits=1),
            PartBound("least", TensorSpec("F32", (1,))),
        )

    def encode(self, values: Values) -> dict[str, Values]:
        """Take a tensor to the domain. Raises `Refused` when it is negative anywhere, or not finite."""
        x = to_float32(values.array, values.spec)
        if not np.isfinite(x).all():
            raise Refused("it holds NaN or infinity")
        if (x < 0).any():
            raise Refused("it holds negative values")
        zeros = x == 0
        least = np.min(x, where=~zeros, initial=np.inf)
        least = np.float32(0 if np.isinf(least) else least)
        seen = np.sqrt(x) if self.domain == "sqrt" else _logarithm(np.maximum(x, least))
        shape = values.spec.shape
        return {
            "value": Values(TensorSpec("F32", shape), seen),
            "zeros": Values(TensorSpec("U8", shape), zeros.astype(np.uint8), 1),
            "least": Values(TensorSpec("F32", (1,)), np.full(1, least)),
        }

    def decode(self, parts: Mapping[str, Values], spec: TensorSpec) -> Array:
        """Take a tensor back from the domain."""
        seen, zeros, least = parts["value"].array, parts["zeros"].array, parts["least"].array
        if seen.shape != spec.shape or zeros.shape != spec.shape or least.shape != (1,):
            raise ValueError(f"parts of {seen.shape}, {zeros.shape} and {least.shape} for {spec}")
        with np.errstate(over="ignore"):
            x = np.square(np.maximum(seen, 0)) if self.domain == "sqrt" else _power(seen)
        x = np.clip(x, least[0], np.finfo(np.float32).max)
        return from_float32(np.where(zeros != 0, np.float32(0), x), spec)


def _logarithm(x: Array) -> Array:
    """The bits of floats as numbers: exponent and fraction. The mirror image is `_power`."""
    return np.asarray((x.view(np.uint32) * 2.0**-23 - 127).astype(np.float32))


def _power(seen: Array) -> Array:
    words = np.rint((np.nan_to_num(seen).astype(np.float64) + 127) * 2.0**23)
    return np.asarray(np.clip(words, 0, _LARGEST_WORD).astype(np.uint32)).view(np.float32)
