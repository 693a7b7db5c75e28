"""Tensors by name, read or decoded one at a time."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import Any

import numpy as np

from bale.compressors.chunks import chunk_ranges, flat_bytes
from bale.engine.reading.layout import TensorRun, arrange, memory_order, native
from bale.engine.reading.names import Names, Place
from bale.engine.reading.unit_values import DecodedCache, UnitValues
from bale.engine.run import one_blas_thread
from bale.errors import SourceError, UsageError
from bale.notes import Note
from bale.spec import Array, TensorSpec

_EXPANDED, _REPEATED = 1 << 28, 64  # bytes of a tensor that repeats its values, and times those that it has


class Tensors(Mapping[str, Array]):
    """Arrays by tensor name; each is read again whenever it is asked for.

    A name that several files of a folder have, with other values, is qualified by the file:
    ``unet/model.safetensors:weight``.

    Dtypes that numpy lacks come as those of `ml_dtypes` (bfloat16, 8-bit floats); packed 4- and 6-bit floats come as
    their bytes. Use as a context manager, or `close` it.
    """

    def __init__(self) -> None:
        self._names = Names()
        self._cache = DecodedCache()
        self._of_files: tuple[Note, ...] = ()
        self._resources = ExitStack()
        self._is_closed = False

    @abstractmethod
    def _unit(self, index: int) -> Array:
        """The array of a unit, in its storage bits."""

    @abstractmethod
    def _values(self, index: int) -> UnitValues:
        """The values of a unit, to be read in runs."""

    @abstractmethod
    def _are_equal(self, place: Place, other: Place) -> bool:
        """Whether two tensors hold the same bits."""

    def bits(self, name: str) -> Array:
        """The array of a tensor in its storage bits (BF16 as uint16, 8-bit floats as uint8)."""
        index, view = self._open(name)
        with one_blas_thread():
            unit = self._unit(index)
        if view.spec.nbytes > max(_EXPANDED, _REPEATED * unit.nbytes):
            raise SourceError(
                f"{name} says {view.spec.nbytes} bytes by repeating the {unit.nbytes} that it has",
                "save the checkpoint again with less of it",
            )
        return arrange(unit, view)

    def blocks(self, name: str) -> Iterator[Array]:
        """The bytes of a tensor in the order of its elements, in arrays that are bounded where it lies so in memory.

        Each is to be used before the next one is asked for.
        """
        run = self.run(name)
        if run is None or list(run.axes) != sorted(run.axes):
            yield flat_bytes(np.ascontiguousarray(self.bits(name)))
            return
        for start, count in chunk_ranges(run.spec.elements):
            yield flat_bytes(run.read(start, count))

    def run(self, name: str) -> TensorRun | None:
        """The elements of a tensor in the order in which they lie in memory; None where they do not lie side by side.

        None too for types below a byte.
        """
        return self._run_of(self._open(name))

    def _open(self, name: str) -> Place:
        """Where the values of a tensor lie, in a file that is still open."""
        if self._is_closed:
            raise UsageError(f"{name} cannot be read: it is closed", "read tensors before close(), or within `with`")
        return self._names.find(name)

    def _run_of(self, place: Place) -> TensorRun | None:
        index, view = place
        axes = memory_order(view)
        if axes is None or view.spec.info.packed:
            return None
        values = self._values(index)
        return None if values.spec.dtype != view.spec.dtype else TensorRun(view.spec, axes, values, view.offset)

    @property
    def notes(self) -> tuple[Note, ...]:
        """Remarks on files that no reader follows, and on those that hold the same tensors."""
        return (*self._of_files, *self._names.notes)

    def __getitem__(self, name: str) -> Array:
        return native(self.bits(name), self.spec(name).dtype)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names.places)

    def __len__(self) -> int:
        return len(self._names.places)

    def __contains__(self, name: object) -> bool:  # the inherited one would decode the tensor
        return name in self._names.places or name in self._names.others

    def spec(self, name: str) -> TensorSpec:
        """Dtype and shape of a tensor."""
        return self._names.find(name)[1].spec

    @property
    def specs(self) -> dict[str, TensorSpec]:
        """Dtype and shape of every tensor."""
        return {name: view.spec for name, (_, view) in self._names.places.items()}

    @property
    def qualified(self) -> tuple[str, ...]:
        """Names qualified by files, of tensors that have a plain one too."""
        return tuple(self._names.others)

    @property
    def shared(self) -> Mapping[str, Sequence[str]]:
        """Names that several files have with other values, and the qualified ones that stand for them."""
        return self._names.shared

    def same_unit(self, name: str) -> tuple[int, int, tuple[int, ...] | None]:
        """A key that is equal for tensors that share their memory: tied weights."""
        index, view = self._names.find(name)
        return index, view.offset, view.strides

    def are_equal(self, name: str, other: str) -> bool:
        """Whether two tensors hold the same bits, by what is known of them: of an archive its digests."""
        return self.same_unit(name) == self.same_unit(other) or self._are_equal(self._open(name), self._open(other))

    def close(self) -> None:
        """Close the files; names, dtypes and shapes stay known."""
        self._is_closed = True
        self._resources.close()

    def __enter__(self) -> Any:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
