"""The tensors of archives, decoded when asked for."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import numpy as np

from bale.compressors.base import Values
from bale.compressors.chunks import flat_bytes
from bale.compressors.pipeline import Pipeline
from bale.engine.coding.task import ReferenceTensor
from bale.engine.reading.decode import Decoder, check_codecs
from bale.engine.reading.layout import memory_order, native
from bale.engine.reading.names import Names, Place, label, opaque_notes
from bale.engine.reading.open_base import find_references
from bale.engine.reading.recorded import report_of
from bale.engine.reading.tensors import Tensors
from bale.engine.reading.unit_values import DecodedValues, UnitValues
from bale.engine.run import Run, one_blas_thread
from bale.io.archive.archive import ArchiveFile, open_archive
from bale.io.archive.manifest import StoredUnit
from bale.report.model import Report
from bale.spec import Array, View


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
        self._of_files = opaque_notes(
            (label(each.path, folder), each.manifest.kind, each.manifest.notes) for each in self._archives
        )
        units = [
            (label(decoder.archive.path, folder).removesuffix(".bale"), decoder.archive.manifest.units[index].unit)
            for decoder, index in self._index
        ]
        self._names = Names.of(units, self._are_equal)

    def _are_equal(self, place: Place, other: Place) -> bool:
        """Whether two tensors hold the same bits, by the digests of their units."""
        (one, view), (two, same) = place, other
        first, second = self._stored(one), self._stored(two)
        is_alike = view._replace(name="") == same._replace(name="") and first.unit.spec == second.unit.spec
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

    def blocks(self, name: str) -> Iterator[Array]:  # noqa: D102
        index, view = self._open(name)
        decoder, place = self._index[index]
        if self._is_plain(index, view):
            with one_blas_thread():
                yield from (block.data for block in decoder.blocks([place]))  # all threads decode, unlike in runs
        else:
            yield flat_bytes(np.ascontiguousarray(self.bits(name)))

    def _is_plain(self, index: int, view: View) -> bool:
        """Whether a tensor is all of its unit, in the order of its elements."""
        order = memory_order(view)
        is_whole = view.spec.nbytes == self._stored(index).unit.spec.nbytes
        return is_whole and order is not None and list(order) == sorted(order)

    def pipeline(self, name: str) -> Pipeline | None:
        """What a tensor was coded with; None where it is a part of what was coded, or lies in another order."""
        index, view = self._open(name)
        return self._index[index][0].pipeline(self._index[index][1]) if self._is_plain(index, view) else None

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
        return {part: native(each.array, each.spec.dtype) for part, each in self.part_values(name).items()}

    def part_values(self, name: str) -> dict[str, Values]:
        """The same in their storage bits, as codecs take them."""
        decoder, place = self._index[self._open(name)[0]]
        return decoder.parts(place)

    def part_blocks(self, name: str, part: str) -> Iterator[Values]:
        """One of the parts that a tensor is stored in, chunk by chunk, flat."""
        decoder, place = self._index[self._open(name)[0]]
        return decoder.part_blocks(place, part)

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
