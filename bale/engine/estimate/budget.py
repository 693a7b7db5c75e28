"""Meets a budget: finds the pipelines with which all tensors together take, or lose, what was asked for."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import compress, groupby
from math import ceil, floor, log10, sqrt
from operator import attrgetter
from pathlib import Path

from bale.compressors.rate_controlled import RateControlled
from bale.engine.estimate.counting import coded
from bale.engine.estimate.curves import LEAST_BITS, Candidate, candidates, opened
from bale.engine.estimate.kinds import kinds_of
from bale.engine.estimate.overhead import folded_skeleton, most_overhead
from bale.engine.inputs import Inputs
from bale.engine.resolved import Met, ResolvedFile
from bale.engine.run import Job, Run
from bale.errors import UsageError
from bale.io.archive.manifest import StoredUnit
from bale.metrics import ErrorSums
from bale.notes import Note, enough
from bale.notes import size as in_words
from bale.planning.allocate import Item, offsets, solve_error, solve_size
from bale.planning.budget import Budget, with_target
from bale.planning.decide import Decision
from bale.spec import Array

_ROUNDS = 5
_UNSPENT = 1e-3  # share of the bytes from which on steps cannot use more
_SURE = 1.02  # times the size without loss that a sample says: it may take more
_DIGITS, _STEP_DIGITS = 5, 4
_STEPS = (1e-38, 1e18)  # that pipelines can name
_NO_LARGER = Note("grows", "without loss it takes no more than the budget gives it")


def meet_budgets(
    files: Sequence[ResolvedFile], run: Run, inputs: Inputs, beside: Beside
) -> tuple[list[ResolvedFile], tuple[Met, ...]]:
    """The same files with the pipelines that meet all budgets of tensors together, those of rules first; and how.

    Rough curves of size and error by the step are made from histograms, the steps are found with which all tensors
    together meet the budget, and size and error with these steps are measured on samples, until they do. Each tensor
    gets its size as a limit beside its step, so that none can break the budget, whatever a sample has said. All else is
    coded, for its exact size.

    Raises
    ------
    UsageError
        Where it cannot be met, with the least that can be reached.
    """
    found, met = list(files), []
    for budget in sorted(_open_budgets(found), key=lambda each: not each.of_rule):
        meeting = _Meeting(budget, found, run, inputs, beside)
        found = meeting.files
        met.append(Met(budget, *meeting.slopes))
    return found, tuple(met)


def _open_budgets(files: Sequence[ResolvedFile]) -> list[Budget]:
    budgets = (decision.budget for file in files for decision in file.plan.decisions)
    return list(dict.fromkeys(each for each in budgets if each is not None and not each.of_each))


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


class _Meeting:
    def __init__(self, budget: Budget, files: list[ResolvedFile], run: Run, inputs: Inputs, beside: Beside) -> None:
        self._budget, self._files, self._run, self._inputs, self._beside = budget, files, run, inputs, beside
        self._decisions = [list(file.plan.decisions) for file in files]
        self._repeated = [_repeated(file.duplicate_of) for file in files]
        self._fixed: dict[tuple[int, int], StoredUnit] = {}  # what the budget does not choose, by file and index
        self._moments: list[Candidate] = []  # which have a pipeline of their own, unless all fits without loss
        self._candidates = self._look()
        self._count_fixed()
        self.slopes = (0.0, 0.0)
        if self._fit_lossless():
            return
        self._add_all(self._moments)
        for _ in range(_ROUNDS):
            if not self._improve(self._steps()):
                break
        steps = self._steps()
        if self._upgrade_moments(steps):
            steps = self._steps()
        self.slopes = self._gains(steps)
        self._choose(steps)

    def _look(self) -> list[Candidate]:
        """The tensors that the budget chooses for; those that cannot be lossy are left."""
        files = self._files
        kinds = kinds_of([file.plan for file in files], Path(files[0].checkpoint.path).parent)
        chosen = [
            (number, index, kinds[id(unit)])
            for number, file in enumerate(files)
            for index, (unit, decision) in enumerate(zip(file.plan.units, file.plan.decisions, strict=True))
            if index not in file.duplicate_of and decision.budget == self._budget
        ]
        has_target = [_has_target(files[number].plan.decisions[index]) for number, index, _ in chosen]
        moments = compress(chosen, (not each for each in has_target))
        self._moments = [
            Candidate(number, index, files[number].plan.units[index], kind) for number, index, kind in moments
        ]
        chosen = list(compress(chosen, has_target))
        found = []
        for each, refusal in candidates(chosen, files, self._run, self._inputs):
            if refusal is not None:
                self._leave(each, Note(refusal.note, refusal.message))
            elif each.curve is not None:
                found.append(each)
        return found

    def _leave(self, each: Candidate, note: Note) -> None:
        """Keep a tensor, and those that repeat it, lossless."""
        self._decide(each, lambda decision: decision.left(note))

    def _decide(self, each: Candidate, change: Callable[[Decision], Decision]) -> None:
        decisions = self._decisions[each.file]
        for index in (each.index, *self._repeated[each.file].get(each.index, ())):
            decisions[index] = change(decisions[index])

    @property
    def files(self) -> list[ResolvedFile]:
        """The files with all that has been decided."""
        return [self._file(number) for number in range(len(self._files))]

    def _file(self, number: int) -> ResolvedFile:
        file = self._files[number]
        return replace(file, plan=replace(file.plan, decisions=tuple(self._decisions[number])))

    # What the budget does not choose

    def _count_fixed(self) -> None:
        chosen = {(each.file, each.index) for each in (*self._candidates, *self._moments)}
        needed = not self._budget.of_rule
        for number, file in enumerate(self._files):
            indices = [
                index
                for index, decision in enumerate(self._decisions[number])
                if needed and index not in file.duplicate_of and (number, index) not in chosen
                if self._budget.key == "max_size" or not decision.pipeline.lossless
            ]
            self._add_fixed(number, indices)
        self._folded = []
        if self._budget.key == "max_size":
            for file in self._files:
                with opened(file) as source:
                    self._folded.append(folded_skeleton(source))

    def _add_fixed(self, number: int, indices: Sequence[int]) -> None:
        if not indices:
            return
        file = self._file(number)
        with opened(file) as source:
            found = coded(file, indices, source, self._run, self._inputs)
        self._fixed.update(zip(((number, index) for index in indices), found, strict=True))

    @property
    def _ruled(self) -> list[StoredUnit]:
        """What is lossy by rules, zeros apart, which come back as they are."""
        return [each for each in self._fixed.values() if each.errors is not None and ErrorSums(*each.errors).error2]

    @property
    def _sums(self) -> list[ErrorSums]:
        return [ErrorSums(*stored.errors) for stored in self._ruled if stored.errors is not None]

    def _fit_lossless(self) -> bool:
        """Keep all candidates and moments lossless, if they fit so."""
        if self._budget.key != "max_size" or not (self._candidates or self._moments):
            return False
        least = sum(each.item.lossless for each in self._candidates)
        least += sum(each.unit.spec.nbytes for each in self._moments) / 2
        if least > _SURE * self._limit([]):
            return False
        decisions = [list(each) for each in self._decisions]
        fixed = dict(self._fixed)
        self._leave_all([*self._candidates, *self._moments])
        if self._limit([]) >= 0:
            return True
        self._decisions, self._fixed = decisions, fixed
        return False

    def _upgrade_moments(self, steps: Sequence[float]) -> bool:
        """Keep moments lossless, the cheapest first, with what steps cannot use; whether any are."""
        if self._budget.key != "max_size" or not self._moments:
            return False
        items = [each.item for each in self._candidates]
        room = self._limit(items) - sum(item.size(step) for item, step in zip(items, steps, strict=True))
        if room < _UNSPENT * sum(map(_bytes, self._fixed.values())):
            return False
        cheapest = sorted(self._moments, key=lambda each: each.unit.spec.nbytes)
        upgraded = []
        for each in cheapest:
            place = each.file, each.index
            before, kept = self._fixed[place], list(self._decisions[each.file])
            self._leave_all([each])
            more = _bytes(self._fixed[place]) - _bytes(before)
            if more > room:
                self._decisions[each.file], self._fixed[place] = kept, before
                break
            room -= more
            upgraded.append(each)
        return bool(upgraded)

    def _leave_all(self, left: Sequence[Candidate]) -> None:
        """Keep some candidates lossless, and count what they take."""
        for each in left:
            self._leave(each, _NO_LARGER)
        if self._budget.key == "max_size":
            self._add_all(left)

    def _add_all(self, some: Sequence[Candidate]) -> None:
        for file, own in groupby(sorted(some, key=attrgetter("file", "index")), key=attrgetter("file")):
            self._add_fixed(file, [each.index for each in own])

    # Finding the steps

    def _steps(self) -> list[float]:
        """The step (its logarithm) of each candidate; those that are no larger without loss are left."""
        while True:
            items = [each.item for each in self._candidates]
            factors = offsets(items, self._budget.weight)
            common = self._common(items, factors)
            steps = [common + float(factor) for factor in factors]
            exact = self._exact_ones(items, [item.size(step) for item, step in zip(items, steps, strict=True)], steps)
            if not any(exact):
                return steps
            left = list(compress(self._candidates, exact))
            self._candidates = [each for each, is_exact in zip(self._candidates, exact, strict=True) if not is_exact]
            self._leave_all(left)

    def _exact_ones(self, items: Sequence[Item], sizes: Sequence[float], steps: Sequence[float]) -> list[bool]:
        """Whether each candidate is lossless: where that is no larger, or there is more room than steps can use."""
        if self._budget.key == "mean_error" and (too_lossy := self._most_lossy(items, steps)) is not None:
            return [number == too_lossy for number in range(len(items))]
        found = [size >= item.lossless for item, size in zip(items, sizes, strict=True)]
        if any(found) or self._budget.key != "max_size":
            return found
        room = self._limit(items) - sum(sizes)
        if room < _UNSPENT * sum(sizes):
            return found
        more = [item.lossless - size for item, size in zip(items, sizes, strict=True)]
        for number in sorted(range(len(items)), key=more.__getitem__):
            if _SURE * more[number] + (_SURE - 1) * items[number].lossless < room:
                found[number], room = True, room - more[number]
        return found

    def _most_lossy(self, items: Sequence[Item], steps: Sequence[float]) -> int | None:
        """The candidate that loses most, if even the finest steps lose more than they may together."""
        lost2 = [item.error2(step) for item, step in zip(items, steps, strict=True)]
        if sum(lost2) <= self._limit2(items) * (1 + 1e-6):
            return None
        return max(range(len(items)), key=lost2.__getitem__)

    def _limit2(self, items: Sequence[Item]) -> float:
        """Squared error that all candidates may have."""
        norm2 = sum(item.norm2 for item in items) + sum(sums.norm2 for sums in self._sums)
        return self._value**2 * norm2 - sum(sums.error2 for sums in self._sums)

    def _common(self, items: Sequence[Item], factors: Array) -> float:
        """The step (its logarithm) of them all, less the factors."""
        if self._budget.key == "mean_error":
            return self._common_of_error(items, factors)
        limit = self._limit(items) * (1 + 1e-9)
        least = sum(item.least + item.side for item in items)
        found = solve_size(items, factors, limit) if items else 0.0
        if found is None or limit < 0:
            raise self._beyond(least, sum(item.elements for item in items))
        return found

    def _common_of_error(self, items: Sequence[Item], factors: Array) -> float:
        limit2, lost2 = self._limit2(items), sum(sums.error2 for sums in self._sums)
        if limit2 <= 0 < lost2:
            error = self._value * sqrt(lost2 / (limit2 + lost2))
            raise UsageError(
                f"{self._budget.origin} cannot be met: by the rules alone it is {error:.3g}",
                "change the rules, or allow more",
            )
        return solve_error(items, factors, limit2) if items else 0.0

    @property
    def _value(self) -> float:
        return self._budget.value * self._beside.times

    def _limit(self, items: Sequence[Item]) -> float:
        """Bytes for what the budget chooses."""
        if self._budget.key == "bits":
            ruled = self._ruled
            elements = sum(item.elements for item in items) + sum(stored.unit.spec.elements for stored in ruled)
            return self._value / 8 * elements - sum(map(_bytes, ruled))
        most = most_bytes(self._budget, (file.checkpoint.size for file in self._files), self._beside)
        assert most is not None
        return most - self._beside.excess - self._other_bytes

    @property
    def _other_bytes(self) -> int:
        """Bytes of all that the budget does not choose."""
        around = sum(most_overhead(file, folded) for file, folded in zip(self._files, self._folded, strict=True))
        return self._beside.stored + around + sum(map(_bytes, self._fixed.values()))

    def _beyond(self, least: float, elements: int) -> UsageError:
        """The error for a budget that cannot be met."""
        if self._budget.key == "bits":
            ruled = self._ruled
            least, elements = least + sum(map(_bytes, ruled)), elements + sum(each.unit.spec.elements for each in ruled)
            found = f"the least is {ceil(800 * least / elements) / 100:g}{', with what rules choose' if ruled else ''}"
            return UsageError(f"{self._budget.origin} cannot be met: {found}")
        least += self._other_bytes + self._beside.excess
        fixed, held = sum(map(_bytes, self._fixed.values())), ""
        if fixed:
            largest = max(self._fixed.values(), key=_bytes)
            most = f"{largest.unit.label} ({in_words(_bytes(largest))})"
            held = f"; {in_words(fixed)} of it are chosen otherwise, the most for {most}"
        return UsageError(
            f"{self._budget.origin} cannot be met: the least is {enough(least)}{held}",
            "allow more, or give rules that let more be lossy",
        )

    def _improve(self, steps: Sequence[float]) -> bool:
        """Measure all candidates with their steps; whether any had to be."""
        pairs, measured = zip(self._candidates, steps, strict=True), self._budget.key == "mean_error"
        jobs = ((None, Job(partial(each.improve, step, measured), 0)) for each, step in pairs)
        moved = [future.result() for _, future in self._run.ordered(jobs)]
        return any(moved)

    # The outcome

    def _gains(self, steps: Sequence[float]) -> tuple[float, float]:
        """Decibels that 10 % more bytes would gain, and 10 % fewer lose."""
        items = [each.item for each in self._candidates]
        if not items:
            return 0.0, 0.0
        factors = offsets(items, self._budget.weight)
        size = sum(item.size(step) for item, step in zip(items, steps, strict=True))
        now = sum(item.error2(step) for item, step in zip(items, steps, strict=True))
        found = []
        for share in (1.1, 0.9):
            common = solve_size(items, factors, share * size)
            if common is None:
                found.append(0.0)
                continue
            then = sum(item.error2(common + factor) for item, factor in zip(items, factors, strict=True))
            found.append(abs(10 * log10(now / then)) if now and then else 0.0)
        return found[0], found[1]

    def _choose(self, steps: Sequence[float]) -> None:
        for each, step in zip(self._candidates, steps, strict=True):
            self._decide(each, partial(_with_target, self._target(each.item, step)))

    def _target(self, item: Item, step: float) -> Callable[[RateControlled], RateControlled]:
        begin = float(f"{2.0**step:.{_STEP_DIGITS}g}")
        if self._budget.key == "mean_error":
            error = min(rounded_down(sqrt(item.error2(step) / item.norm2)), 1.0)
            return lambda codec: _near(codec.with_error(error), begin)
        bits = max(rounded_down(8 * (item.size(step) - item.side) / item.elements), LEAST_BITS)
        return lambda codec: _near(codec.with_bits(bits), begin)


def _repeated(duplicate_of: Mapping[int, int]) -> dict[int, list[int]]:
    """The units that repeat each one."""
    found = defaultdict(list)
    for index, first in duplicate_of.items():
        found[first].append(index)
    return found


def _bytes(stored: StoredUnit) -> int:
    return sum(part.size for part in stored.parts)


def _near(codec: RateControlled, begin: float) -> RateControlled:
    """The same codec with a step to begin with, if it is one that codecs take."""
    return codec.near(begin) if _STEPS[0] <= begin <= _STEPS[1] else codec


def _has_target(decision: Decision) -> bool:
    return any(isinstance(stage, RateControlled) for stage in decision.pipeline.codecs)


def _with_target(target: Callable[[RateControlled], RateControlled], decision: Decision) -> Decision:
    return replace(decision, pipeline=with_target(decision.pipeline, target), budget=None)


def rounded_down(value: float) -> float:
    """A number in few digits, no larger."""
    places = _DIGITS - 1 - floor(log10(value))
    return floor(value * 10.0**places) / 10.0**places
