"""Compares tensors, each block a job."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import partial

import numpy as np

from bale.compressors.chunks import chunk_ranges
from bale.engine.compare.blocks import Block
from bale.engine.compare.differences import Difference, Differences
from bale.engine.compare.partners import partners
from bale.engine.reading.layout import TensorRun
from bale.engine.reading.tensors import Tensors
from bale.engine.run import WHOLE_COST, Job, Run, one_blas_thread
from bale.metrics import row_width
from bale.planning.renames import Renames
from bale.spec import Array

_SMALL = 1 << 14  # elements of a tensor that is compared at once: to ask a worker would take longer
_BLOCK_COST = 24  # bytes an element: both values, as float32 and, a cache's worth, as float64


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
        pairs = partners(a, b, renames)
        largest = max((spec.nbytes for each in (a, b) for spec in each.specs.values()), default=0)
        run.set_memory_budget(WHOLE_COST * largest)
        run.expect(sum(spec.nbytes for spec in a.specs.values()))
        rows = _Rows(run)
        for task, future in run.ordered(rows.jobs(_Task(a, b, name, pairs.get(name)) for name in a)):
            rows.add(task, future.result())
        found = rows.finished()
    paired = set(pairs.values())
    found += [Difference(name, "only in B", (None, b.spec(name))) for name in b if name not in paired]
    return Differences(found, (*a.notes, *b.notes))


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

    def at_once(self) -> Block:
        """All of what is small; nothing of what is not."""
        return self._block(0, self._elements) if self.is_small and self._elements else Block()

    def jobs(self) -> Iterator[Job[Block]]:
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

    def row(self, block: Block) -> Difference:
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
            sums=block.sums,
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
        return (one, other) if one.axes == other.axes else None

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

    def _block(self, start: int, count: int) -> Block:
        assert self._runs is not None
        one, other = self._runs
        width = row_width(one.shape)
        return Block.between(one.read(start, count), other.read(start, count), (one.spec, other.spec), width, start)

    def _whole(self) -> Block:
        spec, other = self._specs
        assert self._partner is not None
        assert other is not None
        x, y = self._a.bits(self.name), self._b.bits(self._partner)
        order = _memory_order(x) if x.ndim == len(spec.shape) else list(range(x.ndim))
        x, y = (np.ascontiguousarray(array.transpose(order)) for array in (x, y))
        return Block.between(x, y, (spec, other), row_width(x.shape), 0)


class _Rows:
    """The rows of tasks in their order; those whose blocks are all there are let go of."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._rows: list[Difference] = []
        self._open: dict[_Task, Block] = {}

    def jobs(self, tasks: Iterable[_Task]) -> Iterator[tuple[_Task, Job[Block]]]:
        """The jobs of all tasks; what is small is done at once."""
        for task in tasks:
            self._open[task] = task.at_once()
            yield from ((task, job) for job in task.jobs())
            if task.is_small and len(self._open) == 1:
                self._finish(task)

    def add(self, task: _Task, block: Block) -> None:
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


def _memory_order(array: Array) -> list[int]:
    """Dimensions as they lie in memory, outermost first, as archives count rows."""
    dimensions = range(array.ndim)
    return sorted(dimensions, key=lambda axis: 0 if array.flags.c_contiguous else -array.strides[axis])
