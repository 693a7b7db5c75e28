"""Meets a budget: finds the pipelines with which all tensors together take, or lose, what was asked for."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import compress, groupby
from math import floor, log10, sqrt
from operator import attrgetter
from pathlib import Path

from bale.compressors.rate_controlled import RateControlled
from bale.engine.estimate.curves import LEAST_BITS, Candidate, candidates
from bale.engine.estimate.fixed import Fixed
from bale.engine.estimate.kinds import kinds_of
from bale.engine.estimate.limits import UNSPENT, Beside, Limits
from bale.engine.inputs import Inputs
from bale.engine.resolved import Met, ResolvedFile
from bale.engine.run import Job, Run
from bale.notes import Note
from bale.planning.allocate import Item, errors2, offsets, sizes, solve_size
from bale.planning.budget import Budget, with_target
from bale.planning.decide import Decision

_ROUNDS = 5
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


class _Meeting:
    def __init__(self, budget: Budget, files: list[ResolvedFile], run: Run, inputs: Inputs, beside: Beside) -> None:
        self._budget, self._files, self._run, self._inputs = budget, files, run, inputs
        self._decisions = [list(file.plan.decisions) for file in files]
        self._repeated = [_repeated(file.duplicate_of) for file in files]
        self._fixed, self._limits = Fixed(), Limits(budget, beside, files)
        self._moments: list[Candidate] = []  # which have a pipeline of their own, unless all fits without loss
        self._candidates = self._look()
        self._code_fixed()
        self.slopes = (0.0, 0.0)
        if self._fit_lossless():
            return
        self._fix(self._moments)
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

    def _code_fixed(self) -> None:
        """Code what counts beside the candidates."""
        if self._budget.of_rule:
            return
        chosen = {(each.file, each.index) for each in (*self._candidates, *self._moments)}
        for number, file in enumerate(self._files):
            indices = [
                index
                for index, decision in enumerate(self._decisions[number])
                if index not in file.duplicate_of and (number, index) not in chosen
                if self._budget.key == "max_size" or not decision.pipeline.lossless
            ]
            self._fixed = self._also(number, indices)

    def _also(self, number: int, indices: Sequence[int]) -> Fixed:
        return self._fixed.also(number, self._file(number), indices, self._run, self._inputs)

    def _fix(self, some: Sequence[Candidate]) -> None:
        """Code some candidates as it has been decided."""
        for file, own in groupby(sorted(some, key=attrgetter("file", "index")), key=attrgetter("file")):
            self._fixed = self._also(file, [each.index for each in own])

    def _fit_lossless(self) -> bool:
        """Keep all candidates and moments lossless, if they fit so."""
        if self._budget.key != "max_size" or not (self._candidates or self._moments):
            return False
        least = sum(each.item.lossless for each in self._candidates)
        least += sum(each.unit.spec.nbytes for each in self._moments) / 2
        if not self._limits.fits_lossless(least, self._fixed):
            return False
        decisions, fixed = [list(each) for each in self._decisions], self._fixed
        self._leave_all([*self._candidates, *self._moments])
        if self._limits.size([], self._fixed) >= 0:
            return True
        self._decisions, self._fixed = decisions, fixed
        return False

    def _upgrade_moments(self, steps: Sequence[float]) -> bool:
        """Keep moments lossless, the cheapest first, with what steps cannot use; whether any are."""
        if self._budget.key != "max_size" or not self._moments:
            return False
        items = self._items
        room = self._limits.size(items, self._fixed) - sizes(items, steps).sum()
        if room < UNSPENT * self._fixed.size:
            return False
        upgraded = False
        for each in sorted(self._moments, key=lambda each: each.unit.spec.nbytes):
            before, kept = self._fixed, list(self._decisions[each.file])
            self._leave_all([each])
            more = self._fixed.size - before.size
            if more > room:
                self._decisions[each.file], self._fixed = kept, before
                break
            room -= more
            upgraded = True
        return upgraded

    def _leave_all(self, left: Sequence[Candidate]) -> None:
        """Keep some candidates lossless, and count what they take."""
        for each in left:
            self._leave(each, _NO_LARGER)
        if self._budget.key == "max_size":
            self._fix(left)

    # Finding the steps

    @property
    def _items(self) -> list[Item]:
        return [each.item for each in self._candidates]

    def _steps(self) -> list[float]:
        """The step (its logarithm) of each candidate; those that are better lossless are left."""
        while True:
            items = self._items
            factors = offsets(items, self._budget.weight)
            common = self._limits.common_step(items, factors, self._fixed)
            steps = [common + float(factor) for factor in factors]
            exact = self._limits.exact_ones(items, steps, self._fixed)
            if not any(exact):
                return steps
            left = list(compress(self._candidates, exact))
            self._candidates = [each for each, is_exact in zip(self._candidates, exact, strict=True) if not is_exact]
            self._leave_all(left)

    def _improve(self, steps: Sequence[float]) -> bool:
        """Measure all candidates with their steps; whether any had to be."""
        pairs, measured = zip(self._candidates, steps, strict=True), self._budget.key == "mean_error"
        jobs = ((None, Job(partial(each.improve, step, measured), 0)) for each, step in pairs)
        moved = [future.result() for _, future in self._run.ordered(jobs)]
        return any(moved)

    # The outcome

    def _gains(self, steps: Sequence[float]) -> tuple[float, float]:
        """Decibels that 10 % more bytes would gain, and 10 % fewer lose."""
        items = self._items
        if not items:
            return 0.0, 0.0
        factors = offsets(items, self._budget.weight)
        size, now = float(sizes(items, steps).sum()), float(errors2(items, steps).sum())
        found = []
        for share in (1.1, 0.9):
            common = solve_size(items, factors, share * size)
            then = 0.0 if common is None else float(errors2(items, common + factors).sum())
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
