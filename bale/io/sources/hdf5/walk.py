"""Walks the groups of an HDF5 file: each object once, by its first name."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain, pairwise
from operator import attrgetter
from pathlib import Path

from bale.io.checkpoint import Checkpoint
from bale.io.faults import Unsupported, printable
from bale.io.sources.hdf5.blocks import Blocks
from bale.io.sources.hdf5.datasets import Dataset, describe
from bale.io.sources.hdf5.global_heap import GlobalHeaps
from bale.io.sources.hdf5.headers import LINK, LINK_INFO, SYMBOL_TABLE, Message, messages
from bale.io.sources.hdf5.links import Link, in_dense_group, in_message, in_symbol_table
from bale.io.sources.hdf5.superblock import SIGNATURE, find_root
from bale.io.sources.storages import BIG_ENDIAN, Names
from bale.io.sources.unnamed import Unnamed, listed, unnamed_notes
from bale.io.storage.bytes import ByteSource
from bale.spec import Unit, View

_GROUP, _DATASET = 4096, 512  # bytes of structure that a group, and a dataset, ordinarily takes beside its name


def begins_as_hdf5(head: bytes) -> bool:
    """Whether a file begins with a superblock."""
    return head.startswith(SIGNATURE)


def read_hdf5(path: Path, source: ByteSource) -> Checkpoint:
    """Each contiguous dataset of numbers is a unit; raise `Malformed` for a file that is damaged."""
    blocks = Blocks(source)
    found = _walk(blocks)
    units = [
        _unit(each, (found.names[at], *found.more.get(at, ())), found.given) for at, each in found.datasets.items()
    ]
    units.sort(key=attrgetter("start"))
    _refuse_overlap(units)
    blocks.taken.refuse_within(units)
    notes = unnamed_notes(source.size, _unnamed(found, units, source.size))
    return Checkpoint(path, "hdf5", source.size, tuple(units), notes)


@dataclass
class _Found:
    """What a walk has found: by address datasets, first names of all objects and more of some; what is not followed.

    `given` counts all names, also those of groups.
    """

    datasets: dict[int, Dataset] = field(default_factory=dict)
    names: dict[int, str] = field(default_factory=dict)
    more: dict[int, list[str]] = field(default_factory=dict)
    others: dict[str, list[str]] = field(default_factory=dict)
    groups: int = 0
    given: Names = field(default_factory=Names)

    def visit(self, at: int, name: str) -> bool:
        """Keep a name of an object; whether it is its first."""
        self.given.count(len(name))
        if at not in self.names:
            self.names[at] = name
            return True
        self.more.setdefault(at, []).append(name)
        return False


def _walk(blocks: Blocks) -> _Found:
    found, heaps = _Found(), GlobalHeaps(blocks)
    root = find_root(blocks)
    found.visit(root, "")
    pending = [Link("", root)]
    while pending:
        name, at = pending.pop()
        own = messages(blocks, at)
        dataset = describe(blocks, heaps, own)
        if isinstance(dataset, Dataset):
            found.datasets[at] = dataset
        elif dataset is not None:
            found.others.setdefault(dataset, []).append(name)
        else:
            found.groups += 1
            prefix = f"{name}/" if name else ""
            inner = (Link(prefix + link.name, link.at) for link in _links(blocks, own))
            pending += reversed([link for link in inner if found.visit(link.at, link.name)])
    return found


def _links(blocks: Blocks, own: list[Message]) -> Iterator[Link]:
    for message in own:
        if message.is_shared:
            continue
        if message.type == SYMBOL_TABLE:
            yield from in_symbol_table(blocks, message.data)
        elif message.type == LINK:
            yield from in_message(message.data)
        elif message.type == LINK_INFO:
            yield from in_dense_group(blocks, message.data)


def _unit(found: Dataset, names: tuple[str, ...], taken: Names) -> Unit:
    views = tuple([View(taken.free(name), found.spec) for name in names])
    return Unit(found.start, found.spec, views, BIG_ENDIAN if found.swapped else None, found.swapped)


def _refuse_overlap(units: list[Unit]) -> None:
    for one, other in pairwise(unit for unit in units if unit.spec.nbytes):
        if one.end > other.start:
            shown = " and ".join(printable(unit.label) for unit in (one, other))
            raise Unsupported(f"an HDF5 file whose datasets {shown} overlap")


def _unnamed(found: _Found, units: list[Unit], size: int) -> Iterator[Unnamed]:
    """What lies around the units beyond ordinary structure."""
    structure = found.groups * _GROUP + (len(found.names) - found.groups) * _DATASET + found.given.text
    left = size - sum(unit.spec.nbytes for unit in units) - structure
    if not found.others:
        yield Unnamed(left, "attributes and free space")
    else:
        what = " or ".join(sorted(found.others))
        shown = listed([printable(name) for name in chain.from_iterable(found.others.values())])
        yield Unnamed(left, f"datasets {what}{shown}")
