"""Low rank: a matrix as the product of two thin ones."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from bale.compressors.base import PartBound, Transform, Values
from bale.compressors.floats import from_float32, require_float, to_float32
from bale.compressors.lowrank.matmul import exact_matmul
from bale.compressors.settings import setting
from bale.errors import Refused, UsageError
from bale.spec import Array, TensorSpec


@dataclass(frozen=True)
class Svd(Transform):
    """The best approximation of low rank: the largest singular values, shared evenly by two factors.

    A tensor of shape ``(m, ...)`` is taken as a matrix of m rows and n columns. With W = U S V', truncated to rank r,
    the parts are ``u = U sqrt(S)``, shape ``(m, r)``, and ``vh = sqrt(S) V'``, shape ``(r, n)``, both primary: a
    quantizer that follows codes each of them. They have the tensor's own dtype where that is F16, BF16 or F32, else
    F32. The largest entry of each column of u is positive.

    Exactly one of `rank`, `energy`, `error` and `ratio` says how much is kept; ranks by energy or error are found
    while encoding. Those two bounds hold for the factors as they are stored by this stage, rounding to their dtype
    included; a quantizer that follows adds its own error.

    Use it for optimizer second moments, merged adapters and differences to a base, or where factors are wanted. Not for
    trained weights in general: at the same size, quantization is 3 to 9 dB better. Takes about 17 s for a matrix of
    4096 x 4096 on one core, and 6 times its float32 size in memory; decoding is one product. Decoding gives the same
    bits on every machine (`exact_matmul`); encoding does so for one LAPACK and one number of its threads only.

    Eckart and Young 1936, doi:10.1007/BF02288367.
    """

    name: ClassVar[str] = "svd"
    lossless: ClassVar[bool] = False

    rank: int | None = setting(None, low=1, help="singular values kept")
    energy: float | None = setting(None, low=0, high=1, help="share of the sum of squares kept, at least")
    error: float | None = setting(None, low=0, high=1, help="relative error in the Frobenius norm, at most")
    ratio: float | None = setting(None, low=0, high=1, help="share of the parameters kept, at most (rank 1 at least)")
    force: bool = setting(False, help="whether factors that take more room than the tensor are accepted")

    def __post_init__(self) -> None:
        super().__post_init__()
        given = [key for key in ("rank", "energy", "error", "ratio") if getattr(self, key) is not None]
        if len(given) != 1:
            raise UsageError(f"svd: {' and '.join(given) or 'nothing'} given", "give one of rank, energy, error, ratio")

    def load(self) -> None:
        """Import LAPACK."""
        import scipy.linalg  # noqa: F401

    def validate(self, spec: TensorSpec) -> None:
        """Refuse what is not a matrix of floating-point numbers, or has fewer rows or columns than `rank`."""
        require_float(spec)
        if len(spec.shape) < 2:
            raise Refused(f"{len(spec.shape)} dimensions, svd takes 2 and more")
        if not spec.elements:
            raise Refused("it has no elements")
        m, n = _matrix_shape(spec)
        if self.rank is not None and self.rank > min(m, n):
            raise Refused(f"rank {self.rank} is more than a matrix of {m} x {n} has")

    def check_size(self, spec: TensorSpec, stored_bits: int) -> None:
        """Refuse a rank known beforehand whose factors take no less room than the tensor, unless forced."""
        known = self.rank is not None or self.ratio is not None
        if known and not self.force and stored_bits >= spec.elements * spec.info.bits:
            rank = self._most(*_matrix_shape(spec))
            raise Refused(f"factors of rank {rank} take up to {-(-stored_bits // 8)} bytes, {spec} takes {spec.nbytes}")

    def parts(self, spec: TensorSpec) -> tuple[PartBound, ...]:
        """Both factors, of the rank given or else of full rank."""
        m, n = _matrix_shape(spec)
        r = self._most(m, n)
        dtype = _factor_dtype(spec)
        return (
            PartBound("u", TensorSpec(dtype, (m, r)), primary=True),
            PartBound("vh", TensorSpec(dtype, (r, n)), primary=True),
        )

    def encode(self, values: Values) -> dict[str, Values]:
        """Factors of a tensor.

        Raises
        ------
        Refused
            For NaN or Inf, or when rounding, of the factors and of their product, breaks the bound on the error alone.
        """
        spec = values.spec
        matrix = to_float32(values.array, spec).reshape(_matrix_shape(spec))
        if not np.isfinite(matrix).all():
            raise Refused("it holds NaN or infinity")
        exponent = _even_exponent(matrix)
        matrix = np.ldexp(matrix, -exponent)  # Else squares and singular values may leave float32's range.
        u, s, vh = _decompose(matrix)
        root = np.sqrt(s)

        def factors(r: int) -> dict[str, Values]:
            thin = {"u": u[:, :r] * root[:r], "vh": vh[:r] * root[:r, None]}
            specs = {name: TensorSpec(_factor_dtype(spec), factor.shape) for name, factor in thin.items()}
            return {
                name: Values(specs[name], from_float32(np.ldexp(factor, exponent // 2), specs[name]))
                for name, factor in thin.items()
            }

        def squared_error(r: int) -> float:
            decoded = to_float32(self.decode(factors(r), spec), spec).reshape(matrix.shape)
            return _squares(np.ldexp(decoded, -exponent) - matrix)

        if self._share is None:
            return factors(self._most(*matrix.shape))
        return factors(self._least(s, _squares(matrix), squared_error))

    def decode(self, parts: Mapping[str, Values], spec: TensorSpec) -> Array:
        """Product of the factors."""
        u, vh = parts["u"], parts["vh"]
        if (u.spec.shape[0], vh.spec.shape[1]) != _matrix_shape(spec) or u.spec.shape[1] != vh.spec.shape[0]:
            raise ValueError(f"factors {u.spec} and {vh.spec} for {spec}")
        product = exact_matmul(to_float32(u.array, u.spec), to_float32(vh.array, vh.spec))
        return from_float32(product, spec).reshape(spec.shape)

    @property
    def _share(self) -> float | None:
        """Squared error over sum of squares that is allowed, when it decides the rank."""
        if self.energy is not None:
            return 1 - self.energy
        return None if self.error is None else self.error**2

    def _most(self, m: int, n: int) -> int:
        """The rank, or the largest that it can turn out to be."""
        if self.rank is not None:
            return self.rank
        if self.ratio is not None:
            return max(1, math.floor(self.ratio * m * n / (m + n)))
        return min(m, n)

    def _least(self, s: Array, norm: float, squared_error: Callable[[int], float]) -> int:
        """The least rank within the bound; what rounding adds is allowed for as soon as it is known."""
        allowed = (self._share or 0.0) * norm
        tail = np.append(np.cumsum(np.square(s[::-1], dtype=np.float64))[::-1], 0.0)  # Squared error of rank r.
        r = max(1, int(np.argmax(tail <= allowed)))
        while (found := squared_error(r)) > allowed:
            if r == s.size:
                share = math.sqrt(found / norm)
                raise Refused(f"rounding alone gives a relative error of {share:.2g}, above the bound")
            within = tail <= allowed - (found - tail[r])
            r = max(r + 1, int(np.argmax(within))) if within.any() else s.size
        return r


def _matrix_shape(spec: TensorSpec) -> tuple[int, int]:
    return spec.shape[0], math.prod(spec.shape[1:])


def _factor_dtype(spec: TensorSpec) -> str:
    return spec.dtype if spec.dtype in ("F16", "BF16") else "F32"


def _squares(matrix: Array) -> float:
    """Sum of squares in float64, without a float64 copy."""
    return float(np.einsum("ij,ij->", matrix, matrix, dtype=np.float64, casting="same_kind"))


def _even_exponent(matrix: Array) -> int:
    """An even power of two near the largest entry; half of it goes to each factor."""
    exponent = int(np.frexp(np.abs(matrix).max())[1])
    return exponent + exponent % 2


def _decompose(matrix: Array) -> tuple[Array, Array, Array]:
    """Thin SVD; the slower driver where the faster one does not converge. Signs as the class says."""
    from scipy import linalg

    try:
        u, s, vh = linalg.svd(matrix, full_matrices=False, check_finite=False, lapack_driver="gesdd")
    except linalg.LinAlgError:
        u, s, vh = linalg.svd(matrix, full_matrices=False, check_finite=False, lapack_driver="gesvd")
    largest = np.take_along_axis(u, np.abs(u).argmax(axis=0)[None], axis=0)[0]
    sign = np.where(largest < 0, np.float32(-1), np.float32(1))
    u *= sign
    vh *= sign[:, None]
    return u, s, vh
