"""Coding tasks: a tensor, its pipeline and its reference; the same for encoders, decoders and predictions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from bale.compressors.base import Reference
from bale.compressors.chunks import forced_chain
from bale.compressors.importance import Importance
from bale.compressors.pipeline import Pipeline
from bale.engine.run import Run
from bale.spec import CHUNK_LIMIT, Array, TensorSpec

SECOND = "rest."
"""Prefix of the names of parts that belong to the second layer."""
SECOND_EXACT = "rest.data"

QUANTIZED_COST = 12  # bytes an element while a block is quantized: source, float32, decoded float32


class ReferenceTensor(Protocol):
    """The tensor of a base, as the dtype of the one that is coded given it."""

    def elements(self, start: int, count: int) -> Reference:
        """Its elements from `start` on."""

    def subtract(self, array: Array, start: int) -> Array:
        """Elements less its own from `start` on."""

    def add(self, array: Array, start: int) -> Array:
        """Add its own elements back to differences; the mirror image of `subtract`."""


@dataclass(frozen=True)
class Task:
    """One unit to encode or to decode.

    Attributes
    ----------
    pipeline : Pipeline
        All layers, less a base.
    reference : ReferenceTensor or None
        The tensor of a base, where that is the layer before them.
    limit : int
        Elements of a chunk at the most; longer quantized tensors are coded in blocks.
    """

    spec: TensorSpec
    pipeline: Pipeline
    reference: ReferenceTensor | None = None
    limit: int = CHUNK_LIMIT

    @classmethod
    def of(cls, spec: TensorSpec, pipeline: Pipeline, reference: ReferenceTensor | None = None) -> Task:
        """The task of a whole pipeline; `reference` must be given where its first layer is a base."""
        if not pipeline.on_base:
            return cls(spec, pipeline, limit=CHUNK_LIMIT)
        assert pipeline.rest is not None
        return cls(spec, pipeline.rest, reference, CHUNK_LIMIT)

    @property
    def first(self) -> Task:
        """The task of its first layer alone; not of one with a reference, which is the first layer itself."""
        return Task(self.spec, self.pipeline.first, None, self.limit)

    @property
    def prefix(self) -> str:
        """Prefix of the names of its parts."""
        return "" if self.reference is None else SECOND

    @property
    def has_exact_layer(self) -> bool:
        """Whether a lossy layer is followed by an exact one."""
        return self.pipeline.rest is not None and self.pipeline.rest.is_exact

    def less_reference(self, array: Array, start: int) -> Array:
        """Elements from `start` on less the reference: the values to be coded."""
        return array if self.reference is None else self.reference.subtract(array, start)

    def with_reference(self, array: Array, start: int) -> Array:
        """Add the reference back to decoded values; the mirror image of `less_reference`."""
        return array if self.reference is None else self.reference.add(array, start)


class UnitReader(Protocol):
    """The values of the unit that is encoded."""

    def read(self, start: int, count: int, buffer: Array) -> Array:
        """Elements in their storage bits, in a buffer of as many bytes."""

    def differs(self) -> Exception:
        """The error for a unit that did not read the same twice."""


@dataclass(frozen=True)
class Work:
    """The inputs of an encoder beside its task.

    Attributes
    ----------
    measure : bool
        Whether the norms of what is coded exactly are wanted, for the pooled error of a lossy plan.
    fallback : Pipeline
        The pipeline of chunks that are coded exactly, where they are not given a reference.
    importance : callable
        Reads the importance of the elements, where it is known, in `importance_bytes` of memory.
    """

    source: UnitReader
    run: Run
    measure: bool
    fallback: Pipeline
    importance: Callable[[], Importance | None] = lambda: None
    importance_bytes: int = 0

    def chain(self, task: Task) -> str | None:
        """The storage chain that the user forced."""
        return forced_chain(self.fallback if task.pipeline.is_exact else task.pipeline)
