"""Logarithmic levels: powers of two, or the steps of mu-law."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Context, Decimal
from functools import lru_cache
from typing import ClassVar, Literal

import numpy as np

from bale.compressors.quantizers.groups import Groups
from bale.compressors.quantizers.levels import Levels, Scaled
from bale.compressors.settings import setting
from bale.spec import TensorSpec


@dataclass(frozen=True)
class Log(Scaled):
    """Levels whose steps grow with the magnitude: powers of two, or mu-law.

    Groups and scales are those of `int`, with ``s = max|x|``. With ``n = 2^(bits-1) - 1`` the levels are 0 and, with
    either sign, ``2^(k-n)`` for k = 1 to n; or, given mu, ``((1 + mu)^(k/n) - 1) / mu``. x becomes the k, with the sign
    of x, whose level is nearest to ``x / s``, and comes back as level times s.

    Parts: ``qdata``, k modulo 2^bits; ``scale``, one for each group, F16, or F32 for the whole tensor when one would
    not be a normal F16.

    Error, with the stored scale: for powers of two ``|x - x'| <= max(|x| / 3, 2^-n s)``; given mu ``|x - x'| <= (q - 1)
    (|x| + s / mu) / 2`` with ``q = (1 + mu)^(1/n)``. Plus rounding to the tensor's dtype.

    Use it for values that spread over many orders of magnitude, where relative errors count: gradients and first
    moments; with 8 bits and mu = 255 about 38 dB on normal weights, and the relative error is 2 % almost down to s /
    255. Powers of two are for hardware that shifts: on weights they are worse than `int` with the same bits. Not for
    second moments (`positive`). About 280 M weights/s encoding, 800 M
    decoding.

    Powers of two: Miyashita et al. 2016 (arXiv:1603.01025); mu-law: ITU-T G.711, without its straight pieces.

    >>> x = Values(TensorSpec("F32", (1, 4)), np.array([[0.01, -0.3, 0, 1]], np.float32))
    >>> parts = Log(bits=4).encode(x)
    >>> parts["qdata"].array.tolist()
    [[1, 11, 0, 7]]
    >>> Log(bits=4).decode(parts, x.spec).tolist()
    [[0.015625, -0.25, 0.0, 1.0]]
    """

    name: ClassVar[str] = "log"

    bits: int = setting(8, low=2, high=8, help="bits of a code")
    group: int | Literal["row", "column", "tensor"] = setting(
        "row", low=1, help="elements that share a scale: a row (first dimension), a column, a number of them, or all"
    )
    mu: float | None = setting(None, low=1, high=1e9, help="growth of the steps, in mu-law; powers of two if not set")

    @property
    def levels(self) -> Levels:
        """Levels of both signs."""
        return _levels(self.bits, self.mu)

    @property
    def width(self) -> int:
        """Bits of a code."""
        return self.bits

    def groups(self, spec: TensorSpec) -> Groups:
        """Rows, groups, or all."""
        return Groups.of(spec, self.group)


@lru_cache(maxsize=8)
def _levels(bits: int, mu: float | None) -> Levels:
    n = 2 ** (bits - 1) - 1
    if mu is None:
        values = np.ldexp(1.0, np.arange(1, n + 1) - n)
    else:
        exact = Context(prec=40)  # rounds its powers correctly, so that the table is the same on every machine
        base = Decimal(mu) + 1
        powers = [exact.power(base, exact.divide(Decimal(k), Decimal(n))) for k in range(1, n + 1)]
        values = np.array([float(exact.divide(power - 1, Decimal(mu))) for power in powers])
    return Levels.centered([*-values[::-1], 0.0, *values], n, bits)
