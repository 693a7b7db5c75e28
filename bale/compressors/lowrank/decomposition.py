"""Base of the decompositions: how much is kept, the bound on the error, and the range of the factors."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from bale.compressors.base import PartBound, Transform, Values, owned
from bale.compressors.floats import from_float32, require_float, to_float32
from bale.compressors.importance import Importance
from bale.compressors.lowrank.truncated import squares
from bale.errors import Refused, UsageError
from bale.notes import Note
from bale.spec import Array, TensorSpec

_NEAR = 8  # Largest entries within 2^-8 and 2^8 need no scaling: squares are summed in float64.
_TOPS = {"F16": 14, "BF16": 100, "F32": 100}  # Exponents up to which an array's largest entry may go.
_BLOCK = 1 << 20


@dataclass(frozen=True)
class Candidate:
    """Factors of a tensor by name, float32, their squared error as far as known, and whether they are of full rank."""

    factors: dict[str, Array]
    error2: float
    is_full: bool


Search = Callable[[float | None], Candidate]
"""Finds the smallest factors whose squared error is at most a given one; given None, those that the user asked for."""


class Decomposition(Transform):
    """Base of the codecs that store a tensor as factors; exactly one of the keys in `targets` says how much is kept."""

    lossless: ClassVar[bool] = False
    targets: ClassVar[tuple[str, ...]]
    least_ndim: ClassVar[int] = 2
    needs_whole: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        given = [key for key in self.targets if getattr(self, key) is not None]
        if len(given) != 1:
            some = f"{', '.join(self.targets[:-1])}, {self.targets[-1]}"
            raise UsageError(f"{self.name}: {' and '.join(given) or 'nothing'} given", f"give one of {some}")

    def load(self) -> None:
        """Import LAPACK."""
        import scipy.linalg  # noqa: F401

    @property
    def allowed_energy(self) -> float | None:
        """Share of the sum of squares that the squared error may have, when it decides the ranks."""
        error: float | None = getattr(self, "error", None)
        return None if error is None else error**2

    @property
    @abstractmethod
    def is_sized(self) -> bool:
        """Whether the ranks are known beforehand."""

    @abstractmethod
    def search(self, tensor: Array, importance: Importance | None = None) -> Search:
        """Prepare to factor a finite float32 tensor of this importance."""

    @abstractmethod
    def product(self, factors: Mapping[str, Array], spec: TensorSpec) -> Array:
        """Float32 values of a tensor from its factors, the same on every machine; `ValueError` if they do not fit."""

    def validate(self, spec: TensorSpec) -> None:
        """Refuse what is not floating point or has too few dimensions."""
        require_float(spec)
        if len(spec.shape) < self.least_ndim:
            raise Refused(f"{len(spec.shape)} dimensions, {self.name} takes {self.least_ndim} and more")

    def baseline_note(self, values: Values, error2: float, stored: int) -> Note | None:
        """Compare with a quantizer of as many bytes."""
        from bale.compressors.lowrank.baseline import comparison

        spec = values.spec
        return comparison(self.name, to_float32(values.array, spec).reshape(spec.shape), error2, stored)

    def check_size(self, spec: TensorSpec, stored_bits: int) -> None:
        """Refuse ranks known beforehand whose factors take no less room than the tensor, unless forced."""
        if self.is_sized and not self.forced and stored_bits >= spec.elements * spec.info.bits:
            size, what = -(-stored_bits // 8), self.described(spec)
            raise Refused(f"factors of {what} take up to {size} bytes, {spec} takes {spec.nbytes}")

    @property
    def forced(self) -> bool:
        """Whether factors may take more room than the tensor."""
        return bool(getattr(self, "force", False))

    @abstractmethod
    def described(self, spec: TensorSpec) -> str:
        """The ranks, in words, where they are known beforehand."""

    def encode(self, values: Values) -> dict[str, Values]:
        """Factors of a tensor.

        Raises
        ------
        Refused
            For NaN or Inf, or when rounding, of the factors and of their product, breaks the bound on the error alone.
        """
        spec = values.spec
        tensor, exponent = scaled(finite(values))
        search = self.search(tensor, values.importance)
        if self.allowed_energy is None:
            return _owned(self.stored(search(None).factors, exponent, spec), values)
        norm2 = squares(tensor)
        allowed = target = self.allowed_energy * norm2
        while True:
            found = search(target)
            parts = self.stored(found.factors, exponent, spec)
            error2 = self._squared_error(parts, tensor, exponent, spec)
            if error2 <= allowed:
                return _owned(parts, values)
            if found.is_full:
                relative = math.sqrt(error2 / norm2)
                raise Refused(f"rounding alone gives a relative error of {relative:.2g}, above the bound")
            target = min(allowed - (error2 - found.error2), found.error2 * (1 - 1e-9), target * (1 - 1e-3))
            del found, parts  # before others are made

    def decode(self, parts: Mapping[str, Values], spec: TensorSpec) -> Array:
        """Product of the factors; `ValueError` where they are not finite, which no encoder makes them."""
        decoded = from_float32(self._product(parts, spec), spec).reshape(spec.shape)
        return owned(decoded, *(part.array for part in parts.values()))

    def _product(self, parts: Mapping[str, Values], spec: TensorSpec) -> Array:
        factors = {name: to_float32(part.array, part.spec) for name, part in parts.items()}
        require(all(np.isfinite(factor).all() for factor in factors.values()), factors, spec)
        return self.product(factors, spec)

    def stored(self, factors: Mapping[str, Array], exponent: int, spec: TensorSpec) -> dict[str, Values]:
        """Factors as they are stored, given back the power of two that the tensor was divided by."""
        dtype = factor_dtype(spec)
        shifts = _shifts(list(factors.values()), exponent, _TOPS[dtype])
        parts = {}
        for (name, factor), shift in zip(factors.items(), shifts, strict=True):
            part = TensorSpec(dtype, factor.shape)
            array = np.ascontiguousarray(np.ldexp(factor, shift) if shift else factor)
            parts[name] = Values(part, from_float32(array, part))
        return parts

    def _squared_error(self, parts: Mapping[str, Values], tensor: Array, exponent: int, spec: TensorSpec) -> float:
        product, flat, total = self._product(parts, spec).reshape(-1), tensor.reshape(-1), 0.0
        for start in range(0, flat.size, _BLOCK):
            decoded = from_float32(product[start : start + _BLOCK], spec)
            block = to_float32(decoded, spec).astype(np.float64)
            difference = np.ldexp(block, -exponent) - flat[start : start + _BLOCK]
            total += float(np.dot(difference, difference))
        return total


def _owned(parts: dict[str, Values], values: Values) -> dict[str, Values]:
    """Factors that share no memory with the tensor: where nothing was cut, one of them can be the tensor itself."""
    return {name: replace(part, array=owned(part.array, values.array)) for name, part in parts.items()}


def finite(values: Values) -> Array:
    """Float32 values in the tensor's shape; `Refused` for NaN or infinity."""
    tensor = to_float32(values.array, values.spec).reshape(values.spec.shape)
    if not np.isfinite(tensor).all():
        raise Refused("it holds NaN or infinity")
    return tensor


def scaled(tensor: Array) -> tuple[Array, int]:
    """The tensor over an even power of two that brings it near 1, if it is far from that, and the exponent."""
    exponent = int(np.frexp(max(abs(float(tensor.min())), abs(float(tensor.max()))))[1])
    exponent += exponent % 2
    return (tensor, 0) if abs(exponent) <= _NEAR else (np.ldexp(tensor, -exponent), exponent)


def factor_dtype(spec: TensorSpec) -> str:
    """Dtype of factors: the tensor's own where that is a float of 16 bits, else F32."""
    return spec.dtype if spec.dtype in ("F16", "BF16") else "F32"


def bound(name: str, spec: TensorSpec, *shape: int, optional: bool = False) -> PartBound:
    """Bound of a factor of a tensor."""
    return PartBound(name, TensorSpec(factor_dtype(spec), shape), primary=True, optional=optional)


def _shifts(factors: Sequence[Array], exponent: int, top: int) -> list[int]:
    """Exponents for each factor: evenly spread, or so that all reach as high where one would reach too high."""
    count = len(factors)
    if not count:
        return []
    shifts = [exponent // count] * count
    shifts[0] += exponent % count
    tops = [int(np.frexp(np.abs(factor).max(initial=0))[1]) for factor in factors]
    if any(abs(at + shift) > top for at, shift in zip(tops, shifts, strict=True)):
        mean = (sum(tops) + exponent) // count
        shifts = [mean - at for at in tops]
        shifts[0] += (sum(tops) + exponent) % count
    return shifts


def require(fits: bool, factors: Mapping[str, Any], spec: TensorSpec) -> None:
    """Raise `ValueError` unless factors fit a tensor."""
    if not fits:
        shapes = ", ".join(f"{name} {list(factor.shape)}" for name, factor in factors.items())
        raise ValueError(f"factors {shapes or 'none'} for {spec}")
