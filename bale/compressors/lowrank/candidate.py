"""Low rank in front of a quantizer as a candidate: for matrices whose spectrum falls fast enough."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from bale.compressors.base import Values
from bale.compressors.candidate import Candidate, Verdict
from bale.compressors.floats import to_float32
from bale.compressors.lowrank.decomposition import scaled
from bale.spec import Array, TensorSpec

_ROWS, _COLUMNS = 512, 2048  # of the part that is looked at
_FACTOR_BITS = 8
_NOTHING = 1e-12  # of all energy: what rounding leaves of a rank that holds all
_GAIN = 0.1  # bits a weight below which it is not worth the time


class LowRankCandidate(Candidate):
    """A rank that a quantizer behind it chooses: ``svd:rank=auto+int8``, and what is left quantized."""

    pipeline: ClassVar[str] = "svd:rank=auto+int8/{}"

    def matches(self, spec: TensorSpec) -> bool:
        """Matrices of floats that are not quantized already; tensors of more dimensions by their rows."""
        if not super().matches(spec) or len(spec.shape) < 2:
            return False
        return min(spec.shape[0], spec.elements // spec.shape[0]) >= 2

    def look(self, values: Values) -> Verdict:
        """Sampled where the spectrum says that it gains `_GAIN` bits a weight at equal error."""
        return Verdict.SAMPLE if spectrum_gain(values) > _GAIN else Verdict.SKIP


def spectrum_gain(values: Values) -> float:
    """Bits a weight that the best rank saves at equal error, as far as the spectrum of a part of the matrix says.

    A quantizer needs ``log2(a) / 2`` bits less for values of ``1 / a`` the variance, and a rank r costs 8 bits for each
    of ``r (m + n)`` numbers of an m by n matrix: reverse water-filling, with all that is cut off as one component
    (Cover and Thomas, Elements of Information Theory, section 10.3.3). At most 512 rows by 2048 columns are looked at,
    whose leading components have a larger share than those of the whole, so that it errs on the side of trying.

    Returns
    -------
    float
        0 where nothing is gained, or where values are not finite.
    """
    rows = values.spec.shape[0]
    matrix = to_float32(values.array, values.spec).reshape(rows, -1)
    m, n = matrix.shape
    part = matrix[:: max(1, -(-m // _ROWS)), :_COLUMNS]
    if not np.isfinite(part).all() or not part.any():
        return 0.0
    energy = _spectrum(scaled(part)[0])
    left = energy.sum() - np.cumsum(energy)[:-1]  # of every rank but the full one
    ranks = np.arange(1, energy.size)
    left = np.maximum(left, _NOTHING * energy.sum())
    gain = 0.5 * np.log2(energy.sum() / left) - _FACTOR_BITS * ranks * (m + n) / (m * n)
    return max(0.0, float(gain.max(initial=0.0)))


def _spectrum(matrix: Array) -> Array:
    """Squared singular values, the largest first."""
    small = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    gram = small.astype(np.float64) @ small.astype(np.float64).T
    return np.asarray(np.maximum(np.linalg.eigvalsh(gram)[::-1], 0.0))
