"""The base: another checkpoint or archive that tensors are stored as differences to."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path

from bale.engine.reading.listing import indexed_files
from bale.engine.reading.pairing import Candidate, Pairing, fits, unwrapped
from bale.engine.reading.source import UnitSource
from bale.engine.reading.unit_values import UnitValues
from bale.engine.run import Job, Run
from bale.errors import SourceError
from bale.io.archive.manifest import StoredUnit
from bale.io.names import own_name
from bale.io.storage.files import reason
from bale.notes import Note, many
from bale.planning.renames import Renames
from bale.spec import Unit

_SAFETENSORS = ".safetensors"


@dataclass(frozen=True, eq=False)
class BaseFile:
    """One open file of a base."""

    path: Path
    tensors: tuple[UnitValues, ...]


@dataclass(frozen=True)
class Match:
    """The tensor of a base for a unit, whether the two have anything in common, and a remark where there is one."""

    tensor: UnitValues
    is_related: bool
    note: Note | None = None


@dataclass(frozen=True)
class Base:
    """An open base.

    Attributes
    ----------
    renames : Renames
        What tensors of the source are called in it.
    notes : tuple of Note
        Remarks on files of it that no reader follows.
    name : str
        Name of its file or folder, by which it is looked for beside an archive.
    """

    path: Path
    files: tuple[BaseFile, ...]
    renames: Renames = field(default_factory=Renames)
    notes: tuple[Note, ...] = ()
    _digests: dict[tuple[int, ...], dict[str, list[UnitValues]]] = field(default_factory=dict)

    @cached_property
    def tensors(self) -> tuple[UnitValues, ...]:
        """The tensors of all files."""
        return tuple(tensor for file in self.files for tensor in file.tensors)

    @cached_property
    def stamp(self) -> str:
        """Names, sizes and times of its files, and renames: another one where any of them is not as it was."""
        try:
            files = [(file.path.name, os.stat(file.path)) for file in self.files]
        except OSError as problem:
            message = f"the base {self.path} has changed: {reason(problem)}"
            raise SourceError(message, "give one that stays as it is") from None
        states = " ".join(f"{name} {stat.st_size} {stat.st_mtime_ns}" for name, stat in files)
        return f"{states} {self.renames}".rstrip()

    @property
    def name(self) -> str:
        """The last part of its path."""
        return own_name(self.path)

    def matches(self, units: Sequence[Unit], values: Callable[[Unit], UnitSource], run: Run) -> list[Match | None]:
        """The tensor for each unit of a file, if there is one, by name or else by content; see `Pairing`.

        Parameters
        ----------
        values : callable
            Gives access to the values of a unit.
        """
        numbers = [number for number, unit in enumerate(units) if can_be_known(unit)]
        wanted = [units[number] for number in numbers]
        candidates = [Candidate(_names(unit), unit.spec, values(unit).sample) for unit in wanted]

        def is_related(number: int, index: int) -> bool:
            return self.tensors[index].of(wanted[number].spec).is_related(candidates[number].elements)

        named = self._pairing.by_name(candidates)
        jobs = (
            ((number, index), Job(partial(is_related, number, index), self.tensors[index].largest_cost))
            for number, index in enumerate(named)
            if index is not None
        )
        related = {pair for pair, future in run.ordered(jobs) if future.result()}
        sure = [index if (number, index) in related else None for number, index in enumerate(named)]
        by_content = self._pairing.by_content(candidates, sure, is_related)
        found: list[Match | None] = [None] * len(units)
        for number, (unit, index) in enumerate(zip(wanted, named, strict=True)):
            index = by_content.get(number, index)
            if index is not None:
                tensor, is_found = self.tensors[index].of(unit.spec), number in by_content
                is_sure = is_found or sure[number] is not None
                found[numbers[number]] = Match(tensor, is_sure, self._note(unit, tensor, index, is_found))
        return found

    def lacks(self, unit: Unit) -> str:
        """The reason why a unit has no match."""
        named = [each for each in self._named(unit) if each.unit.spec.shape == unit.spec.shape]
        fitting = [each for each in named if fits(each.unit.spec, unit.spec)]
        if len(fitting) > 1:
            return f"the base has {len(fitting)} tensors of this name and shape, and none has values like these"
        if named and not fitting:
            return f"the base has it as {named[0].unit.spec.dtype}, which is no reference for {unit.spec.dtype}"
        return "the base has no tensor of this name and shape"

    def tensor(self, stored: StoredUnit, archive: Path) -> UnitValues:
        """The tensor that a unit was stored as a difference to.

        One of its name and of its dtype, if there is a choice: zeros of all dtypes have the same digest.

        Raises
        ------
        SourceError
            When the base has no such tensor; both digests are named.
        """
        unit, named = stored.unit, self._named(stored.unit)
        for rows in (False, True):
            found = [each for each in named if fits(each.unit.spec, unit.spec, rows) and each.digest == stored.base]
            if not found:
                alike = self._by_digest(unit.spec.shape, rows).get(stored.base or "", ())
                found = [each for each in alike if fits(each.unit.spec, unit.spec, rows)]
            if found:
                return min(found, key=lambda tensor: tensor.unit.spec.dtype != unit.spec.dtype).of(unit.spec)
        what = f"has {named[0].digest} there" if named else "has none of that name"
        raise SourceError(
            f"{archive}: {unit.label} is a difference to a tensor with digest {stored.base}; {self.path} {what}",
            "give the base that it was compressed with",
        )

    @cached_property
    def _pairing(self) -> Pairing:
        offered = [Candidate(_names(tensor.unit), tensor.spec, tensor.read) for tensor in self.tensors]
        return Pairing(offered, self.renames, self._choose)

    def _choose(self, several: Sequence[int]) -> int | None:
        """Of tensors of one name: any of those with equal bits, else that of an indexed file, or of safetensors."""
        if len({self._file_of[each].path for each in several}) < len(several):
            return None  # not one name in several files, but several names that end alike
        if len({self.tensors[each].digest for each in several}) == 1:
            return several[0]
        for is_preferred in (self._is_indexed, self._is_safetensors):
            found = [each for each in several if is_preferred(self._file_of[each].path)]
            if len(found) == 1:
                return found[0]
        return None

    def _is_indexed(self, path: Path) -> bool:
        return path in self._indexed

    @cached_property
    def _indexed(self) -> set[Path]:
        """The files that an index of shards names."""
        return {self.path / name for name in indexed_files(self.path)} if os.path.isdir(self.path) else set()

    @staticmethod
    def _is_safetensors(path: Path) -> bool:
        return path.name.removesuffix(".bale").endswith(_SAFETENSORS)

    def _note(self, unit: Unit, tensor: UnitValues, index: int, by_content: bool) -> Note | None:
        """A remark on a tensor of the base that is not just the one of a unit's name."""
        rows = tensor.common_rows
        if rows is not None:
            new = max(0, unit.spec.shape[0] - rows)
            more = f"; {many(new, 'row')} {'is' if new == 1 else 'are'} new" if new else ""
            name = f", as {tensor.unit.label}" if by_content else ""
            return Note("paired", f"the base has {many(tensor.unit.spec.shape[0], 'row')} of it{name}{more}")
        if by_content:
            of = f" of {self._file_of[index].path.name}" if len(self.files) > 1 else ""
            return Note("paired", f"given the base's {tensor.unit.label}{of}, found by its values")
        several = [each for each in self._by_name[tensor.unit.label] if fits(self.tensors[each].unit.spec, unit.spec)]
        if len({self._file_of[each].path for each in several}) < 2:
            return None
        if len({self.tensors[each].digest for each in several}) == 1:
            return None
        files = " and ".join(dict.fromkeys(self._file_of[each].path.name for each in several))
        taken = self._file_of[index].path.name
        return Note("paired", f"{files} of the base have it with other values: that of {taken} is taken")

    @cached_property
    def _file_of(self) -> list[BaseFile]:
        """The file of each tensor."""
        return [file for file in self.files for _ in file.tensors]

    @cached_property
    def _by_name(self) -> dict[str, list[int]]:
        groups: dict[str, list[int]] = {}
        for index, tensor in enumerate(self.tensors):
            for view in tensor.unit.views:
                groups.setdefault(view.name, []).append(index)
        return groups

    def _named(self, unit: Unit) -> list[UnitValues]:
        """The tensors that have a name of a unit, wrapped or not."""
        names = dict.fromkeys(name for each in _names(unit) for name in (each, unwrapped(each)))
        return [self.tensors[at] for at in dict.fromkeys(at for name in names for at in self._by_name.get(name, ()))]

    def _by_digest(self, shape: tuple[int, ...], rows: bool) -> dict[str, list[UnitValues]]:
        """Tensors of a shape, or of one with another number of rows, by their digests."""
        key = (-1, *shape[1:]) if rows and shape else shape
        if key not in self._digests:
            groups: dict[str, list[UnitValues]] = {}
            for tensor in self.tensors:
                own = tensor.unit.spec.shape
                if own == shape or (rows and len(own) == len(shape) and own[1:] == shape[1:]):
                    groups.setdefault(tensor.digest, []).append(tensor)
            self._digests[key] = groups
        return self._digests[key]


def _names(unit: Unit) -> tuple[str, ...]:
    return tuple(dict.fromkeys(view.name for view in unit.views))


def can_be_known(unit: Unit) -> bool:
    """Whether a unit of a base can be a reference."""
    return bool(unit.views and unit.spec.elements and not unit.spec.info.packed)
