"""Importance of each tensor, read from a statistics file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from math import inf
from pathlib import Path

import numpy as np

from bale.compressors.floats import to_float32
from bale.compressors.importance import Importance
from bale.compressors.pipeline import Pipeline
from bale.errors import SourceError
from bale.io.names import own_name
from bale.io.statistics import Entry, StatisticsFile, open_statistics_file
from bale.metrics import ErrorSums
from bale.notes import Note, many
from bale.planning.decide import FilePlan, is_lossy
from bale.spec import Array, TensorSpec, Unit, View

_LEAST = {"F32": 2.0**-149, "F16": 2.0**-24, "BF16": 2.0**-133, "F64": 2.0**-1074}  # above zero, by dtype
_FLOATS = tuple(_LEAST)
_TOLERANCE = 1e-2  # of a covariance: more than the rounding of any of these dtypes
_NOTHING = 2.0**-60
_COVARIANCE_COST = 36  # bytes in memory for each of its elements, with what encoders make of them
_ROWS = 1 << 20  # elements of a covariance that are checked at a time


class Statistics:
    """Statistics of the inputs of the tensors of a source, read when a tensor is encoded.

    All methods may be called by several threads.
    """

    def __init__(self, file: StatisticsFile) -> None:
        self._file = file

    @property
    def name(self) -> str:
        """The last part of its path."""
        return own_name(self._file.path)

    @property
    def stamp(self) -> tuple[str, str]:
        """Name and SHA-256, as reports record them."""
        return self.name, self.sha256

    @property
    def sha256(self) -> str:
        """SHA-256 of the file."""
        return self._file.sha256

    def covers(self, unit: Unit) -> bool:
        """Whether there are statistics of a unit."""
        return self._find(unit) is not None

    def importance(self, unit: Unit, pipeline: Pipeline) -> Importance | None:
        """The importance of a unit for the encoders of a pipeline, with its dimensions in memory order.

        The largest mean square is between 1/2 and 1, and values that are negligible beside it are zero, so that the
        sums of encoders are safe.

        Raises
        ------
        SourceError
            For values that are no such statistics.
        """
        found = self._find(unit)
        if found is None:
            return None
        view, order = found
        name, rank = view.name, len(view.spec.shape)
        mean, products = self._entries(name, pipeline)
        second = self._numbers(mean)
        if (second < 0).any():
            raise self._wrong(name, "a mean square is negative")
        exponent = int(np.frexp(second.max(initial=0))[1])
        second = _scaled(second, -exponent)
        covariance = None
        if products is not None:
            covariance = _scaled(self._numbers(products), -exponent)
            rounding = sum(np.ldexp(_LEAST[each.spec.dtype], -exponent) for each in (mean, products))
            self._check_covariance(name, covariance, second.reshape(-1), np.float32(max(rounding, _LEAST["F32"])))
        second = np.where(second < _NOTHING, np.float32(0), second)
        importance = Importance(second.reshape((1,) * (rank - second.ndim) + second.shape), covariance)
        return importance if list(order) == sorted(order) else importance.transposed(order)

    def sampled(self, unit: Unit, pipeline: Pipeline, starts: Sequence[int], sample: TensorSpec) -> Importance | None:
        """The importance of a sample of a unit, of this spec, of runs of elements that begin at `starts`."""
        importance = self.importance(unit, pipeline)
        if importance is None or sample.shape == unit.spec.shape:
            return importance
        return importance.sampled(unit.spec.shape, starts, sample.shape)

    def size(self, unit: Unit, pipeline: Pipeline) -> int:
        """Bytes that the importance of a unit takes in memory, about."""
        found = self._find(unit)
        if found is None:
            return 0
        mean, products = self._entries(found[0].name, pipeline)
        return 8 * mean.spec.elements + (0 if products is None else _COVARIANCE_COST * products.spec.elements)

    def output_error(
        self, unit: Unit, pipeline: Pipeline, errors: ErrorSums | None, outputs: ErrorSums | None
    ) -> float | None:
        """Relative error of a unit that was coded so, by its importance; None where that is not known."""
        if not self.covers(unit):
            return None
        if pipeline.lossless or (errors is not None and errors.largest == 0):
            return 0.0
        if outputs is None or not (0 < outputs.norm2 < inf and 0 <= outputs.error2 < inf):
            return None
        return outputs.relative_error

    def check(self, files: Sequence[FilePlan]) -> tuple[Note, ...]:
        """Check names and shapes against all files of a source; returns notes on statistics that are of no use.

        Raises
        ------
        SourceError
            When nothing in the file is of this source, or something does not fit its tensor.
        """
        views = [view for file in files for unit in file.units for view in unit.views]
        names, described = dict.fromkeys(view.name for view in views), {**self._file.means, **self._file.covariances}
        if not names.keys() & described.keys():
            raise self._of_another(list(names))
        for view in views:
            if view.name in described:
                self._check_shapes(view)
        notes = []
        strange = [name for name in described if name not in names]
        if strange:
            others = f", nor {len(strange) - 1} other of its names" if len(strange) > 1 else ""
            notes.append(f"the source has no {strange[0]}, which {self._file.path} tells of{others}")
        pairs = [pair for file in files for pair in zip(file.units, file.decisions, strict=True)]
        lossy = [unit for unit, decision in pairs if is_lossy(decision.pipeline)]
        without = [unit.label for unit in lossy if not self.covers(unit)]
        if not lossy:
            notes.append("statistics change nothing where nothing is coded with loss")
        elif without:
            notes.append(
                f"{len(without)} of {many(len(lossy), 'tensor')} coded with loss have no statistics, first {without[0]}"
            )
        return tuple(Note("statistics", text) for text in notes)

    def _find(self, unit: Unit) -> tuple[View, Sequence[int]] | None:
        """The first view of a unit that has statistics, and the order of its dimensions in memory."""
        for view in unit.views if unit.exact is None else ():
            order = _memory_order(view, unit.spec) if view.name in self._file.means else None
            if order is not None:
                return view, order
        return None

    def _entries(self, name: str, pipeline: Pipeline) -> tuple[Entry, Entry | None]:
        """Mean squares, and mean products where a codec uses them: they are large."""
        wanted = any(stage.uses_covariance for stage in pipeline.codecs)
        return self._file.means[name], self._file.covariances.get(name) if wanted else None

    def _numbers(self, entry: Entry) -> Array:
        """Values as float64 for F64, and as float32 for all other dtypes; `SourceError` for NaN and infinity."""
        values = self._file.read(entry)
        values = values if entry.spec.dtype == "F64" else to_float32(values, entry.spec)
        if not np.isfinite(values).all():
            raise self._wrong(entry.name, "a value is not finite")
        return values

    def _check_shapes(self, view: View) -> None:
        mean, covariance = self._file.means.get(view.name), self._file.covariances.get(view.name)
        if mean is None:
            raise self._wrong(view.name, "there is a covariance and no mean squares")
        for entry in (mean, covariance):
            if entry is not None and entry.spec.dtype not in _FLOATS:
                raise self._wrong(entry.name, f"its dtype is {entry.spec.dtype}, not {', '.join(_FLOATS)}")
        if not _broadcasts(mean.spec.shape, view.spec.shape):
            raise self._wrong(view.name, f"{mean.spec} does not broadcast to the tensor's {view.spec}")
        n = mean.spec.elements
        if covariance is not None and covariance.spec.shape != (n, n):
            raise self._wrong(covariance.name, f"it is {covariance.spec}, and there are {n} mean squares")

    def _check_covariance(self, name: str, matrix: Array, diagonal: Array, rounding: np.float32) -> None:
        """Raise `SourceError` unless a matrix is symmetric, with this diagonal and nothing that cannot be beside it.

        All values may be off by a share, and by `rounding`, whatever their size.
        """
        deviations = np.sqrt(diagonal + rounding)
        if (np.abs(matrix.diagonal() - diagonal) > _TOLERANCE * diagonal + rounding).any():
            raise self._wrong(name, "the diagonal of its covariance is not its mean squares")
        rows = max(1, _ROWS // max(1, len(matrix)))
        for start in range(0, len(matrix), rows):
            at = slice(start, start + rows)
            most = deviations[at, None] * deviations
            with np.errstate(over="ignore", invalid="ignore"):  # of values that are infinite once they are scaled
                apart = np.abs(matrix[at] - matrix[:, at].T)
            if (apart > _TOLERANCE * most + rounding).any():
                raise self._wrong(name, "its covariance is not symmetric")
            if (np.abs(matrix[at]) - most > _TOLERANCE * most + rounding).any():
                raise self._wrong(name, "its covariance is larger than mean squares allow")

    def _wrong(self, name: str, what: str) -> SourceError:
        return SourceError(f"the statistics of {name} in {self._file.path}: {what}", "fix them, or collect them again")

    def _of_another(self, names: Sequence[str]) -> SourceError:
        own = next(iter({**self._file.means, **self._file.covariances}), None)
        hint = "collect them with `bale stats`"
        if own is not None and names:
            hint = f"there it is {own}, in the source {names[0]}"
        return SourceError(f"the statistics {self._file.path} have no name that the source has", hint)


@contextmanager
def open_statistics(path: Path) -> Iterator[Statistics]:
    """Open a file of statistics; `SourceError` when it is none."""
    with open_statistics_file(path) as file:
        yield Statistics(file)


def _scaled(values: Array, exponent: int) -> Array:
    """Float32 values times a power of two; those that become too large are infinite."""
    with np.errstate(over="ignore"):
        return np.ldexp(values, exponent).astype(np.float32, copy=False)


def _memory_order(view: View, unit: TensorSpec) -> Sequence[int] | None:
    """The dimensions of a view in the order of its unit; None where these are not the same."""
    shape, strides = view.spec.shape, view.strides
    order = range(len(shape))
    ordered = order if strides is None else sorted(order, key=lambda dimension: -strides[dimension])
    return ordered if tuple(shape[dimension] for dimension in ordered) == unit.shape else None


def _broadcasts(shape: Sequence[int], target: Sequence[int]) -> bool:
    """Whether an array of a shape broadcasts to a tensor's, and to nothing larger."""
    if len(shape) > len(target):
        return False
    pairs = zip(reversed(shape), reversed(target), strict=False)
    return all(size in (1, wanted) for size, wanted in pairs)
