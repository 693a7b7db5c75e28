"""Ranks as text, ``16-32-3-3``, and the ranks that a core can be trimmed to."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from bale.errors import Refused
from bale.spec import Array

FORM = (r"[1-9][0-9]{0,8}(-[1-9][0-9]{0,8})*", "whole numbers from 1, joined by -")
Cost = Callable[[Sequence[int]], int]


def given(rank: int | None, ranks: str | None, most: Sequence[int]) -> tuple[int, ...] | None:
    """Ranks given by hand: one for all, capped at each one's maximum, or each; None if they are not given.

    Raises
    ------
    Refused
        When they are not as many, or one is larger than it can be.
    """
    if rank is not None:
        return tuple(min(rank, limit) for limit in most)
    if ranks is None:
        return None
    found = tuple(map(int, ranks.split("-")))
    if len(found) != len(most) or any(r > limit for r, limit in zip(found, most, strict=True)):
        raise Refused(f"ranks {ranks} are not up to {'-'.join(map(str, most))}")
    return found


def trimmed(core: Array, cost: Cost, error2: float | None, most_cost: float) -> tuple[int, ...]:
    """Ranks at which a core, whose last slices of each mode count least, can be cut off.

    From the full core one slice at a time is taken off: that which takes the least squared error for what it saves. It
    ends before the squared error exceeds `error2`, or, given None, as soon as the cost is `most_cost` or less.
    """
    energy = np.square(core, dtype=np.float64)
    for axis in range(core.ndim):
        np.cumsum(energy, axis=axis, out=energy)
    total = float(energy.flat[-1])
    ranks = list(core.shape)

    def kept(at: Sequence[int]) -> float:
        return float(energy[tuple(r - 1 for r in at)])

    while error2 is not None or cost(ranks) > most_cost:
        best, least = None, np.inf
        for mode, r in enumerate(ranks):
            if r > 1:
                fewer = [*ranks[:mode], r - 1, *ranks[mode + 1 :]]
                lost, saved = kept(ranks) - kept(fewer), cost(ranks) - cost(fewer)
                if (error2 is None or total - kept(fewer) <= error2) and lost / saved < least:
                    best, least = fewer, lost / saved
        if best is None:
            break
        ranks = best
    return tuple(ranks)
