"""Tensors by name, from a checkpoint or an archive alike, read or decoded one at a time."""

from __future__ import annotations

import os
import threading
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from bale.compressors.chunks import chunk_ranges, flat_bytes
from bale.engine.coding.task import ReferenceTensor
from bale.engine.reading.base import find_references
from bale.engine.reading.decode import Decoder, check_codecs
from bale.engine.reading.listing import stored_folder_row, weight_archives_of, weights_of
from bale.engine.reading.names import Names, Place
from bale.engine.reading.same_tensors import same_tensors_of_rows
from bale.engine.reading.source import SourceFile
from bale.engine.reading.unit_values import DecodedCache, DecodedValues, PlainValues, UnitValues
from bale.engine.rows import file_row
from bale.engine.run import Run, one_blas_thread
from bale.errors import SourceError
from bale.io.archive.archive import ArchiveFile, is_archive, open_archive
from bale.io.archive.manifest import StoredUnit
from bale.io.folders.record import is_stored_folder
from bale.io.names import source_of
from bale.io.sources.open import open_checkpoint
from bale.io.storage.files import reading
from bale.notes import Note
from bale.report.model import Report
from bale.spec import Array, TensorSpec, Unit, View

_NATIVE = {
    "BF16": "bfloat16",
    "F8_E5M2": "float8_e5m2",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E8M0": "float8_e8m0fnu",
    "F8_E4M3FNUZ": "float8_e4m3fnuz",
    "F8_E5M2FNUZ": "float8_e5m2fnuz",
}

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
        self._resources = ExitStack()

    @abstractmethod
    def _unit(self, index: int) -> Array:
        """The array of a unit, in its storage bits."""

    @abstractmethod
    def _values(self, index: int) -> UnitValues:
        """The values of a unit, to be read in runs."""

    def bits(self, name: str) -> Array:
        """The array of a tensor in its storage bits (BF16 as uint16, 8-bit floats as uint8)."""
        index, view = self._names.find(name)
        with one_blas_thread():
            unit = self._unit(index)
        if view.spec.nbytes > max(_EXPANDED, _REPEATED * unit.nbytes):
            raise SourceError(
                f"{name} says {view.spec.nbytes} bytes by repeating the {unit.nbytes} that it has",
                "save the checkpoint again with less of it",
            )
        return arrange(unit, view)

    def run(self, name: str) -> TensorRun | None:
        """The elements of a tensor in the order in which they lie in memory; None where they do not lie side by side.

        None too for types below a byte.
        """
        return self._run_of(self._names.find(name))

    def _run_of(self, place: Place) -> TensorRun | None:
        index, view = place
        axes = memory_order(view)
        if axes is None or view.spec.info.packed:
            return None
        values = self._values(index)
        return None if values.spec.dtype != view.spec.dtype else TensorRun(view.spec, axes, values, view.offset)

    @property
    def notes(self) -> tuple[Note, ...]:
        """Remarks on files that hold the same tensors."""
        return self._names.notes

    def __getitem__(self, name: str) -> Array:
        return _native(self.bits(name), self.spec(name).dtype)

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

    def same_unit(self, name: str) -> tuple[int, int, tuple[int, ...] | None]:
        """A key that is equal for tensors that share their memory: tied weights."""
        index, view = self._names.find(name)
        return index, view.offset, view.strides

    def close(self) -> None:
        """Close the files."""
        self._resources.close()

    def __enter__(self) -> Any:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Checkpoints(Tensors):
    """The tensors of checkpoint files, which lie below `folder` if that is given."""

    def __init__(self, paths: Sequence[Path], folder: Path | None = None) -> None:
        super().__init__()
        self._units: list[tuple[SourceFile, Unit]] = []
        try:
            for path in paths:
                checkpoint = open_checkpoint(path)
                opened = self._resources.enter_context(reading(path, SourceError))
                source = SourceFile.of(checkpoint, opened)
                self._units += [(source, unit) for unit in checkpoint.units]
        except BaseException:
            self.close()
            raise
        units = [(_label(source.checkpoint.path, folder), unit) for source, unit in self._units]
        self._names = Names.of(units, self._are_equal)

    def _are_equal(self, place: Place, other: Place) -> bool:
        """Whether two tensors hold the same bits: they are read until they do not."""
        first, second = self._run_of(place), self._run_of(other)
        if first is None or second is None or place[1].spec != other[1].spec or first.axes != second.axes:
            return False
        size = place[1].spec.elements
        ranges = [((size - 1) // 2, 1), *chunk_ranges(size)] if size else []
        return all(np.array_equal(flat_bytes(first.read(*each)), flat_bytes(second.read(*each))) for each in ranges)

    def _values(self, index: int) -> UnitValues:
        return PlainValues.of_unit(*self._units[index])

    def _unit(self, index: int) -> Array:
        source, unit = self._units[index]
        return source.read(unit, 0, unit.spec.elements, np.empty(unit.spec.nbytes, np.uint8))


class Archives(Tensors):
    """The tensors of archives, decoded when asked for.

    Parameters
    ----------
    paths : sequence of Path
        The archives of one checkpoint.
    threads : int or None
        Workers for long tensors; None for one a core.
    folder : Path or None
        The folder that they are the weights of, if it was compressed as one.
    base : Path or None
        Where the base of their differences lies, if not beside them.
    first : bool
        Whether only the first layer of each tensor is wanted.
    run : Run or None
        Used in place of one of its own.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        threads: int | None = None,
        folder: Path | None = None,
        base: Path | None = None,
        first: bool = False,
        run: Run | None = None,
    ) -> None:
        super().__init__()
        self._folder = folder
        self._run = run or self._resources.enter_context(Run(threads))
        self._archives: list[ArchiveFile] = []
        self._index: list[tuple[Decoder, int]] = []
        try:
            for path in paths:
                archive = self._resources.enter_context(open_archive(path))
                check_codecs(archive)
                self._archives.append(archive)
                decoder = Decoder(archive, self._run, _WhenNeeded(archive, base, self._run, self._resources), first)
                self._index += [(decoder, index) for index in range(len(archive.manifest.units))]
        except BaseException:
            self.close()
            raise
        units = [
            (_label(decoder.archive.path, folder).removesuffix(".bale"), decoder.archive.manifest.units[index].unit)
            for decoder, index in self._index
        ]
        self._names = Names.of(units, self._are_equal)

    def _are_equal(self, place: Place, other: Place) -> bool:
        """Whether two tensors hold the same bits, by the digests of their units."""
        (one, view), (two, same) = place, other
        first, second = self._stored(one), self._stored(two)
        is_alike = replace(view, name="") == replace(same, name="") and first.unit.spec == second.unit.spec
        return is_alike and first.digest == second.digest and (first.first, first.base) == (second.first, second.base)

    def _stored(self, index: int) -> StoredUnit:
        decoder, place = self._index[index]
        return decoder.archive.manifest.units[place]

    def _values(self, index: int) -> UnitValues:
        decoder, place = self._index[index]
        return DecodedValues.of_unit(decoder, place, self._cache)

    @property
    def paths(self) -> tuple[Path, ...]:
        """The archives' files."""
        return tuple(archive.path for archive in self._archives)

    @property
    def exact(self) -> bool:
        """Whether every tensor is the source's, bit for bit."""
        return all(map(self.is_exact, self))

    def is_exact(self, name: str) -> bool:
        """Whether a tensor is the source's, bit for bit."""
        decoder, place = self._index[self._names.find(name)[0]]
        units = decoder.archive.manifest.units
        duplicate_of = units[place].same_as
        stored = units[place if duplicate_of is None else duplicate_of]
        return stored.errors is None and not (decoder.first and (stored.first or stored.base))

    def _unit(self, index: int) -> Array:
        decoder, place = self._index[index]
        return decoder.array(place)

    def blocks(self, name: str) -> Iterator[Array]:
        """The bytes of a tensor in the order of its elements, in arrays that are bounded where it is a whole unit."""
        index, view = self._names.find(name)
        decoder, place = self._index[index]
        order = memory_order(view)
        is_whole = view.spec.nbytes == decoder.archive.manifest.units[place].unit.spec.nbytes
        if is_whole and order is not None and list(order) == sorted(order):
            with one_blas_thread():
                yield from (block.data for block in decoder.blocks([place]))
        else:
            yield flat_bytes(np.ascontiguousarray(self.bits(name)))

    def parts(self, name: str) -> dict[str, Array]:
        """The parts that a tensor is stored in, not put together: factors, for one.

        Parameters
        ----------
        name : str
            A tensor.

        Returns
        -------
        dict
            Arrays by part: ``u`` and ``vh`` for ``svd`` and for ``svd+int8``, where they are dequantized; ``qdata``,
            ``scale`` and ``zero`` for ``int8``; ``data`` for tensors stored losslessly. Parts of a lossy second
            layer, and those of a difference to a base, have ``rest.`` before their names. An exact second layer is left
            out, as it is nothing without the first. They are the parts of the tensor as it lies in memory, with the
            dimensions of a transposed one in that order.

        Raises
        ------
        ArchiveError
            For damaged parts.
        """
        decoder, place = self._index[self._names.find(name)[0]]
        return {part: _native(values.array, values.spec.dtype) for part, values in decoder.parts(place).items()}

    @property
    def report(self) -> Report:
        """The report as far as the archives record it: without digests of the archives, and without times."""
        return report_of(self._archives, self._folder)


class _WhenNeeded:
    """Opens the base of an archive when the first tensor asks for it: names and specs are to be had without."""

    def __init__(self, archive: ArchiveFile, base: Path | None, run: Run, resources: ExitStack) -> None:
        self._open = partial(find_references, archive, base, run)
        self._resources = resources
        self._lock = threading.Lock()
        self._find: Callable[[StoredUnit], ReferenceTensor] | None = None

    def __call__(self, stored: StoredUnit) -> ReferenceTensor:
        with self._lock:
            if self._find is None:
                self._find = self._resources.enter_context(self._open())
        assert self._find is not None  # a manifest with differences names its base
        return self._find(stored)


def open_tensors(path: Path, threads: int | None = None, run: Run | None = None) -> Tensors:
    """Open the tensors under `path`: a checkpoint, an archive, or a folder of either."""
    if os.path.isdir(path):
        if is_stored_folder(path):
            return Archives(weight_archives_of(path), threads, path, run=run)
        return Checkpoints([path / name for name in weights_of(path)], path)
    if is_archive(path):
        return Archives([path], threads, run=run)
    return Checkpoints([path])


def report_of(archives: Sequence[ArchiveFile], folder: Path | None = None) -> Report:
    """A report rebuilt from archives alone: without times, and without digests that need a pass over the file."""
    source = source_of if folder is None else (lambda name: name.removesuffix(".bale"))
    stored = [(archive, _label(archive.path, folder)) for archive in archives]
    files = tuple(
        file_row(
            archive.manifest,
            source(name),
            name,
            archive.size,
            None,
            digest=archive.digest,
        )
        for archive, name in stored
    )
    first = archives[0].manifest
    row, notes = (None, []) if folder is None else stored_folder_row(folder)
    notes += [] if folder is None else same_tensors_of_rows(files)
    return Report(first.tool, ".".join(map(str, first.format)), False, files, row, tuple(notes))


@dataclass(frozen=True)
class TensorRun:
    """The elements of a tensor that lie side by side.

    Attributes
    ----------
    spec : TensorSpec
        Dtype and shape of the tensor.
    axes : tuple of int
        Its dimensions as they lie in memory, outermost first; those of one element do not count.
    """

    spec: TensorSpec
    axes: tuple[int, ...]
    values: UnitValues
    offset: int

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape with the dimensions as they lie in memory."""
        shape = self.spec.shape
        return shape if list(self.axes) == sorted(self.axes) else tuple(shape[axis] for axis in self.axes)

    @property
    def is_whole(self) -> bool:
        """Whether it is all of its unit."""
        return self.spec.elements == self.values.unit.spec.elements

    def read(self, start: int, count: int) -> Array:
        """Elements in their storage bits, flat."""
        return self.values.read(self.offset + start, count)


def memory_order(view: View) -> tuple[int, ...] | None:
    """The dimensions of a tensor as they lie in memory, outermost first; None where elements do not lie side by side.

    Dimensions of one element are left out.
    """
    sizes = view.spec.shape
    axes = [axis for axis, size in enumerate(sizes) if size > 1]
    if view.strides is None or not view.spec.elements:
        return tuple(axes)
    strides = view.strides
    axes.sort(key=lambda axis: -strides[axis])
    step = 1
    for axis in reversed(axes):
        if strides[axis] != step:
            return None
        step *= sizes[axis]
    return tuple(axes)


def arrange(array: Array, view: View) -> Array:
    """The values of a tensor within the array of its unit."""
    spec = view.spec
    start = view.offset * spec.info.bits // 8
    flat = array.reshape(-1).view(np.uint8)[start : (view.reach + 7) // 8].view(spec.storage)
    try:
        if view.strides is None or spec.info.packed or not spec.elements:
            return flat.reshape(spec.storage_shape)
        # Bounds: View.reach was checked, where strides count only if there is something to step to.
        steps = zip(spec.shape, view.strides, strict=True)
        strides = tuple(stride * spec.storage.itemsize if size > 1 else 0 for size, stride in steps)
        return np.lib.stride_tricks.as_strided(flat, spec.shape, strides)
    except (ValueError, OverflowError):
        raise SourceError(f"{view.name} has the shape {list(spec.shape)}, which numpy does not hold") from None


def _native(array: Array, dtype: str) -> Array:
    """Storage bits as the dtype that numpy, or `ml_dtypes`, has for them."""
    if dtype not in _NATIVE:
        return array
    import ml_dtypes

    return array.view(getattr(ml_dtypes, _NATIVE[dtype]))


def _label(path: Path, folder: Path | None) -> str:
    return path.name if folder is None else path.relative_to(folder).as_posix()
