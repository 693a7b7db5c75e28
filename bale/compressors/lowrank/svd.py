"""Low rank: a matrix as the product of two thin ones."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import numpy as np

from bale.compressors.base import PartBound, Values
from bale.compressors.floats import to_float32
from bale.compressors.importance import Importance
from bale.compressors.lowrank.decomposition import Candidate, Decomposition, Search, bound, finite, require, scaled
from bale.compressors.lowrank.matmul import exact_matmul
from bale.compressors.lowrank.truncated import Triplets, truncated_svd, truncated_svd_to
from bale.compressors.lowrank.whitening import Whitening
from bale.compressors.settings import setting
from bale.errors import Refused
from bale.spec import Array, TensorSpec

_AT_ONCE = 512  # Ranks computed together, where the rank is not known.


@dataclass(frozen=True)
class Svd(Decomposition):
    """The best approximation of low rank: the largest singular values, shared evenly by two factors.

    A tensor of shape ``(m, ...)`` is taken as a matrix of m rows and n columns. With W = U S V', truncated to rank r,
    the parts are ``u = U sqrt(S)``, shape ``(m, r)``, and ``vh = sqrt(S) V'``, shape ``(r, n)``, both primary: a
    quantizer that follows codes each of them. They have the tensor's own dtype where that is F16, BF16 or F32, else
    F32. The largest entry of each column of u is positive. `unfold` makes other matrices of tensors with more
    dimensions.

    Exactly one of `rank`, `energy`, `error` and `ratio` says how much is kept; ranks by energy or error are found
    while encoding. Those two bounds hold for the factors as they are stored by this stage, rounding to their dtype
    included; a quantizer that follows adds its own error.

    ``rank=auto`` needs a second layer, as in ``svd:rank=auto+int8/trellis:error=0.01``, and finds the rank that is best
    for both layers together. Ranks 0, 1, 2, 4, 8 ... are tried until two in a row are each worse than the one before,
    then those around the best; each is coded in full, by both layers. Rank 0, with nothing stored of the first layer,
    is one of them, so it never makes things worse than the second layer alone. What is best depends on that:

    - `trellis` with `bits`, which both layers share: the rank with the least error.
    - `trellis` with `error`, `snr` or `step`: the rank with the fewest bits. An error below that of the second layer
      alone is worth nothing, so ranks end where the error is met.
    - quantizers without a target, such as `int`: stored bits, plus half a bit for each element and each doubling of the
      squared error (6.02 dB a bit). Ranks go on as long as that pays, on a merged adapter up to 57 dB.

    Only `positive` may stand before it. The second layer then codes differences of the values themselves, so small ones
    may come back as zero or below after all, which a note says.

    Given statistics of the tensor's inputs (`Values.importance`), what is least is the error of what the matrix puts
    out, not its own: with ``C = L L'`` the mean products of inputs, or their mean squares as a diagonal, ``W - U V`` is
    least times L. Each input gets 3 % of their mean square more, so that directions that were not seen are not lost. On
    MiniLM at half of its parameters this takes 0.6 off the divergence with covariances, a quarter with mean squares.
    Inputs are those of the columns; of the rows, where they only vary there; where they vary along both, the columns'
    averaged over the rows, and mean squares do where covariances are not of all columns. `energy` and `error` still
    bound the plain error, which is larger for the same rank, so ranks become larger. The factors know how they are used
    in turn, for quantizers behind.

    Use it for optimizer second moments, merged adapters and differences to a base, or where factors are wanted. On
    Adam's second moments ``positive:domain=sqrt+svd:rank=auto+trellis:bits=5/trellis:bits=3`` keeps 6 dB more than
    ``trellis:bits=3``; on the difference to a base that an adapter made, ``svd:rank=auto+int8/trellis:error=0.1`` takes
    an eighth of what the trellis takes alone. Not for trained weights in general: at the same size, quantization is 3
    to 9 dB better, which a note on the tensor says.

    Singular vectors are the eigenvectors of the Gram matrix of the shorter side, in float64, which is blind below 1e-8
    of the largest value; where less than a sixth of more than 1024 is wanted, they come from a random sketch with as
    many half steps as bring the error within 1.5 % of the least one (an error that was asked for is met all the same,
    by a slightly higher rank). 4096 x 4096 take 1 s at rank 256 on one core, 15 s for all ranks. Memory is at most 6
    times the float32 size; 6 times the tensor's own where ranks come from a sketch and no second quantizer follows;
    covariances of inputs take some 36 bytes each beside it. Decoding is one product, with the same bits on every
    machine (`exact_matmul`); encoding has the same bits at any number of threads, but with another BLAS it may find
    other, equally good factors.

    Eckart and Young 1936, doi:10.1007/BF02288367; Halko, Martinsson and Tropp 2011, arXiv:0909.4061; statistics of
    inputs: Yuan et al. 2023, arXiv:2312.05821 (mean squares), Wang et al. 2024, arXiv:2403.07378 (covariances).

    >>> x = Values(TensorSpec("F32", (2, 3)), np.array([[1, 2, 3], [2, 4, 6]], np.float32))
    >>> parts = Svd(rank=1).encode(x)
    >>> {name: part.spec.shape for name, part in parts.items()}
    {'u': (2, 1), 'vh': (1, 3)}
    >>> Svd(rank=1).decode(parts, x.spec).round(3).tolist()
    [[1.0, 2.0, 3.0], [2.0, 4.0, 6.0]]
    """

    name: ClassVar[str] = "svd"
    uses_covariance: ClassVar[bool] = True
    targets: ClassVar[tuple[str, ...]] = ("rank", "energy", "error", "ratio")

    rank: int | Literal["auto"] | None = setting(None, low=1, help="singular values kept; auto with a second layer")
    energy: float | None = setting(None, low=0, high=1, help="share of the sum of squares kept, at least")
    error: float | None = setting(None, low=0, high=1, help="relative error in the Frobenius norm, at most")
    ratio: float | None = setting(None, low=0, high=1, help="share of the parameters kept, at most (rank 1 at least)")
    force: bool = setting(False, help="whether factors that take more room than the tensor are accepted")
    unfold: Literal["rows", "in", "spatial"] = setting(
        "rows",
        help="the matrix: first dimension by the rest, second by the rest, or (out kh) by (in kw) of a kernel",
    )

    def validate(self, spec: TensorSpec) -> None:
        """Refuse what is not a matrix of floating-point numbers, or has fewer rows or columns than `rank`."""
        super().validate(spec)
        if self.unfold == "spatial" and len(spec.shape) != 4:
            raise Refused(f"{len(spec.shape)} dimensions, unfold=spatial takes 4")
        m, n = self._matrix(spec.shape)[1]
        if isinstance(self.rank, int) and self.rank > min(m, n):
            raise Refused(f"rank {self.rank} is more than a matrix of {m} x {n} has")

    @property
    def allowed_energy(self) -> float | None:
        """The share that `energy` leaves over, or `error` squared."""
        return super().allowed_energy if self.energy is None else 1 - self.energy

    @property
    def is_sized(self) -> bool:
        """Whether the rank is given, or the share of the parameters."""
        return isinstance(self.rank, int) or self.ratio is not None

    @property
    def finds_rank(self) -> bool:
        """Whether the rank is chosen by what a second layer makes of the residual."""
        return self.rank == "auto"

    def described(self, spec: TensorSpec) -> str:
        """The rank."""
        return f"rank {self._most(*self._matrix(spec.shape)[1])}"

    def parts(self, spec: TensorSpec) -> tuple[PartBound, ...]:
        """Both factors, of the rank given or else of full rank."""
        m, n = self._matrix(spec.shape)[1]
        r = self._most(m, n)
        return bound("u", spec, m, r), bound("vh", spec, r, n)

    def encode(self, values: Values) -> dict[str, Values]:
        """The factors and their importance. Errors are those of `Decomposition.encode`."""
        return self.shared(super().encode(values), values)

    def shared(self, parts: Mapping[str, Values], values: Values) -> dict[str, Values]:
        """Factors with their importance, where that of the tensor is known."""
        whitening = self.whitening(values.importance, values.spec.shape)
        if whitening is None or not parts:
            return dict(parts)
        u, vh = (to_float32(parts[name].array, parts[name].spec) for name in ("u", "vh"))
        if whitening.columns:
            of_u, of_vh = whitening.shared(u, vh)
        else:
            of_vh, of_u = (importance.transposed((1, 0)) for importance in whitening.shared(vh.T, u.T))
        return {"u": replace(parts["u"], importance=of_u), "vh": replace(parts["vh"], importance=of_vh)}

    def whitening(self, importance: Importance | None, shape: tuple[int, ...]) -> Whitening | None:
        """Whitening for the matrix that a tensor of this shape becomes."""
        if importance is None or importance.second_moment.ndim != len(shape):
            return None
        order = self._matrix(shape)[0]
        rows = 2 if self.unfold == "spatial" else 1
        return Whitening.of(importance.transposed(order), [shape[axis] for axis in order], rows)

    def search(self, tensor: Array, importance: Importance | None = None) -> Search:
        """Singular triplets, of which more are computed when they are needed."""
        matrix, whitening = self._unfolded(tensor), self.whitening(importance, tensor.shape)
        most = min(self._most(*matrix.shape), *matrix.shape)
        if self.allowed_energy is None:
            known = truncated_svd(matrix, most, whitening)
            return lambda _: Candidate(_factors(known, most), float(known.tails[-1]), True)
        found: Triplets | None = None

        def search(error2: float | None) -> Candidate:
            nonlocal found
            allowed = error2 or 0.0
            if found is None or not (found.whole or found.tails[-1] <= allowed):
                found = truncated_svd_to(matrix, allowed, whitening)
            fits = found.tails <= allowed
            r = max(1, int(np.argmax(fits)) if fits.any() else found.s.size)
            return Candidate(_factors(found, r), float(found.tails[r]), r == min(matrix.shape))

        return search

    def product(self, factors: Mapping[str, Array], spec: TensorSpec) -> Array:
        """Product of the factors."""
        order, (m, n) = self._matrix(spec.shape)
        u, vh = factors["u"], factors["vh"]
        require(u.ndim == vh.ndim == 2 and u.shape == (m, len(vh)) and vh.shape[1] == n, factors, spec)
        product = exact_matmul(u, vh).reshape([spec.shape[axis] for axis in order])
        return np.ascontiguousarray(product.transpose(np.argsort(order)))

    def ranked(self, values: Values) -> Ranks:
        """The factors of every rank, from one decomposition as far as that reaches."""
        return Ranks(self, values)

    def _most(self, m: int, n: int) -> int:
        """The rank, or the largest that it can turn out to be."""
        if isinstance(self.rank, int):
            return self.rank
        if self.ratio is not None:
            return max(1, math.floor(self.ratio * m * n / (m + n)))
        return min(m, n)

    def _matrix(self, shape: tuple[int, ...]) -> tuple[list[int], tuple[int, int]]:
        """The order that the dimensions are taken in, and the shape of the matrix that they make."""
        order, rows = list(range(len(shape))), 1
        if self.unfold == "in":
            order[:2] = [1, 0]
        elif self.unfold == "spatial":
            order, rows = [0, 2, 1, 3], 2
        sizes = [shape[axis] for axis in order]
        return order, (math.prod(sizes[:rows]), math.prod(sizes[rows:]))

    def _unfolded(self, tensor: Array) -> Array:
        order, shape = self._matrix(tensor.shape)
        return tensor.transpose(order).reshape(shape)


class Ranks:
    """The factors of a tensor at any rank, computed as far as they are asked for."""

    def __init__(self, codec: Svd, values: Values) -> None:
        tensor, self._exponent = scaled(finite(values))
        self._codec, self._spec, self._matrix = codec, values.spec, codec._unfolded(tensor)
        self._values, self._whitening = values, codec.whitening(values.importance, values.spec.shape)
        self._found: Triplets | None = None
        self.most = min(self._matrix.shape)

    def parts(self, rank: int) -> dict[str, Values]:
        """The factors as they are stored."""
        if self._found is None or self._found.s.size < rank:
            self._found = truncated_svd(self._matrix, min(self.most, max(4 * rank, _AT_ONCE)), self._whitening)
        parts = self._codec.stored(_factors(self._found, rank), self._exponent, self._spec)
        return self._codec.shared(parts, self._values)


def _factors(found: Triplets, rank: int) -> dict[str, Array]:
    root = np.sqrt(found.s[:rank]).astype(np.float32)
    return {"u": found.u[:, :rank] * root, "vh": found.vh[:rank] * root[:, None]}
