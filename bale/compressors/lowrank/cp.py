"""A tensor as a sum of products of vectors."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from bale.compressors.base import PartBound
from bale.compressors.importance import Importance
from bale.compressors.lowrank.decomposition import Candidate, Decomposition, Search, bound, require
from bale.compressors.lowrank.matmul import exact_matmul
from bale.compressors.lowrank.truncated import left, squares
from bale.compressors.settings import setting
from bale.errors import Refused
from bale.spec import Array, TensorSpec

_STALL = 1e-3  # A sweep that takes less off the squared error is the last.
_SWEEPS = 100
_RIDGE = 1e-9  # of the mean of the diagonal: keeps normal equations solvable and factors from growing.
_BLOCK = 1 << 18  # Elements of the product worked on at a time.


@dataclass(frozen=True)
class Cp(Decomposition):
    """Canonical polyadic decomposition: a sum of outer products of one vector for each dimension.

    A tensor of shape ``(n0, n1, ...)`` becomes ``a0``, ``a1`` ..., shapes ``(n, r)``: its element is the sum over the
    columns of the products of the rows that its indices choose. All are primary and of like size; dtypes are as for
    `svd`.

    Exactly one of `rank`, `error` and `ratio` says how much is kept. Alternating least squares starts from leading
    singular vectors (filled up with seeded Gaussian ones) and from Gaussian ones alone, as often as `starts` says, and
    ends when a sweep takes less than 0.1 % off the squared error, or after 100 sweeps; the best of all starts is kept.
    There is no promise that it is the best there is: a best one need not even exist. For an error the rank grows from
    1 by half each time until the bound is met; it is refused when the parameters would be as many as the tensor's. The
    bound holds for the parts as they are stored, as for `svd`.

    Use it for small kernels, where very few terms are wanted. Not for a small error, which takes more terms than
    `tucker` parameters, and time: a sweep takes ``2 d r`` multiplications an element, so minutes for a kernel of 512 x
    512 x 3 x 3 at a rank of hundreds. Decoding has the same bits on every machine. Statistics of inputs are not
    used.

    Hitchcock 1927, doi:10.1002/sapm192761164; Carroll and Chang 1970, doi:10.1007/BF02310791 (the iteration).

    >>> x = Values(TensorSpec("F32", (2, 2, 2)), np.array([[[1, 2], [2, 4]], [[2, 4], [4, 8]]], np.float32))
    >>> parts = Cp(rank=1).encode(x)
    >>> {name: part.spec.shape for name, part in parts.items()}
    {'a0': (2, 1), 'a1': (2, 1), 'a2': (2, 1)}
    >>> Cp(rank=1).decode(parts, x.spec).round(3).tolist()
    [[[1.0, 2.0], [2.0, 4.0]], [[2.0, 4.0], [4.0, 8.0]]]
    """

    name: ClassVar[str] = "cp"
    targets: ClassVar[tuple[str, ...]] = ("rank", "error", "ratio")
    least_ndim: ClassVar[int] = 3

    rank: int | None = setting(None, low=1, help="terms of the sum")
    error: float | None = setting(None, low=0, high=1, help="relative error in the Frobenius norm, at most")
    ratio: float | None = setting(None, low=0, high=1, help="share of the parameters kept, at most (rank 1 at least)")
    starts: int = setting(2, low=1, high=100, help="starting points tried")
    force: bool = setting(False, help="whether factors that take more room than the tensor are accepted")

    @property
    def is_sized(self) -> bool:
        """Whether the rank is given, or the share of the parameters."""
        return self.error is None

    def validate(self, spec: TensorSpec) -> None:
        """Refuse too few dimensions, and a rank that no tensor of this shape needs."""
        super().validate(spec)
        if self.rank is not None and self.rank > spec.elements:
            raise Refused(f"rank {self.rank} is more than {spec} can have")

    def described(self, spec: TensorSpec) -> str:
        """The rank."""
        return f"rank {self._most(spec.shape)}"

    def parts(self, spec: TensorSpec) -> tuple[PartBound, ...]:
        """A matrix for each dimension."""
        return tuple(bound(f"a{mode}", spec, n, self._most(spec.shape)) for mode, n in enumerate(spec.shape))

    def search(self, tensor: Array, importance: Importance | None = None) -> Search:
        """Alternating least squares, at growing ranks where the error decides."""
        most = self._most(tensor.shape)
        if self.error is None:
            return lambda _: self._best(tensor, most)

        def search(error2: float | None) -> Candidate:
            rank = 1
            while True:
                found = self._best(tensor, min(rank, most))
                if found.error2 <= (error2 or 0.0) or found.is_full:
                    return found
                rank += (rank + 1) // 2

        return search

    def product(self, factors: Mapping[str, Array], spec: TensorSpec) -> Array:
        """Rows of the first factor times the products of rows of the others, these in float32, the last ones last."""
        found = [factors[f"a{mode}"] for mode in range(len(spec.shape))]
        rank = found[0].shape[-1] if found[0].ndim else 0
        fits = rank > 0 and [a.shape for a in found] == [(n, rank) for n in spec.shape]
        require(fits, factors, spec)
        product = np.empty((spec.shape[0], spec.elements // spec.shape[0]), np.float32)
        rest = math.prod(spec.shape[2:])
        step = max(1, _BLOCK // (rest * rank))
        for start in range(0, spec.shape[1], step):
            rows = [found[1][start : start + step], *found[2:]]
            at = slice(start * rest, (start + step) * rest)
            product[:, at] = exact_matmul(found[0], _row_products(rows).T)
        return product.reshape(spec.shape)

    def _most(self, shape: Sequence[int]) -> int:
        """The rank, or the largest that it can turn out to be."""
        if self.rank is not None:
            return self.rank
        share = 1.0 if self.ratio is None else self.ratio
        return max(1, math.floor(share * math.prod(shape) / sum(shape)))

    def _best(self, tensor: Array, rank: int) -> Candidate:
        norm2 = squares(tensor)
        found = [_alternated(tensor, _start(tensor, rank, number), norm2) for number in range(self.starts)]
        error2, factors = min(found, key=lambda each: each[0])
        even = dict(zip((f"a{mode}" for mode in range(tensor.ndim)), factors, strict=True))
        return Candidate(even, error2, rank >= self._most(tensor.shape))


def _start(tensor: Array, rank: int, number: int) -> list[Array]:
    """Starting factors: of the first start, singular vectors as far as there are any."""
    random = np.random.Generator(np.random.PCG64(number))
    factors = []
    for mode, n in enumerate(tensor.shape):
        factor = random.standard_normal((n, rank), np.float32) / np.float32(math.sqrt(n))
        if number == 0:
            unfolded = np.moveaxis(tensor, mode, 0).reshape(n, -1)
            known = left(unfolded, min(rank, *unfolded.shape))
            factor[:, : known.shape[1]] = known
        factors.append(factor)
    return factors


def _alternated(tensor: Array, factors: list[Array], norm2: float) -> tuple[float, list[Array]]:
    """Least squares for each factor in turn; the squared error, and the factors with columns of equal norm."""
    rank, error2 = factors[0].shape[1], math.inf
    for _ in range(_SWEEPS):
        now, found = factors, 0.0
        for mode in range(tensor.ndim):
            weights = _gram(now, mode)
            weights[np.diag_indices(rank)] += _RIDGE * np.trace(weights) / rank + 1e-30
            target = _projected(tensor, now, mode)
            solved = np.linalg.solve(weights, target.T).T.astype(np.float32)
            now = [*now[:mode], solved, *now[mode + 1 :]]
            found = norm2 - 2 * float(np.sum(target * solved)) + float(np.sum(_gram(now, -1)))
            now = _even(now)
        if found >= (1 - _STALL) * error2:
            break
        factors, error2 = now, max(found, 0.0)
    return error2, factors


def _gram(factors: Sequence[Array], but: int) -> Array:
    """Product over all factors but one of their Gram matrices, float64."""
    rank = factors[0].shape[1]
    product = np.ones((rank, rank))
    for mode, factor in enumerate(factors):
        if mode != but:
            wide = factor.astype(np.float64)
            product *= wide.T @ wide
    return product


def _projected(tensor: Array, factors: Sequence[Array], mode: int) -> Array:
    """The unfolding of one dimension times the products of rows of the other factors: float64, ``(n, rank)``."""
    others = [factor for at, factor in enumerate(factors) if at != mode]
    moved = np.moveaxis(tensor, mode, 0)
    total = np.zeros((len(moved), factors[0].shape[1]))
    rest = math.prod(moved.shape[2:])
    step = max(1, tensor.size // (rest * total.shape[1]))
    for start in range(0, moved.shape[1], step):
        rows = _row_products([others[0][start : start + step], *others[1:]])
        total += moved[:, start : start + step].reshape(len(moved), -1) @ rows
    return total


def _row_products(factors: Sequence[Array]) -> Array:
    """Products of all combinations of rows, the last factor's rows changing fastest; factor by factor."""
    product = factors[0]
    for factor in factors[1:]:
        product = (product[:, None] * factor[None]).reshape(-1, factor.shape[1])
    return product


def _even(factors: Sequence[Array]) -> list[Array]:
    """The same terms, their sizes shared evenly by all factors."""
    norms = np.sqrt([np.einsum("ij,ij->j", factor, factor, dtype=np.float64) for factor in factors])
    with np.errstate(divide="ignore"):
        size = np.exp(np.log(norms).mean(axis=0))
    scales = size / np.where(norms > 0, norms, 1)
    return [(factor * scale).astype(np.float32) for factor, scale in zip(factors, scales, strict=True)]
