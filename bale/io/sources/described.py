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
    distinct: dict[Place, str | None] = {}
    for place in places:
        key = place._replace(exact=None)
        distinct[key] = distinct.get(key) or place.exact
    ranges: dict[tuple[int, int, int], list[Place]] = {}
    for number, (key, exact) in enumerate(distinct.items()):
        place = key._replace(exact=exact)
        if place.end > size:
            name = printable(place.name)
            raise Malformed(f"{by} puts {name!r} at bytes {place.start} to {place.end}, and it has {size}")
        alone = 0 if place.spec.nbytes else 1 + number  # those of no bytes are in no other's place
        ranges.setdefault((place.start, place.end, alone), []).append(place)
    names = Names()
    units = sorted((_unit(group, names) for group in ranges.values()), key=attrgetter("start", "end"))
    left = size - sum(unit.spec.nbytes for unit in units)
    told = unnamed_notes(size, [Unnamed(left, f"bytes that {by} does not name")])
    return Checkpoint(path, kind, size, tuple(units), (*notes, *told))


def _unit(group: list[Place], names: Names) -> Unit:
    spec, exact = group[0].spec, next((place.exact for place in group if place.exact), None)
    views = tuple(View(names.unique(place.name), place.spec) for place in group)
    if len({place.spec.dtype for place in group}) > 1:
        spec, exact = TensorSpec("U8", (spec.nbytes,)), exact or MIXED
    return Unit(group[0].start, spec, views, exact)


def descriptions(folder: Path, suffix: str) -> tuple[Path, ...]:
    """The files of a folder with a suffix, by name, the first of them."""
    try:
        changed = os.stat(folder).st_mtime_ns
    except OSError:
        return ()
    return tuple(folder / name for name in _listed(folder, suffix, changed))


@lru_cache(maxsize=16)
def _listed(folder: Path, suffix: str, changed: int) -> tuple[str, ...]:
    """Their names, found once for all files of the folder, until it has `changed`."""
    try:
        found = [name for name in os.listdir(folder) if name.lower().endswith(suffix)]
    except OSError:
        return ()
    return tuple(sorted(found)[:_DESCRIPTIONS])
