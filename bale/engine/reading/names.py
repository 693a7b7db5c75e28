"""Names of the tensors of several files, of which some may have the same ones."""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

from bale.engine.reading.same_tensors import same_tensors
from bale.notes import Note, notes_of_files
from bale.spec import Unit, View

Place = tuple[int, View]
"""The number of a unit, and where in it a tensor lies."""


@dataclass
class Names:
    """Where each tensor is.

    Attributes
    ----------
    places : dict
        By name: the plain one where no other file has it, or where all that have it hold the same bits; else qualified
        by the file, ``unet/model.safetensors:weight``.
    others : dict
        Qualified names of tensors that have a plain one too.
    shared : dict
        The qualified names of tensors that have no plain one, by the name that all of them have in their files.
    notes : tuple of Note
        Remarks on files that hold the same tensors.
    """

    places: dict[str, Place] = field(default_factory=dict)
    others: dict[str, Place] = field(default_factory=dict)
    shared: dict[str, list[str]] = field(default_factory=dict)
    notes: tuple[Note, ...] = ()

    @classmethod
    def of(cls, units: Sequence[tuple[str, Unit]], are_equal: Callable[[Place, Place], bool]) -> Names:
        """Name the tensors of units, each with the name of its file."""
        found: dict[str, list[tuple[str, Place]]] = {}
        for index, (file, unit) in enumerate(units):
            for view in unit.views:
                found.setdefault(view.name, []).append((file, (index, view)))
        names = cls()
        taken = set(found)
        held: dict[str, dict[Hashable, int]] = {}
        for name, places in found.items():
            (_, first), *rest = places
            is_same = all(are_equal(first, other) for _, other in rest)
            for each, place in places:
                held.setdefault(each, {})[name if is_same else (each, name)] = place[1].spec.nbytes
            if is_same:
                names.places[name] = first
            for each, place in places if rest else ():
                qualified = _free(f"{each}:{name}", taken)
                taken.add(qualified)
                (names.others if is_same else names.places)[qualified] = place
                if not is_same:
                    names.shared.setdefault(name, []).append(qualified)
        names.notes = tuple(same_tensors(held))
        return names

    def find(self, name: str) -> Place:
        """Where a tensor is; `KeyError` where there is none of this name."""
        found = self.places.get(name) or self.others.get(name)
        if found is None:
            several = self.shared.get(name)
            raise KeyError(f"{name}, which is {' and '.join(several)}" if several else name)
        return found


def _free(name: str, taken: Collection[str]) -> str:
    """The name, or with ~2, ~3, ... behind it where it is taken."""
    return next(each for at in count(1) if (each := name if at == 1 else f"{name}~{at}") not in taken)


def opaque_notes(files: Iterable[tuple[str, str, Sequence[Note]]]) -> tuple[Note, ...]:
    """Why files that no reader follows, of names, kinds and notes, have no tensors by name."""
    opaque = ((name, note) for name, kind, notes in files if kind == "opaque" for note in notes)
    return notes_of_files(opaque, named=True)


def label(path: Path, folder: Path | None) -> str:
    """The name of a file: within a folder, if there is one."""
    return path.name if folder is None else path.relative_to(folder).as_posix()
