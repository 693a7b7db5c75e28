"""A tensor as a small core, multiplied along each dimension by a thin matrix."""

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
from bale.compressors.lowrank.ranks import FORM, given, trimmed
from bale.compressors.lowrank.truncated import left, squares
from bale.compressors.settings import setting
from bale.spec import Array, TensorSpec

_STALL = 0.01  # A sweep that takes less off the squared error is the last.
_SWEEPS = 10


@dataclass(frozen=True)
class Tucker(Decomposition):
    """Tucker decomposition: a core tensor and one orthonormal matrix for each dimension.

    A tensor of shape ``(n0, n1, ...)`` becomes ``core``, shape ``(r0, r1, ...)``, and ``u0``, ``u1`` ..., shapes ``(n,
    r)``, whose columns are orthonormal; all are primary. A dimension that keeps its full rank has no matrix: it is
    left as it is in the core. With the small dimensions of a kernel kept this is Tucker-2. Dtypes are as for `svd`.

    Exactly one of `rank` (for all dimensions, or all of a smaller one), `ranks` (each, like ``16-32-3-3``), `error` and
    `ratio` says how much is kept. By error or ratio, the core of all ranks is computed, whose slices lose least from
    the end, and slices are taken off, each time the one that costs least for the parameters it saves. The error then
    is what has been taken off, rounding of the parts included as for `svd`.

    Starts from the truncated higher-order SVD, whose squared error is at most as many times the least one as there are
    dimensions, and improves it by higher-order orthogonal iteration until a sweep takes less than 1 % off the squared
    error. Use it for kernels of convolutions with few parameters in the spatial dimensions, and where a small runnable
    layer is wanted. Not for trained weights in general: see `svd`, and the note on each tensor. At most 6 times the
    tensor's float32 size in memory; decoding has the same bits on every machine. Statistics of inputs are
    not used.

    De Lathauwer, De Moor and Vandewalle 2000, doi:10.1137/S0895479896305696 (HOSVD) and doi:10.1137/S0895479898346995
    (HOOI).

    >>> x = Values(TensorSpec("F32", (2, 2, 2)), np.array([[[1, 2], [2, 4]], [[2, 4], [4, 8]]], np.float32))
    >>> parts = Tucker(rank=1).encode(x)
    >>> {name: part.spec.shape for name, part in parts.items()}
    {'core': (1, 1, 1), 'u0': (2, 1), 'u1': (2, 1), 'u2': (2, 1)}
    >>> Tucker(rank=1).decode(parts, x.spec).round(3).tolist()
    [[[1.0, 2.0], [2.0, 4.0]], [[2.0, 4.0], [4.0, 8.0]]]
    """

    name: ClassVar[str] = "tucker"
    targets: ClassVar[tuple[str, ...]] = ("rank", "ranks", "error", "ratio")
    least_ndim: ClassVar[int] = 3

    rank: int | None = setting(None, low=1, help="rank of every dimension, at most its size")
    ranks: str | None = setting(None, form=FORM, help="rank of each dimension")
    error: float | None = setting(None, low=0, high=1, help="relative error in the Frobenius norm, at most")
    ratio: float | None = setting(None, low=0, high=1, help="share of the parameters kept, at most (rank 1 at least)")
    force: bool = setting(False, help="whether factors that take more room than the tensor are accepted")

    @property
    def is_sized(self) -> bool:
        """Whether the ranks are given by hand."""
        return self.rank is not None or self.ranks is not None

    def validate(self, spec: TensorSpec) -> None:
        """Refuse too few dimensions, and ranks that do not fit."""
        super().validate(spec)
        given(self.rank, self.ranks, spec.shape)

    def described(self, spec: TensorSpec) -> str:
        """The ranks."""
        return f"ranks {'-'.join(map(str, given(self.rank, self.ranks, spec.shape) or ()))}"

    def parts(self, spec: TensorSpec) -> tuple[PartBound, ...]:
        """The core, and a matrix for each dimension; of full ranks where they are not known."""
        ranks = given(self.rank, self.ranks, spec.shape)
        core = bound("core", spec, *(ranks or spec.shape))
        factors = (
            bound(f"u{mode}", spec, n, ranks[mode] if ranks else n - 1, optional=not ranks)
            for mode, n in enumerate(spec.shape)
            if (ranks[mode] < n if ranks else n > 1)
        )
        return (core, *factors)

    def search(self, tensor: Array, importance: Importance | None = None) -> Search:
        """HOSVD, once for all ranks where they are not known, then HOOI."""
        shape, norm2 = tensor.shape, squares(tensor)
        by_hand = given(self.rank, self.ranks, shape)
        if by_hand is not None:
            return lambda _: _improved(tensor, [left_of(tensor, *each) for each in enumerate(by_hand)], norm2)
        full = [left_of(tensor, *each) for each in enumerate(shape)]
        core = into_core(tensor, full)

        def search(error2: float | None) -> Candidate:
            ranks = trimmed(core, lambda at: _parameters(at, shape), error2, (self.ratio or 0.0) * tensor.size)
            ranks = _untrimmed(ranks, core.shape, shape)
            return _improved(tensor, [u[:, :r] for u, r in zip(full, ranks, strict=True)], norm2)

        return search

    def product(self, factors: Mapping[str, Array], spec: TensorSpec) -> Array:
        """The core multiplied along each dimension in turn, the first one first."""
        product = factors["core"]
        expected = {f"u{mode}": (n, r) for mode, (n, r) in enumerate(zip(spec.shape, product.shape, strict=False))}
        missing = [mode for mode, name in enumerate(expected) if name not in factors]
        fits = all(
            factors[name].shape == shape and 0 < shape[1] <= shape[0]
            for name, shape in expected.items()
            if name in factors
        )
        fits = fits and all(product.shape[mode] == spec.shape[mode] for mode in missing)
        require(product.ndim == len(spec.shape) and fits, factors, spec)
        for mode, n in enumerate(spec.shape):
            if mode not in missing:
                moved = np.moveaxis(product, mode, 0)
                flat = exact_matmul(factors[f"u{mode}"], moved.reshape(len(moved), -1))
                product = np.moveaxis(flat.reshape(n, *moved.shape[1:]), 0, mode)
        return np.ascontiguousarray(product)


def left_of(tensor: Array, mode: int, rank: int) -> Array:
    """Leading left singular vectors of the unfolding of one dimension; all there are if these are fewer."""
    unfolded = np.moveaxis(tensor, mode, 0).reshape(tensor.shape[mode], -1)
    return left(unfolded, min(rank, *unfolded.shape))


def into_core(tensor: Array, factors: Sequence[Array], but: int | None = None) -> Array:
    """The tensor multiplied by the transposed factors along all dimensions but one."""
    for mode, u in enumerate(factors):
        if mode != but:
            moved = np.moveaxis(tensor, mode, 0)
            flat = u.T @ moved.reshape(len(moved), -1)
            tensor = np.moveaxis(flat.reshape(-1, *moved.shape[1:]), 0, mode)
    return tensor


def _improved(tensor: Array, factors: list[Array], norm2: float) -> Candidate:
    """Orthogonal iteration: each factor in turn is the best for the others. Full ranks are left as they are."""
    cut = [mode for mode, u in enumerate(factors) if u.shape[1] < u.shape[0]]
    factors = [u if mode in cut else np.eye(len(u), dtype=np.float32) for mode, u in enumerate(factors)]
    core = into_core(tensor, factors) if cut else tensor
    error2 = norm2 - squares(core)
    for _ in range(_SWEEPS if len(cut) > 1 else 0):
        before = error2
        for mode in cut:
            factors[mode] = left_of(into_core(tensor, factors, mode), mode, factors[mode].shape[1])
        core = into_core(tensor, factors)
        error2 = norm2 - squares(core)
        if error2 >= (1 - _STALL) * before:
            break
    found = {"core": core} | {f"u{mode}": factors[mode] for mode in cut}
    return Candidate(found, max(error2, 0.0), not cut)


def _parameters(ranks: Sequence[int], shape: Sequence[int]) -> int:
    """Numbers in the core and in all factors, those of full rank included."""
    return math.prod(ranks) + sum(r * n for r, n in zip(ranks, shape, strict=True))


def _untrimmed(ranks: Sequence[int], most: Sequence[int], shape: Sequence[int]) -> tuple[int, ...]:
    """Full ranks where a larger core takes less than the factor that it saves."""
    ranks = list(ranks)
    for mode in sorted(range(len(ranks)), key=lambda at: shape[at]):
        n, r = shape[mode], ranks[mode]
        if most[mode] == n and math.prod(ranks) // r * (n - r) <= n * r:
            ranks[mode] = n
    return tuple(ranks)
