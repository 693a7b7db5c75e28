"""Names of the tensors of several files, of which some may have the same ones."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

from bale.notes import Note, many
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
    same : dict
        For pairs of files, the later one first, the number of tensors that both hold with the same bits.
    """

    places: dict[str, Place] = field(default_factory=dict)
    others: dict[str, Place] = field(default_factory=dict)
    same: dict[tuple[str, str], int] = field(default_factory=dict)

    @classmethod
    def of(cls, units: Sequence[tuple[str, Unit]], are_equal: Callable[[Place, Place], bool]) -> Names:
        """Name the tensors of units, each with the name of its file."""
        found: dict[str, list[tuple[str, Place]]] = {}
        for index, (file, unit) in enumerate(units):
            for view in unit.views:
                found.setdefault(view.name, []).append((file, (index, view)))
        names = cls()
        taken = set(found)
        for name, places in found.items():
            (file, first), *rest = places
            if len(rest) == 0:
                names.places[name] = first
                continue
            is_same = all(are_equal(first, other) for _, other in rest)
            if is_same:
                names.places[name] = first
            for each, place in places:
                qualified = _free(f"{each}:{name}", taken)
                taken.add(qualified)
                (names.others if is_same else names.places)[qualified] = place
                if is_same and each != file:
                    names.same[each, file] = names.same.get((each, file), 0) + 1
        return names

    def find(self, name: str) -> Place:
        """Where a tensor is; `KeyError` where there is none of this name."""
        return self.places[name] if name in self.places else self.others[name]

    @property
    def notes(self) -> tuple[Note, ...]:
        """Remarks on files that hold the same tensors."""
        return tuple(
            Note("same-tensors", f"{file} holds the same {many(number, 'tensor')} as {other}")
            for (file, other), number in self.same.items()
        )


def _free(name: str, taken: Collection[str]) -> str:
    """The name, or with ~2, ~3, ... behind it where it is taken."""
    return next(each for at in count(1) if (each := name if at == 1 else f"{name}~{at}") not in taken)


def label(path: Path, folder: Path | None) -> str:
    """The name of a file: within a folder, if there is one."""
    return path.name if folder is None else path.relative_to(folder).as_posix()
