"""Data files that another file describes: which tensor lies at which range is said beside them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from functools import lru_cache
from operator import attrgetter
from pathlib import Path
from typing import NamedTuple

from bale.io.checkpoint import Checkpoint
from bale.io.faults import Malformed, printable
from bale.io.sources.storages import MIXED, Names
from bale.io.sources.unnamed import Unnamed, unnamed_notes
from bale.notes import Note
from bale.spec import TensorSpec, Unit, View

_DESCRIPTIONS = 64
"""Files of a folder that are looked at, by name, for what they say of a data file."""


State = tuple[int, int, int, int]
"""Device, number, size and time of a file or folder."""


class Place(NamedTuple):
    """A tensor of a data file: its name, where it begins, and why it must stay exact, if there is a reason."""

    name: str
    spec: TensorSpec
    start: int
    exact: str | None = None

    @property
    def end(self) -> int:
        """Offset of the first byte behind it."""
        return self.start + self.spec.nbytes


def described(
    path: Path, kind: str, size: int, places: Iterable[Place], by: str, notes: Sequence[Note] = ()
) -> Checkpoint:
    """A data file of these tensors, which `by` describes; `Malformed` where it ends before one of them.

    Tensors at one range are one unit, which is exact where one of them is.
    """
    ranges: dict[tuple[int, int], list[Place]] = {}
    for place in places:
        end = place.end
        if end > size:
            where = f"{printable(place.name)!r} at bytes {place.start} to {end}"
            raise Malformed(f"{printable(by)} puts {where}, and it has {size}")
        ranges.setdefault((place.start, end), []).append(place)
    names = Names()
    units = sorted((_unit(group, names) for group in ranges.values()), key=attrgetter("start", "end"))
    left = size - sum(unit.spec.nbytes for unit in units)
    told = unnamed_notes(size, [Unnamed(left, f"bytes that {printable(by)} does not name")])
    return Checkpoint(path, kind, size, tuple(units), (*notes, *told))


def _unit(group: list[Place], names: Names) -> Unit:
    name, spec, start, exact = group[0]
    if len(group) == 1:  # as nearly all are
        return Unit(start, spec, (View(names.unique(name), spec),), exact)
    exact = next((place.exact for place in group if place.exact), None)
    distinct = dict.fromkeys((place.name, place.spec) for place in group)
    views = tuple(View(names.unique(name), spec) for name, spec in distinct)
    if len({place.spec.dtype for place in group}) > 1:
        spec, exact = TensorSpec("U8", (spec.nbytes,)), exact or MIXED
    return Unit(start, spec, views, exact)


def descriptions(folder: Path, suffix: str) -> tuple[Path, ...]:
    """The files of a folder with a suffix, by name, the first of them."""
    try:
        return tuple(folder / name for name in _listed(folder, suffix, state_of(folder)))
    except OSError:
        return ()


def state_of(path: Path) -> State:
    """What changes where a file or folder does, or where another one takes its place; `OSError` for none."""
    found = os.stat(path)
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


@lru_cache(maxsize=16)
def _listed(folder: Path, suffix: str, state: State) -> tuple[str, ...]:
    """Names in a folder that is in this state: they are found once for all of its files."""
    return tuple(sorted(name for name in os.listdir(folder) if name.lower().endswith(suffix))[:_DESCRIPTIONS])
