"""The step that meets a size or an error: estimated on a sample, corrected on the whole tensor."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from bale.compressors.kernels.trellis import UNIT, survey, tokens_of
from bale.compressors.trellis import tables
from bale.compressors.trellis.classes import Classes, Scaled
from bale.compressors.trellis.descent import descend
from bale.compressors.trellis.search import LARGEST_LEVEL, Code, Search, paths_of
from bale.compressors.trellis.stream import (
    MOST_SHIFT,
    Model,
    Tokens,
    read_plain,
    write,
    write_plain,
)
from bale.compressors.trellis.subject import Subject
from bale.errors import Refused
from bale.spec import Array

_TRIES = 14
_SMALL = 4096  # elements of a tensor for which a plain stream is tried
_PEAKED = 0.4  # share of values within a step of zero from which on it is tried without a trellis
_DEAD = 24
_SEEN = 16  # how often a level must come to have a centroid
_MANY = 1 << 16  # elements of a tensor that can pay for many centroids


@dataclass(frozen=True)
class Trial:
    """What a step gives: bytes, the sum of squared errors if it was asked for, and the stream if there is one."""

    step: float
    size: float
    error2: float
    data: bytes = b""


class Sized(Protocol):
    """What is to meet a target: elements, sum of squares, and root of the mean square of what is searched for."""

    @property
    def size(self) -> int: ...  # noqa: D102
    @property
    def norm2(self) -> float: ...  # noqa: D102
    @property
    def deviation(self) -> float: ...  # noqa: D102


@dataclass(frozen=True)
class Target:
    """What trials are to reach: `of` a trial at most `most`, best `aim`, and from `least` on it is good enough.

    `of` grows by about `slope` when the step doubles. Of two trials the one of less `cost` is better.
    """

    of: Callable[[Trial], float]
    most: float
    aim: float
    least: float
    slope: float
    cost: Callable[[Trial], float]
    start: float

    @classmethod
    def bits(cls, bits: float, subject: Sized) -> Target:
        """At most so many bits a weight; the step to start with is that of normal deviates."""
        return cls(
            of=lambda trial: 8 * trial.size / subject.size,
            most=bits,
            aim=0.9992 * bits,
            least=0.9984 * bits,
            slope=-1,
            cost=lambda trial: trial.error2,
            start=subject.deviation * math.sqrt(2 * math.pi * math.e) * 2.0 ** (-bits - 1),
        )

    @classmethod
    def error(cls, error: float, subject: Sized) -> Target:
        """At most so large a relative error; of its logarithm, 0 is meant."""
        limit2 = error**2 * subject.norm2

        def octaves(trial: Trial) -> float:
            return max(math.log2(trial.error2 / limit2) / 2 if trial.error2 else -99.0, -99.0)

        start = 2 * error * subject.deviation
        return cls(octaves, 0.0, math.log2(0.995), math.log2(0.99), 1, lambda trial: trial.size, start)


class Attempts:
    """Codes one tensor with any step: a sample of it, or all of it.

    Parameters
    ----------
    measured : bool
        Whether errors are wanted.
    classes : Classes or None
        Those of earlier attempts; None: those that suit the first step best.
    """

    def __init__(self, subject: Subject, code: Code, *, measured: bool, classes: Classes | None = None) -> None:
        self._subject, self._measured = subject, measured
        self._search = Search(code, paths_of(subject.size), _DEAD, weighted=subject.importance is not None)
        self._model = Model(code, np.float32(1), classes=classes or Classes())
        self._has_classes = classes is not None
        self._near = 24 if subject.size >= _MANY else 6

    @property
    def classes(self) -> Classes:
        """Those that are used."""
        return self._model.classes

    @property
    def _descends(self) -> bool:
        """Whether paths are searched again by covariances."""
        return self._subject.covariance is not None and not self._search.scalar

    def estimate(self, step: float) -> Trial:
        """Size and error of the whole tensor, by the sample; what else the step decides is kept for `attempt`."""
        subject = self._subject
        levels = self._search.levels(subject.sample, np.float32(step), subject.sample_weights)
        if subject.whole and self._descends:
            levels = descend(levels, subject, self._search, np.float32(step))
        self._model = model = self._fit(levels, np.float32(step))
        scale, error2 = subject.size / levels.size, 0.0
        if self._measured:
            runs = np.split(model.values(levels), subject.starts.size)
            error2 = sum(subject.error2(run, at) for run, at in zip(runs, subject.starts.tolist(), strict=True))
        return Trial(step, self._cost(model, levels), error2 * scale)

    def attempt(self, step: float) -> Trial:
        """Code the whole tensor."""
        subject = self._subject
        found, error2 = None, 0.0
        for at, levels in self._levels(np.float32(step)):
            if found is None:
                if subject.whole:  # these are the levels of the sample
                    self._model = self._fit(levels, np.float32(step))
                found = Tokens.empty(replace(self._model, step=np.float32(step)), subject.spec.shape)
            found.add(levels, at.start)
            if self._measured:
                error2 += subject.error2(found.model.values(levels), at.start)
        assert found is not None
        data = write(found, subject.scaling)
        return Trial(step, len(data), error2, data)

    def _levels(self, step: np.float32) -> Iterator[tuple[slice, Array]]:
        """The levels of each chunk."""
        subject, search = self._subject, self._search
        found = ((at, search.levels(subject.down(at), step, subject.weights(at))) for at in subject.chunks)
        if not self._descends:
            yield from found
        else:
            levels = descend(np.concatenate([each for _, each in found]), subject, search, step)
            yield from ((at, levels[at]) for at in subject.chunks)

    def _fit(self, levels: Array, step: np.float32) -> Model:
        """What the levels of the sample call for."""
        positions = np.rint(self._subject.sample * (np.float32(UNIT) / step)).astype(np.int32)
        lengths, (counts, sums) = np.zeros(32, np.int64), np.zeros((2, self._near + 1), np.int64)
        survey(levels, positions, lengths, counts, sums)
        centroids = np.clip(np.rint(sums[1:] / np.maximum(counts[1:], 1)), -127, 127) * (counts[1:] >= _SEEN)
        centroids = np.trim_zeros(centroids.astype(np.int8), "b")
        model = replace(self._model, step=step, shift=0, centroids=centroids)
        longer = lengths[::-1].cumsum()[::-1]  # pairs of at least so many bits
        if shift := min(int((longer[6:] > levels.size >> 6).sum()), MOST_SHIFT):
            other = replace(model, shift=shift, centroids=np.zeros(0, np.int8))
            model = min(model, other, key=lambda each: self._cost(each, levels))
        if not self._has_classes:
            self._has_classes = True
            options = [Classes(), *(self._classes(axes) for axes in self._subject.axes)]
            model = min((replace(model, classes=each) for each in options), key=lambda each: self._cost(each, levels))
        return model

    def _classes(self, axes: tuple[Scaled, ...]) -> Classes:
        subject = self._subject
        return Classes.along(axes, subject.spec.shape, subject.starts, subject.length)

    def _cost(self, model: Model, levels: Array) -> float:
        """Bytes of the whole tensor, by the levels of the sample."""
        subject = self._subject
        counts = np.zeros((model.contexts, tables.TOKENS), np.uint32)
        tokens, contexts = np.empty((2, levels.size), np.uint8)
        classes = model.classes.of(subject.spec.shape, subject.starts, subject.length)
        tokens_of(levels, model.shift, classes, tokens, contexts, np.empty(levels.size, np.uint32), counts)
        bits = tables.fit(counts, model.shift)[2] / 65536 + int(counts.sum(axis=0) @ model.runs[1].astype(np.int64))
        side = 20 + 2 * model.contexts + sum(len(each.pack()) for each in model.classes.axes)
        return bits / 8 * subject.size / levels.size + side + 40 * len(subject.chunks)


def solve(measure: Callable[[float], Trial], target: Target, largest: float, tries: int = _TRIES) -> Trial | None:
    """The trial nearest to a target that is not above it, or None if none was found.

    Parameters
    ----------
    measure : callable
        Makes the trial of a step.
    largest : float
        The largest magnitude of the values, which bounds the step.
    """
    best: Trial | None = None
    bounds = [math.log2(largest / LARGEST_LEVEL), math.log2(4 * largest)]
    good = 0 if target.slope > 0 else 1  # the end of the range that meets the target
    x, slope, last = math.log2(target.start), target.slope, None
    for _ in range(tries):
        x = min(max(x, bounds[0]), bounds[1])
        trial = measure(2.0**x)
        value = target.of(trial)
        if value <= target.most and (best is None or value > target.of(best)):
            best = trial
        if target.least <= value <= target.most:
            break
        bounds[good if value <= target.aim else 1 - good] = x
        if last is not None and x != last[0] and (value - last[1]) / (x - last[0]) / target.slope > 0.05:
            slope = (value - last[1]) / (x - last[0])
        last = (x, value)
        guess = x + (target.aim - value) / slope
        if not bounds[0] < guess < bounds[1]:
            guess = (bounds[0] + bounds[1]) / 2 if bounds[1] - bounds[0] < 8 else x + math.copysign(4, guess - x)
        if abs(guess - x) < 1e-7 or bounds[1] - bounds[0] < 1e-6:
            break
        x = guess
    return best


def encode(subject: Subject, target: Target, states: int) -> bytes:
    """The stream of a tensor that meets a target. Raises `Refused` where none does."""
    if (stream := _constant(subject)) is not None:
        return stream
    code = Code(states)
    if np.count_nonzero(np.abs(subject.sample) < target.start) > _PEAKED * subject.sample.size:
        code = _better_code(subject, code, target)
    small = subject.size <= _SMALL
    attempts = Attempts(subject, code, measured=small or target.slope > 0)
    if not subject.whole and (found := solve(attempts.estimate, target, subject.largest)) is not None:
        target = replace(target, start=found.step)
        attempts.estimate(found.step)
    best = solve(attempts.attempt, target, subject.largest, _TRIES if subject.whole else 6)
    plain = _plain(subject, target) if small else None
    found_ones = [each for each in (best, plain) if each is not None]
    if not found_ones:
        raise Refused("no stream of it is as small, or as near, as that")
    return min(found_ones, key=target.cost).data


def encode_step(subject: Subject, step: float, states: int) -> bytes:
    """The stream of a tensor with a given step, or a larger one if values are too many steps."""
    if (stream := _constant(subject)) is not None:
        return stream
    step = min(math.ldexp(step, -subject.scaling.exponent), 8 * subject.largest)  # all is zero there, and beyond
    step = max(step, subject.largest / LARGEST_LEVEL)
    attempts = Attempts(subject, Code(states), measured=False)
    if not subject.whole:
        attempts.estimate(step)
    return attempts.attempt(step).data


def _constant(subject: Subject) -> bytes | None:
    """The stream of a tensor whose elements are all the same, if they are; zeros are, whatever their signs."""
    array = subject.array
    if subject.largest and any((array[at] != array[0]).any() for at in subject.blocks):
        return None
    scaling = replace(subject.scaling, balance=None)
    value = float(scaling.down(array[:1], 0)[0])
    indices = np.full(subject.size, np.sign(value), np.int32)
    return write_plain(indices, np.float32(abs(value) or 1.0), scaling)


def _better_code(subject: Subject, code: Code, target: Target) -> Code:
    """A trellis, or none where levels are so often zero that the odd ones cost more than they gain."""
    found = [
        (each, solve(Attempts(subject, each, measured=True).estimate, target, subject.largest))
        for each in (code, Code(1))
    ]
    return min(found, key=lambda each: target.cost(each[1]) if each[1] is not None else math.inf)[0]


def _plain(subject: Subject, target: Target) -> Trial | None:
    """The best plain stream that meets a target: levels lie evenly between the least and the largest value."""
    scaling = replace(subject.scaling, balance=None)
    values = scaling.down(subject.array, 0)
    low, high = float(values.min()), float(values.max())
    found = []
    for width in range(1, 22):
        step = np.float32((high - low) / ((1 << width) - 1) or abs(low))
        if max(-low, high) > float(step) * LARGEST_LEVEL:
            break
        data = write_plain(np.rint(values / step).astype(np.int32), step, scaling)
        trial = Trial(float(step), len(data), subject.difference2(read_plain(memoryview(data), subject.spec), 0), data)
        if target.of(trial) <= target.most:
            found.append(trial)
    return min(found, key=target.cost, default=None)
