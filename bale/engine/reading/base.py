"""The base: another checkpoint or archive that tensors are stored as differences to."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cached_property, partial
from itertools import chain
from pathlib import Path
from typing import TypeVar

import numpy as np

from bale.compressors.base import Reference
from bale.compressors.chunks import chunk_ranges, flat_spec
from bale.compressors.floats import require_float
from bale.engine.coding.stored import DecodeTask
from bale.engine.reading.base_tensor import BaseTensor, DecodedCache
from bale.engine.reading.decode import NO_BASE, Decoder, check_codecs
from bale.engine.reading.listing import is_stored_folder, weight_archives_of, weights_of
from bale.engine.reading.source import SourceFile
from bale.engine.run import Run
from bale.errors import ArchiveError, Refused, SourceError
from bale.io.archive.archive import ArchiveFile, is_archive, open_archive
from bale.io.archive.manifest import StoredUnit
from bale.io.sources.open import open_checkpoint
from bale.io.storage.files import own_name, reading
from bale.spec import Unit

K = TypeVar("K")

_DEPTH = 8
_PREFIX = 8  # pieces of a name that a wrapper may have put before all


@dataclass(frozen=True)
class Base:
    """An open base.

    Attributes
    ----------
    name : str
        Name of its file or folder, by which it is looked for beside an archive.
    """

    path: Path
    tensors: tuple[BaseTensor, ...]
    _digests: dict[tuple[int, ...], dict[str, list[BaseTensor]]] = field(default_factory=dict)

    @property
    def stamp(self) -> str:
        """Names, sizes and times of its files: another one where any of them is not as it was."""
        files = ((each, os.stat(each)) for each in files_of(self.path))
        return " ".join(f"{each.name} {stat.st_size} {stat.st_mtime_ns}" for each, stat in files)

    @property
    def name(self) -> str:
        """The last part of its path."""
        return own_name(self.path)

    def partner(self, unit: Unit) -> BaseTensor | None:
        """The tensor of the same name and shape as a unit, or the only one whose name ends alike."""
        found = _fitting(self._named(unit), unit) or _fitting(self._ending_alike(unit), unit)
        return found[0].of(unit.spec) if len(found) == 1 else None

    def tensor(self, stored: StoredUnit, archive: Path) -> BaseTensor:
        """The tensor that a unit was stored as a difference to.

        One of its name and of its dtype, if there is a choice: zeros of all dtypes have the same digest.

        Raises
        ------
        SourceError
            When the base has no such tensor; both digests are named.
        """
        unit, named = stored.unit, self._named(stored.unit)
        found = [tensor for tensor in _fitting(named, unit) if tensor.digest == stored.base]
        found = found or _fitting(self._by_digest(unit.spec.shape).get(stored.base or "", ()), unit)
        if found:
            return min(found, key=lambda tensor: tensor.unit.spec.dtype != unit.spec.dtype).of(unit.spec)
        what = f"has {named[0].digest} there" if named else "has none of that name"
        raise SourceError(
            f"{archive}: {unit.label} is a difference to a tensor with digest {stored.base}; {self.path} {what}",
            "give the base that it was compressed with",
        )

    def _named(self, unit: Unit) -> list[BaseTensor]:
        """The tensors that have a name of a unit."""
        names = dict.fromkeys(view.name for view in unit.views)
        return list(dict.fromkeys(tensor for name in names for tensor in self._by_name.get(name, ())))

    def _ending_alike(self, unit: Unit) -> list[BaseTensor]:
        """Tensors with a unit's name behind a prefix, or the other way about: wrappers put one before all names."""
        names = [view.name for view in unit.views]
        longer = (self._by_ending.get(name, ()) for name in names)
        shorter = (self._by_name.get(ending, ()) for name in names for ending in _endings(name))
        return list(dict.fromkeys(chain(*longer, *shorter)))

    @cached_property
    def _by_name(self) -> dict[str, list[BaseTensor]]:
        return _grouped((view.name, tensor) for tensor in self.tensors for view in tensor.unit.views)

    @cached_property
    def _by_ending(self) -> dict[str, list[BaseTensor]]:
        return _grouped(
            (ending, tensor) for name, each in self._by_name.items() for ending in _endings(name) for tensor in each
        )

    def _by_digest(self, shape: tuple[int, ...]) -> dict[str, list[BaseTensor]]:
        if shape not in self._digests:
            alike = (tensor for tensor in self.tensors if tensor.unit.spec.shape == shape)
            self._digests[shape] = _grouped((tensor.digest, tensor) for tensor in alike)
        return self._digests[shape]


def _endings(name: str) -> list[str]:
    """The rest of a name behind each of its first dots."""
    pieces = name.split(".", _PREFIX)
    return [".".join(pieces[at:]) for at in range(1, len(pieces))]


def _fitting(tensors: Iterable[BaseTensor], unit: Unit) -> list[BaseTensor]:
    return [tensor for tensor in tensors if _fits(tensor.unit, unit)]


def _grouped(pairs: Iterable[tuple[K, BaseTensor]]) -> dict[K, list[BaseTensor]]:
    groups: dict[K, list[BaseTensor]] = {}
    for key, tensor in pairs:
        groups.setdefault(key, []).append(tensor)
    return groups


@contextmanager
def open_base(path: Path, run: Run, depth: int = 0) -> Iterator[Base]:
    """Open a checkpoint, an archive or a folder of either as a base; `SourceError` when that cannot be.

    `depth` counts the bases that stand on this one.
    """
    refuse_depth(path, depth)
    with ExitStack() as stack:
        cache = DecodedCache()
        tensors: list[BaseTensor] = []
        try:
            for each in files_of(path):
                if is_archive(each):
                    archive = stack.enter_context(open_archive(each))
                    check_codecs(archive)
                    references = stack.enter_context(find_references(archive, None, run, depth + 1))
                    tensors += _stored_tensors(archive, Decoder(archive, run, references), cache)
                else:
                    checkpoint = open_checkpoint(each)
                    source = stack.enter_context(reading(each, SourceError))
                    tensors += _plain_tensors(SourceFile.of(checkpoint, source), cache)
        except ArchiveError as problem:
            raise SourceError(f"the base cannot be read: {problem.message}", problem.hint) from None
        if not tensors:
            raise SourceError(f"the base {path} holds no tensors", "name a checkpoint, a bale, or a folder of them")
        yield Base(path, tuple(tensors))


def refuse_depth(path: Path, depth: int) -> None:
    """Raise `SourceError` when too many bases stand on each other."""
    if depth > _DEPTH:
        raise SourceError(
            f"{path}: more than {_DEPTH} bases stand on each other, or in a circle", "start from a checkpoint"
        )


def files_of(path: Path) -> list[Path]:
    """The checkpoints or archives that a base is made of."""
    if not os.path.isdir(path):
        return [path]
    return weight_archives_of(path) if is_stored_folder(path) else [path / name for name in weights_of(path)]


def base_path(archive: ArchiveFile, path: Path | None) -> Path | None:
    """The path of the base of an archive: `path`, or beside the archive by its name; None where it has none.

    Raises `SourceError` when it is not there.
    """
    if archive.manifest.base is None:
        return None
    return path or _beside(archive.path, archive.manifest.base)


@contextmanager
def find_references(
    archive: ArchiveFile, path: Path | None, run: Run, depth: int = 0
) -> Iterator[_ReferenceFinder | None]:
    """The function that finds the tensors of an archive's base: the one at `path`, or beside the archive by its name.

    Every tensor that is needed is found, and its digest taken, before anything is decoded.

    Raises
    ------
    SourceError
        When the base is missing or not the one.
    """
    where = base_path(archive, path)
    if where is None:
        yield None
        return
    with open_base(where, run, depth) as base:
        found = {
            stored.unit.start: base.tensor(stored, archive.path)
            for stored in archive.manifest.units
            if stored.base is not None and stored.same_as is None
        }
        yield _ReferenceFinder(found)


@dataclass(frozen=True)
class _ReferenceFinder:
    found: dict[int, BaseTensor]

    def __call__(self, stored: StoredUnit) -> BaseTensor:
        return self.found[stored.unit.start]


def _beside(archive: Path, name: str) -> Path:
    """The path of the base of an archive that lies beside it; `SourceError` when it does not."""
    plain = name.removesuffix(".bale")
    if name == os.path.basename(name) and plain not in ("", ".", ".."):
        for folder in (archive.parent, archive.parent.parent):
            for candidate in (folder / plain, folder / f"{plain}.bale"):
                if os.path.exists(candidate) and candidate.resolve() != archive.resolve():
                    return candidate
    raise SourceError(f"{archive} holds differences to the base {name!r}, which is not beside it", NO_BASE)


def _plain_tensors(source: SourceFile, cache: DecodedCache) -> list[BaseTensor]:
    return [
        BaseTensor(
            unit,
            unit.spec,
            [
                DecodeTask(start, count, flat_spec(unit.spec, count).nbytes, partial(_read, source, unit, start, count))
                for start, count in chunk_ranges(unit.spec.elements)
            ],
            cache,
        )
        for unit in source.checkpoint.units
        if unit.views and unit.spec.elements and not unit.spec.info.packed
    ]


def _read(source: SourceFile, unit: Unit, start: int, count: int) -> Reference:
    size = flat_spec(unit.spec, count).nbytes
    return Reference(source.read(unit, start, count, np.empty(size, np.uint8)))


def _stored_tensors(archive: ArchiveFile, decoder: Decoder, cache: DecodedCache) -> list[BaseTensor]:
    return [
        BaseTensor(stored.unit, stored.unit.spec, _Pieces(decoder, index), cache, stored.digest)
        for index, stored in enumerate(archive.manifest.units)
        if stored.unit.views and stored.unit.spec.elements and not stored.unit.spec.info.packed
    ]


class _Pieces(Sequence[DecodeTask]):
    """The pieces of a stored tensor, asked for when they are needed: their side parts are decoded for that."""

    def __init__(self, decoder: Decoder, index: int) -> None:
        self._decoder, self._index = decoder, index

    @cached_property
    def _pieces(self) -> list[DecodeTask]:
        return self._decoder.tasks(self._index)

    def __getitem__(self, at: int) -> DecodeTask:  # type: ignore[override]
        return self._pieces[at]

    def __len__(self) -> int:
        return len(self._pieces)


def _fits(tensor: Unit, unit: Unit) -> bool:
    """Whether elements of one can be a reference for the other."""
    if tensor.spec.shape != unit.spec.shape or unit.spec.info.kind == "complex":
        return False
    if tensor.spec.dtype == unit.spec.dtype:
        return True
    try:
        require_float(tensor.spec)
        require_float(unit.spec)
    except Refused:
        return False
    return True
