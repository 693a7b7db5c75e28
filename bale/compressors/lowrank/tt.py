"""A tensor as a train of small tensors, each joined to the next."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from bale.compressors.base import PartBound
from bale.compressors.importance import Importance
from bale.compressors.lowrank.decomposition import Candidate, Decomposition, Search, bound, require
from bale.compressors.lowrank.matmul import exact_matmul
from bale.compressors.lowrank.ranks import FORM, given
from bale.compressors.lowrank.truncated import Triplets, squares, truncated_svd, truncated_svd_to
from bale.compressors.settings import setting
from bale.spec import Array, TensorSpec

_HALVINGS = 12


@dataclass(frozen=True)
class Tt(Decomposition):
    """Tensor train: one core for each dimension, each joined to the next by a rank.

    A tensor of shape ``(n0, n1, ..., nd)`` becomes ``g0``, shape ``(n0, r1)``, ``g1``, shape ``(r1, n1, r2)``, and so
    on to ``(rd, nd)``; its element is the product of a row, matrices and a column that its indices choose. All are
    primary; dtypes are as for `svd`.

    Exactly one of `rank` (for all joints, or as many as there are), `ranks` (each of them: for 4 dimensions three, like
    ``16-32-3``), `error` and `ratio` says how much is kept. Each rank is found by an SVD of what the cores before leave
    over; the squared error is the sum of theirs, of which each gets an equal share of what is left. It is at most the
    number of joints times the least one for these ranks. Rounding of the parts is included in `error` as for `svd`;
    `ratio` halves the interval of the squared error until the parameters fit; as all ranks move together, less than
    half of what is allowed may be used where that is little.

    Use it for tensors of many dimensions. For kernels of convolutions `tucker` is as good or better, and for trained
    weights in general quantization is, as a note on the tensor says. At most 6 times the tensor's float32 size
    in memory; decoding has the same bits on every machine. Statistics of inputs are
    not used.

    Oseledets 2011, doi:10.1137/090752286, algorithm 1.

    >>> x = Values(TensorSpec("F32", (2, 2, 2)), np.array([[[1, 2], [2, 4]], [[2, 4], [4, 8]]], np.float32))
    >>> parts = Tt(rank=1).encode(x)
    >>> {name: part.spec.shape for name, part in parts.items()}
    {'g0': (2, 1), 'g1': (1, 2, 1), 'g2': (1, 2)}
    >>> Tt(rank=1).decode(parts, x.spec).round(3).tolist()
    [[[1.0, 2.0], [2.0, 4.0]], [[2.0, 4.0], [4.0, 8.0]]]
    """

    name: ClassVar[str] = "tt"
    targets: ClassVar[tuple[str, ...]] = ("rank", "ranks", "error", "ratio")
    least_ndim: ClassVar[int] = 3

    rank: int | None = setting(None, low=1, help="rank of every joint, at most what it can be")
    ranks: str | None = setting(None, form=FORM, help="rank of each joint")
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
        given(self.rank, self.ranks, _largest(spec.shape))

    def described(self, spec: TensorSpec) -> str:
        """The ranks."""
        return f"ranks {'-'.join(map(str, given(self.rank, self.ranks, _largest(spec.shape)) or ()))}"

    def parts(self, spec: TensorSpec) -> tuple[PartBound, ...]:
        """The cores, of the largest ranks where they are not known."""
        most = _largest(spec.shape)
        shapes = _shapes(spec.shape, given(self.rank, self.ranks, most) or most)
        return tuple(bound(f"g{at}", spec, *shape) for at, shape in enumerate(shapes))

    def search(self, tensor: Array, importance: Importance | None = None) -> Search:
        """TT-SVD; the first and largest SVD is not made again."""
        by_hand = given(self.rank, self.ranks, _largest(tensor.shape))
        if by_hand is not None:
            return lambda _: _train(tensor, by_hand, 0.0)
        if self.ratio is None:
            return lambda error2: _train(tensor, None, error2 or 0.0)
        limit = self.ratio * tensor.size
        return lambda _: _largest_within(tensor, limit)

    def product(self, factors: Mapping[str, Array], spec: TensorSpec) -> Array:
        """The cores multiplied in turn, the first one first."""
        cores = [factors[f"g{at}"] for at in range(len(spec.shape))]
        ranks = tuple(core.shape[0] if core.ndim else 0 for core in cores[1:])
        fits = all(0 < r <= most for r, most in zip(ranks, _largest(spec.shape), strict=True))
        require(fits and [core.shape for core in cores] == _shapes(spec.shape, ranks), factors, spec)
        product = cores[0]
        for core in cores[1:]:
            joined = exact_matmul(product, core.reshape(len(core), -1))
            product = joined.reshape(-1, core.shape[-1]) if core.ndim == 3 else joined
        return product.reshape(spec.shape)


def _largest(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The ranks that joints can have."""
    return tuple(min(math.prod(shape[:at]), math.prod(shape[at:])) for at in range(1, len(shape)))


def _shapes(shape: tuple[int, ...], ranks: tuple[int, ...]) -> list[tuple[int, ...]]:
    middle = [(ranks[at - 1], shape[at], ranks[at]) for at in range(1, len(shape) - 1)]
    return [(shape[0], ranks[0]), *middle, (ranks[-1], shape[-1])]


def _train(tensor: Array, ranks: tuple[int, ...] | None, error2: float, first: Triplets | None = None) -> Candidate:
    """Cores of these ranks, or of those that keep the squared error within `error2`."""
    cores, lost, rank, most = {}, 0.0, 1, True
    rest, last = tensor, tensor.ndim - 1
    for at, n in enumerate(tensor.shape[:-1]):
        matrix = rest.reshape(rank * n, -1)
        allowed = max(0.0, error2 - lost) / (last - at)
        if ranks is not None:
            found = truncated_svd(matrix, min(ranks[at], *matrix.shape))
            r = found.s.size
        else:
            found = first if at == 0 and first is not None else truncated_svd_to(matrix, allowed)
            fits = found.tails <= allowed
            r = max(1, int(np.argmax(fits)) if fits.any() else found.s.size)
        lost += float(found.tails[r])
        most = most and r == min(matrix.shape)
        u = found.u[:, :r]
        cores[f"g{at}"] = u.reshape(rank, n, r) if at else u
        rest, rank = found.vh[:r] * found.s[:r, None].astype(np.float32), r
        del found, matrix
    cores[f"g{last}"] = rest
    return Candidate(cores, lost, most)


def _largest_within(tensor: Array, limit: float) -> Candidate:
    """The train with the least error found that has at most `limit` parameters, else that of ranks 1."""
    matrix = tensor.reshape(tensor.shape[0], -1)
    first = truncated_svd(matrix, min(matrix.shape))
    low, high = -40.0, 0.0  # log2 of the share of the squared error
    best = _train(tensor, (1,) * (tensor.ndim - 1), 0.0)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        found = _train(tensor, None, 2.0**middle * squares(tensor), first)
        if sum(core.size for core in found.factors.values()) > limit:
            low = middle
        else:
            high = middle
            best = found
    return best
