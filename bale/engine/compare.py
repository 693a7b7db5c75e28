"""Comparing two sets of tensors, block by block."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np

from bale.compressors.chunks import chunk_ranges, flat_bytes, flat_spec
from bale.compressors.floats import all_finite, numbers
from bale.engine.reading.pairing import Candidate, Pairing
from bale.engine.reading.tensors import TensorRun, Tensors
from bale.engine.run import WHOLE_COST, Job, Run, one_blas_thread
from bale.metrics import ErrorSums, RowSums, row_width
from bale.notes import Note, many
from bale.planning.renames import Renames
from bale.report.figures import finite_or_none
from bale.spec import Array, TensorSpec

_SMALL = 1 << 14  # elements of a tensor that is compared at once: to ask a worker would take longer
_IN_CACHE = 1 << 16  # elements
_BLOCK_COST = 24  # bytes an element: both values, as float32 and, a cache's worth, as float64


@dataclass(frozen=True)
class Difference:
    """The difference of a tensor between A and B.

    `status` is ``equal`` (bit for bit), ``differs``, ``only in A``, ``only in B`` or ``other shape``; the errors take A
    for the original, and are None where they cannot be measured. Places where both have the same infinity, or both NaN,
    are equal and do not count; where any other values that are not finite differ, errors are infinite.

    Attributes
    ----------
    worst_row_error : float or None
        The largest relative error of a row, an index of the dimension that is outermost in memory; infinite where a row
        of zeros is anything else in B, None below two dimensions.
    non_finite_differences : int
        Values that are finite in one only, or infinite or NaN in different ways.
    finite_in_one : int
        Those of them that are finite in one.
    name_in_b : str or None
        The name in B, where it is another one.
    common_rows : int or None
        For another number of rows, those that both have: the errors are theirs.
    """

    name: str
    status: str
    specs: tuple[TensorSpec | None, TensorSpec | None]
    relative_error: float | None = None
    snr_db: float | None = None
    max_abs_error: float | None = None
    cosine: float | None = None
    worst_row_error: float | None = None
    non_finite_differences: int = 0
    finite_in_one: int = 0
    name_in_b: str | None = None
    common_rows: int | None = None

    def exceeds(self, limit: float) -> bool:
        """Whether the tensor is further away than `limit` (relative error); 0 asks for equal bits."""
        return self.status != "equal" and (limit == 0 or not self.error <= limit)

    def exceeds_in_row(self, limit: float) -> bool:
        """Whether a row is further away than `limit`; a tensor of less than two dimensions counts as one row."""
        return self.status != "equal" and (limit == 0 or not self.row_error <= limit)

    @property
    def error(self) -> float:
        """Relative error, for ranking: infinite where it cannot be measured, which is beyond every limit."""
        relative = self.relative_error if self.status in ("equal", "differs") else None
        return math.inf if relative is None or math.isnan(relative) else relative

    @property
    def row_error(self) -> float:
        """The worst row's error, for ranking."""
        worst = self.worst_row_error
        return self.error if worst is None or math.isinf(self.error) else worst

    @property
    def nbytes(self) -> int:
        """Bytes of the plain tensor, in A if it is there."""
        return next(spec.nbytes for spec in self.specs if spec is not None)

    @property
    def remark(self) -> str:
        """Remarks on another name or shape, and on values that are not finite."""
        one, other = self.finite_in_one, self.non_finite_differences - self.finite_in_one
        said = [] if self.name_in_b is None else [f"B calls it {self.name_in_b}"]
        a, b = self.specs
        if a is not None and b is not None and a.shape != b.shape:
            rows = (
                "" if self.common_rows is None else f", errors are those of the {many(self.common_rows, 'common row')}"
            )
            said.append(f"{list(a.shape)} in A, {list(b.shape)} in B{rows}")
        said += [f"{many(one, 'value')} {'is' if one == 1 else 'are'} finite in one only"] if one else []
        if other:
            said.append(f"{many(other, 'value')} {'is' if other == 1 else 'are'} infinite or NaN in different ways")
        return "; ".join(said)

    def to_json(self) -> dict[str, Any]:
        """The row of `compare --json`."""
        a, b = self.specs
        return {
            "name": self.name,
            "name_in_b": self.name_in_b,
            "status": self.status,
            "dtypes": [a and a.dtype, b and b.dtype],
            "shapes": [a and list(a.shape), b and list(b.shape)],
            "relative_error": finite_or_none(self.relative_error),
            "snr_db": finite_or_none(self.snr_db),
            "max_abs_error": finite_or_none(self.max_abs_error),
            "cosine": finite_or_none(self.cosine),
            "worst_row_error": finite_or_none(self.worst_row_error),
            "non_finite_differences": self.non_finite_differences,
            "common_rows": self.common_rows,
        }


class Differences(list[Difference]):
    """The differences of two sets of tensors, and notes on them: files of a folder that hold the same tensors."""

    def __init__(self, rows: Iterable[Difference], notes: Sequence[Note]) -> None:
        super().__init__(rows)
        self.notes = tuple(dict.fromkeys(notes))


def compare_tensors(a: Tensors, b: Tensors, run: Run, renames: Renames | None = None) -> Differences:
    """One row for each name in either, those of A first, in its order.

    Tensors are paired by their names, and what is left as a base's are with those of a fine-tune; see `Pairing`.

    Raises
    ------
    UsageError
        For a rename that matches no name of B.
    """
    renames = renames or Renames()
    renames.check(list(b))
    with one_blas_thread():
        partners = _partners(a, b, renames)
        largest = max((spec.nbytes for each in (a, b) for spec in each.specs.values()), default=0)
        run.set_memory_budget(WHOLE_COST * largest)
        run.expect(sum(spec.nbytes for spec in a.specs.values()))
        rows = _Rows(run)
        for task, future in run.ordered(rows.jobs(_Task(a, b, name, partners.get(name)) for name in a)):
            rows.add(task, future.result())
        found = rows.finished()
    paired = set(partners.values())
    found += [Difference(name, "only in B", (None, b.spec(name))) for name in b if name not in paired]
    return Differences(found, (*a.notes, *b.notes))


def _partners(a: Tensors, b: Tensors, renames: Renames) -> dict[str, str]:
    """The name in B of each tensor of A that B has."""
    renamed = {renames.apply(name): name for name in reversed(list(b))}
    found = {name: renamed[name] for name in a if name in renamed}
    taken = set(found.values())
    rest, others = [name for name in a if name not in found], [name for name in b if name not in taken]
    first, second = (_candidates(tensors, names) for tensors, names in ((a, rest), (b, others)))

    def is_related(number: int, index: int) -> bool:
        one, other = first.runs[index], second.runs[number]
        spec = flat_spec(other.spec, other.spec.elements)
        return one.values.of(spec).is_related(other.read) if one.is_whole else False

    pairs = Pairing(first.candidates, renames).pairs(second.candidates, is_related, once=True)
    for name, pair in zip(second.names, pairs, strict=True):
        if pair is not None:
            found[first.names[pair.index]] = name
    return found


@dataclass
class _Candidates:
    """Tensors that may be paired: those whose elements lie side by side."""

    names: list[str] = field(default_factory=list)
    runs: list[TensorRun] = field(default_factory=list)
    candidates: list[Candidate] = field(default_factory=list)


def _candidates(tensors: Tensors, names: Sequence[str]) -> _Candidates:
    found = _Candidates()
    for name in names:
        run = tensors.run(name)
        if run is not None and run.spec.elements:
            found.names.append(name)
            found.runs.append(run)
            found.candidates.append(Candidate((name,), TensorSpec(run.spec.dtype, run.shape), run.read))
    return found


@dataclass(frozen=True)
class _Block:
    """Sums over a block of a tensor; those of blocks that lie back to back add up."""

    equal: bool = True
    measured: bool = True
    sums: ErrorSums = field(default_factory=ErrorSums)
    rows: RowSums = field(default_factory=lambda: RowSums(0))
    apart: int = 0
    in_one: int = 0
    nbytes: int = 0

    def __add__(self, other: _Block) -> _Block:
        return _Block(
            self.equal and other.equal,
            self.measured and other.measured,
            self.sums + other.sums,
            self.rows + other.rows,
            self.apart + other.apart,
            self.in_one + other.in_one,
            self.nbytes + other.nbytes,
        )

    @classmethod
    def between(cls, x: Array, y: Array, specs: tuple[TensorSpec, TensorSpec], width: int, start: int) -> _Block:
        """Measure two flat arrays of storage bits, from element `start` of their tensors on."""
        nbytes = x.nbytes
        equal = specs[0].dtype == specs[1].dtype and np.array_equal(flat_bytes(x), flat_bytes(y))
        if equal and (exact := cls._exact(x, specs[0], width, start)) is not None:
            return exact
        values, others = (_numbers(array, spec) for array, spec in zip((x, y), specs, strict=True))
        if values is None or others is None:
            return cls(equal, equal, rows=RowSums(width), nbytes=nbytes)
        apart = in_one = 0
        if not (all_finite(values) and all_finite(others)):
            values, others, apart, in_one = _finite(values, others)
        sums, rows = ErrorSums.by_rows(values, others, width, start)
        return cls(equal, True, sums, rows, apart, in_one, nbytes)

    @classmethod
    def _exact(cls, x: Array, spec: TensorSpec, width: int, start: int) -> _Block | None:
        """An array that is equal in both; None where its values are no numbers, or not finite."""
        sums, rows, flat = ErrorSums(), RowSums(width), x.reshape(-1)
        for at in range(0, flat.size, _IN_CACHE):
            values = _numbers(flat[at : at + _IN_CACHE], spec)
            if values is None:
                return None
            sums += ErrorSums.exact(values)
            rows = rows + RowSums.exact(values, width, start + at) if width else rows
        return cls(sums=sums, rows=rows, nbytes=x.nbytes) if math.isfinite(sums.norm2) else None


class _Task:
    """The work for a tensor of A: to read it, and its partner in B, and to measure their difference."""

    def __init__(self, a: Tensors, b: Tensors, name: str, partner: str | None) -> None:
        self.name, self._a, self._b, self._partner = name, a, b, partner
        self._specs = (a.spec(name), None if partner is None else b.spec(partner))
        self._runs = self._side_by_side()
        self._rows = self._common_rows()

    @property
    def nbytes(self) -> int:
        """Bytes of the tensor of A."""
        return self._specs[0].nbytes

    @property
    def is_small(self) -> bool:
        """Whether there are no jobs."""
        return self._elements <= _SMALL and not (self._runs is None and self._same_shape)

    def at_once(self) -> _Block:
        """All of what is small; nothing of what is not."""
        return self._block(0, self._elements) if self.is_small and self._elements else _Block()

    def jobs(self) -> Iterator[Job[_Block]]:
        """The blocks of what is not small; none where there is nothing to compare."""
        if self._runs is None and self._same_shape:  # decoded by the workers, and so not by one of them
            whole = self._whole()
            yield Job(lambda: whole, 0)
        for start, count in chunk_ranges(self._elements) if self._elements > _SMALL else ():
            yield Job(partial(self._block, start, count), _BLOCK_COST * count)

    @property
    def _elements(self) -> int:
        """Elements to be compared in blocks."""
        if self._runs is None or (self._rows is None and not self._same_shape):
            return 0
        return self._runs[0].spec.elements if self._rows is None else self._rows * self._width

    def row(self, block: _Block) -> Difference:
        """The result, from the sums of all blocks."""
        spec, other = self._specs
        name = None if self._partner == self.name else self._partner
        if self._partner is None or other is None:
            return Difference(self.name, "only in A", (spec, None))
        row = Difference(self.name, "differs", (spec, other), name_in_b=name, common_rows=self._rows)
        if not self._same_shape:
            row = replace(row, status="other shape")
            if self._rows is None:
                return row
        elif block.equal and spec == other:
            return replace(row, status="equal", relative_error=0.0, max_abs_error=0.0, cosine=1.0, worst_row_error=0.0)
        if not block.measured:
            return row
        if block.apart:
            return replace(
                row,
                relative_error=math.inf,
                max_abs_error=math.inf,
                worst_row_error=math.inf if block.rows.width else None,
                non_finite_differences=block.apart,
                finite_in_one=block.in_one,
            )
        return replace(
            row,
            relative_error=block.sums.relative_error,
            snr_db=block.sums.snr_db,
            max_abs_error=block.sums.largest,
            cosine=block.sums.cosine,
            worst_row_error=block.rows.worst_error,
        )

    @property
    def _same_shape(self) -> bool:
        spec, other = self._specs
        return other is not None and spec.shape == other.shape

    def _side_by_side(self) -> tuple[TensorRun, TensorRun] | None:
        """Both tensors, if their elements lie side by side and in the same order."""
        if self._partner is None:
            return None
        one, other = self._a.run(self.name), self._b.run(self._partner)
        if one is None or other is None:
            return None
        return (one, other) if one.axes == other.axes or not self._same_shape else None

    def _common_rows(self) -> int | None:
        """The rows that both have, where the number of them is the difference of their shapes."""
        if self._same_shape or self._runs is None:
            return None
        one, other = (run.shape for run in self._runs)
        return min(one[0], other[0]) if one and other and one[1:] == other[1:] else None

    @property
    def _width(self) -> int:
        """Elements of a row, for tensors with another number of rows."""
        return math.prod(self._runs[0].shape[1:]) if self._runs else 0

    def _block(self, start: int, count: int) -> _Block:
        assert self._runs is not None
        one, other = self._runs
        width = row_width(one.shape)
        return _Block.between(one.read(start, count), other.read(start, count), (one.spec, other.spec), width, start)

    def _whole(self) -> _Block:
        spec, other = self._specs
        assert self._partner is not None
        assert other is not None
        x, y = self._a.bits(self.name), self._b.bits(self._partner)
        order = _memory_order(x) if x.ndim == len(spec.shape) else list(range(x.ndim))
        x, y = (np.ascontiguousarray(array.transpose(order)) for array in (x, y))
        return _Block.between(x, y, (spec, other), row_width(x.shape), 0)


class _Rows:
    """The rows of tasks in their order; those whose blocks are all there are let go of."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._rows: list[Difference] = []
        self._open: dict[_Task, _Block] = {}

    def jobs(self, tasks: Iterable[_Task]) -> Iterator[tuple[_Task, Job[_Block]]]:
        """The jobs of all tasks; what is small is done at once."""
        for task in tasks:
            self._open[task] = task.at_once()
            yield from ((task, job) for job in task.jobs())
            if task.is_small and len(self._open) == 1:
                self._finish(task)

    def add(self, task: _Task, block: _Block) -> None:
        """Take the next block; tasks before that of the block have had all of theirs."""
        while (first := next(iter(self._open))) is not task:
            self._finish(first)
        self._open[task] += block
        self._run.progress(task.name, block.nbytes)

    def finished(self) -> list[Difference]:
        """All rows, once all blocks are there."""
        for task in list(self._open):
            self._finish(task)
        return self._rows

    def _finish(self, task: _Task) -> None:
        block = self._open.pop(task)
        self._rows.append(task.row(block))
        told = 0 if task.is_small else block.nbytes  # what only A has, or is of another shape, is done with as well
        self._run.progress(task.name, max(0, task.nbytes - told))


def _numbers(array: Array, spec: TensorSpec) -> Array | None:
    """Values to measure differences on; None for packed and complex types."""
    if spec.info.kind in ("int", "bool"):
        return array.astype(np.float64)
    return numbers(array, spec)


def _memory_order(array: Array) -> list[int]:
    """Dimensions as they lie in memory, outermost first, as archives count rows."""
    dimensions = range(array.ndim)
    return sorted(dimensions, key=lambda axis: 0 if array.flags.c_contiguous else -array.strides[axis])


def _finite(x: Array, y: Array) -> tuple[Array, Array, int, int]:
    """Values with zeros at the places where one is not finite; how many of these differ, and are finite in one."""
    first, second = np.isfinite(x), np.isfinite(y)
    both = first & second
    same = (x == y) | (np.isnan(x) & np.isnan(y))
    apart, in_one = np.count_nonzero(~both & ~same), np.count_nonzero(first != second)
    return np.where(both, x, 0), np.where(both, y, 0), int(apart), int(in_one)
