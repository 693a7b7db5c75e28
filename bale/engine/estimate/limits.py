"""What a budget leaves to the tensors that it chooses for, once all else is counted."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import ceil, sqrt

from bale.engine.estimate.curves import opened
from bale.engine.estimate.fixed import Fixed, stored_bytes
from bale.engine.estimate.overhead import folded_skeleton, most_overhead
from bale.engine.resolved import ResolvedFile
from bale.errors import UsageError
from bale.notes import enough
from bale.notes import size as in_words
from bale.planning.allocate import Item, errors2, sizes, solve_error, solve_size
from bale.planning.budget import ALLOW_MORE, Budget
from bale.spec import Array

UNSPENT = 1e-3  # share of the bytes from which on steps cannot use more
_SURE = 1.02  # times the size without loss that a sample says: it may take more


@dataclass(frozen=True)
class Beside:
    """What counts beside the files that are coded.

    Attributes
    ----------
    source, stored : int
        Bytes of other files: in the source, and in the compressed folder.
    excess : int
        Bytes by which what was made with this budget before was above it.
    times : float
        Share of a number of bits, or of an error, that may be used, after what was made before was above it.
    """

    source: int = 0
    stored: int = 0
    excess: int = 0
    times: float = 1.0


def most_bytes(budget: Budget | None, sizes: Iterable[int], beside: Beside) -> int | None:
    """Bytes that all that is stored may take, by the sizes of the files that are coded; None for no limit."""
    if budget is None or budget.key != "max_size":
        return None
    return budget.limit(sum(sizes) + beside.source)


class Limits:
    """Bytes, or squared error, for items; all limits are for those that are given, beside what is `fixed`."""

    def __init__(self, budget: Budget, beside: Beside, files: Sequence[ResolvedFile]) -> None:
        self._budget, self._beside = budget, beside
        self._value = 0.0 if budget.key == "max_size" else budget.value * beside.times
        if budget.key != "max_size":
            return
        most = most_bytes(budget, (file.checkpoint.size for file in files), beside)
        assert most is not None
        self._most, self._around = most - beside.excess, beside.stored
        for file in files:
            with opened(file) as source:
                self._around += most_overhead(file, folded_skeleton(source))

    def size(self, items: Sequence[Item], fixed: Fixed) -> float:
        """Bytes that the items may take."""
        if self._budget.key == "bits":
            lossy = fixed.lossy
            elements = sum(item.elements for item in items) + sum(stored.unit.spec.elements for stored in lossy)
            return self._value / 8 * elements - sum(map(stored_bytes, lossy))
        return self._most - self._around - fixed.size

    def error2(self, items: Sequence[Item], fixed: Fixed) -> float:
        """Squared error that the items may have."""
        norm2 = sum(item.norm2 for item in items) + sum(sums.norm2 for sums in fixed.sums)
        return self._value**2 * norm2 - sum(sums.error2 for sums in fixed.sums)

    def fits_lossless(self, least: float, fixed: Fixed) -> bool:
        """Whether items may fit that take about this without loss."""
        return least <= _SURE * self.size([], fixed)

    def common_step(self, items: Sequence[Item], factors: Array, fixed: Fixed) -> float:
        """The step (its logarithm) of all items, less their factors, with which they meet the budget.

        Raises
        ------
        UsageError
            Where there is none, with the least that can be reached.
        """
        if self._budget.key == "mean_error":
            return self._step_of_error(items, factors, fixed)
        limit = self.size(items, fixed) * (1 + 1e-9)
        found = solve_size(items, factors, limit) if items else 0.0
        if found is None or limit < 0:
            raise self._too_small(items, fixed)
        return found

    def _step_of_error(self, items: Sequence[Item], factors: Array, fixed: Fixed) -> float:
        limit2, lost2 = self.error2(items, fixed), sum(sums.error2 for sums in fixed.sums)
        if limit2 <= 0 < lost2:
            error = self._value * sqrt(lost2 / (limit2 + lost2))
            raise UsageError(
                f"{self._budget.origin} cannot be met: by the rules alone it is {error:.3g}",
                "change the rules, or allow more",
            )
        return solve_error(items, factors, limit2) if items else 0.0

    def exact_ones(self, items: Sequence[Item], steps: Sequence[float], fixed: Fixed) -> list[bool]:
        """Whether each item is better lossless: where that is no larger, or there is more room than steps can use."""
        if self._budget.key == "mean_error" and (too_lossy := self._most_lossy(items, steps, fixed)) is not None:
            return [number == too_lossy for number in range(len(items))]
        used = sizes(items, steps)
        found = [size >= item.lossless for item, size in zip(items, used, strict=True)]
        if any(found) or self._budget.key != "max_size":
            return found
        room = self.size(items, fixed) - used.sum()
        if room < UNSPENT * used.sum():
            return found
        more = [item.lossless - size for item, size in zip(items, used, strict=True)]
        for number in sorted(range(len(items)), key=more.__getitem__):
            if _SURE * more[number] + (_SURE - 1) * items[number].lossless < room:
                found[number], room = True, room - more[number]
        return found

    def _most_lossy(self, items: Sequence[Item], steps: Sequence[float], fixed: Fixed) -> int | None:
        """The item that loses most, if even the finest steps lose more than they may together."""
        lost2 = errors2(items, steps)
        if lost2.sum() <= self.error2(items, fixed) * (1 + 1e-6):
            return None
        return int(lost2.argmax())

    def _too_small(self, items: Sequence[Item], fixed: Fixed) -> UsageError:
        least = sum(item.least + item.side for item in items)
        if self._budget.key == "bits":
            lossy = fixed.lossy
            least += sum(map(stored_bytes, lossy))
            elements = sum(item.elements for item in items) + sum(each.unit.spec.elements for each in lossy)
            found = f"the least is {ceil(800 * least / elements) / 100:g}{', with what rules choose' if lossy else ''}"
            return UsageError(f"{self._budget.origin} cannot be met: {found}")
        least += self._around + fixed.size + self._beside.excess
        held, largest = "", fixed.largest
        if largest is not None:
            most = f"{largest.unit.label} ({in_words(stored_bytes(largest))})"
            held = f"; {in_words(fixed.size)} of it are chosen otherwise, the most for {most}"
        return UsageError(
            f"{self._budget.origin} cannot be met: the least is {enough(least)}{held}",
            ALLOW_MORE,
        )
