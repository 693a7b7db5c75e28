"""Pairs the tensors of a checkpoint with those of one that it was made from: by name, and what is left by content."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from bale.compressors.floats import numbers, require_float
from bale.errors import Refused
from bale.planning.renames import Renames
from bale.spec import Array, TensorSpec

_WRAPPERS = {
    "_orig_mod",  # torch.compile
    "module",  # DataParallel, DistributedDataParallel, averaged models
    "_forward_module",  # Lightning, DeepSpeed
    "_fsdp_wrapped_module",
    "_checkpoint_wrapped_module",
    "base_layer",  # PEFT, around a layer that has an adapter
}
_PREFIX = 8  # pieces of a name that a wrapper may have put before all
_SAMPLE, _LEAST = 256, 64  # elements by whose signs tensors are recognized, and fewer are not
_ALIKE = 0.75  # of these signs: those of unrelated tensors are alike by half, within a thirtieth
_BAND = 8, 16  # signs that must agree, somewhere, for two tensors to be looked at: more of them for more tensors
_TRIED = 8  # tensors of the other side that are looked at for a band, and at last


@dataclass(frozen=True, eq=False)
class Candidate:
    """A tensor that may be paired.

    Attributes
    ----------
    names : tuple of str
        All names that it has.
    spec : TensorSpec
        Its shape has the dimensions as they lie in memory.
    elements : callable
        Reads a number of elements from one on, in their storage bits.
    """

    names: tuple[str, ...]
    spec: TensorSpec
    elements: Callable[[int, int], Array]


class Pairing:
    """The tensors that others can be paired with.

    Parameters
    ----------
    offered : sequence of Candidate
        The tensors of a base.
    renames : Renames
        What other names are called in the base.
    choose : callable
        Chooses among several that have the same name; it may choose none.
    """

    def __init__(
        self,
        offered: Sequence[Candidate],
        renames: Renames,
        choose: Callable[[Sequence[int]], int | None] = lambda several: None,
    ) -> None:
        self._offered, self._renames, self._choose = offered, renames, choose

    def by_name(self, wanted: Sequence[Candidate], once: bool = False) -> list[int | None]:
        """The number of the tensor that each is paired with by its name, if there is one.

        By the whole name, then by the name without wrappers (``_orig_mod``, ``module``, ...), then by the only one that
        ends alike; of another number of rows only where none is of the shape. With `once` no tensor has two others.
        """
        found: list[int | None] = [None] * len(wanted)
        taken: set[int] = set()
        for way in (self._same_name, self._same_unwrapped, self._same_ending):
            for number, candidate in enumerate(wanted):
                if found[number] is None:
                    named = [each for each in dict.fromkeys(way(candidate)) if not (once and each in taken)]
                    index = found[number] = self._fitting(candidate, named)
                    taken |= set() if index is None else {index}
        return found

    def by_content(
        self, wanted: Sequence[Candidate], named: Sequence[int | None], is_related: Callable[[int, int], bool]
    ) -> dict[int, int]:
        """Pairs of tensors that are left over on both sides, one to one, where their values are near each other.

        Those of one shape go first, then those with another number of rows; of each the ones with the longest common
        ending of their names.

        Parameters
        ----------
        named : sequence of int or None
            The pairs that there are already.
        is_related : callable
            Whether two tensors, by their numbers, have more in common than shape and signs.
        """
        rest = [number for number, index in enumerate(named) if index is None and _tells(wanted[number].spec)]
        taken = set(named)
        found: dict[int, int] = {}
        for rows in (False, True):
            left = [number for number in rest if number not in found]
            others = [index for index in range(len(self._offered)) if index not in taken] if left else []
            for _, _, number, index in sorted(self._likely(wanted, left, others, rows)):
                if number not in found and index not in taken and is_related(number, index):
                    found[number] = index
                    taken.add(index)
        return found

    def _likely(
        self, wanted: Sequence[Candidate], left: Sequence[int], others: Sequence[int], rows: bool
    ) -> Iterator[tuple[int, float, int, int]]:
        """Pairs whose signs are alike, each behind what it is sorted by, the surest first."""
        shapes: dict[tuple[int, ...], tuple[list[int], list[int]]] = {}
        for side, (candidates, free) in enumerate(((wanted, left), (self._offered, others))):
            for number in free:
                shape = candidates[number].spec.shape
                if not rows or len(shape) > 1:
                    shapes.setdefault(shape[rows:], ([], []))[side].append(number)
        for missing, indices in shapes.values():
            if not missing or not indices:
                continue
            sides = [wanted[each] for each in missing], [self._offered[each] for each in indices]
            for one, other, share in _alike(*sides, rows):
                number, index = missing[one], indices[other]
                if fits(self._offered[index].spec, wanted[number].spec, rows):
                    ending = _common_ending(wanted[number].names, self._offered[index].names)
                    yield -ending, -share, number, index

    def _same_name(self, candidate: Candidate) -> Iterator[int]:
        for name in self._names(candidate):
            yield from self._named.get(name, ())

    def _same_unwrapped(self, candidate: Candidate) -> Iterator[int]:
        for name in self._names(candidate):
            yield from self._unwrapped.get(unwrapped(name), ())

    def _same_ending(self, candidate: Candidate) -> Iterator[int]:
        for name in map(unwrapped, self._names(candidate)):
            yield from self._by_ending.get(name, ())
        for name in map(unwrapped, self._names(candidate)):
            for ending in _endings(name):
                yield from self._unwrapped.get(ending, ())

    def _names(self, candidate: Candidate) -> list[str]:
        return [self._renames.apply(name) for name in candidate.names]

    def _fitting(self, candidate: Candidate, named: Sequence[int]) -> int | None:
        """The one of these that fits, by its shape or else, if it is the only one, but for its number of rows."""
        fitting = [each for each in named if fits(self._offered[each].spec, candidate.spec)]
        if fitting:
            return fitting[0] if len(fitting) == 1 else self._choose(fitting)
        grown = [each for each in named if fits(self._offered[each].spec, candidate.spec, rows=True)]
        return grown[0] if len(grown) == 1 else None

    @cached_property
    def _named(self) -> dict[str, list[int]]:
        return _grouped((name, index) for index, each in enumerate(self._offered) for name in each.names)

    @cached_property
    def _unwrapped(self) -> dict[str, list[int]]:
        return _grouped((unwrapped(name), index) for index, each in enumerate(self._offered) for name in each.names)

    @cached_property
    def _by_ending(self) -> dict[str, list[int]]:
        return _grouped(
            (ending, index) for name, found in self._unwrapped.items() for ending in _endings(name) for index in found
        )


def unwrapped(name: str) -> str:
    """A name without the pieces that wrappers of modules put into it."""
    *modules, own = name.split(".")
    return ".".join([*(piece for piece in modules if piece not in _WRAPPERS), own])


def fits(spec: TensorSpec, wanted: TensorSpec, rows: bool = False) -> bool:
    """Whether values of one can be a reference for the other, with `rows` that of another first dimension."""
    if rows:
        if not spec.shape or not wanted.shape or spec.shape[1:] != wanted.shape[1:]:
            return False
    elif spec.shape != wanted.shape:
        return False
    if wanted.info.kind == "complex":
        return False
    if spec.dtype == wanted.dtype:
        return True
    try:
        require_float(spec)
        require_float(wanted)
    except Refused:
        return False
    return True


def _endings(name: str) -> list[str]:
    """The rest of a name behind each of its first dots."""
    pieces = name.split(".", _PREFIX)
    return [".".join(pieces[at:]) for at in range(1, len(pieces))]


def _common_ending(names: Sequence[str], others: Sequence[str]) -> int:
    """Pieces at the end that names have in common, at most."""
    return max(_common(unwrapped(one).split("."), unwrapped(other).split(".")) for one in names for other in others)


def _common(one: list[str], other: list[str]) -> int:
    count = 0
    for piece, same in zip(reversed(one), reversed(other), strict=False):
        if piece != same:
            break
        count += 1
    return count


def _grouped(pairs: Iterable[tuple[str, int]]) -> dict[str, list[int]]:
    groups: dict[str, list[int]] = {}
    for key, index in pairs:
        groups.setdefault(key, []).append(index)
    return groups


def _tells(spec: TensorSpec) -> bool:
    """Whether a tensor has values, and enough of them, to be known by."""
    return spec.elements >= _LEAST and spec.info.kind in ("float", "int") and not spec.info.packed


def _alike(wanted: Sequence[Candidate], offered: Sequence[Candidate], rows: bool) -> Iterator[tuple[int, int, float]]:
    """Numbers of tensors whose signs about their medians are alike, and the share of signs that are.

    With `rows` the numbers of rows differ, and only the beginnings are the same places.

    Only tensors that agree in all signs of a band are looked at, so that time grows with their number and not with its
    square: of signs that are alike by nine tenths some band of sixteen agrees in 96 cases of a hundred.
    """
    known, signs = _signs_of(offered, rows)
    if not known:
        return
    width = min(max(len(known).bit_length() + 1, _BAND[0]), _BAND[1])
    bands = [slice(at, at + width) for at in range(0, signs.shape[1] - width + 1, width)]
    tables: list[dict[bytes, list[int]]] = []
    for band in bands:
        table: dict[bytes, list[int]] = {}
        for at, code in enumerate(_codes(signs[:, band])):
            found = table.setdefault(code, [])
            if len(found) < _TRIED:
                found.append(at)
        tables.append(table)
    asked, samples = _signs_of(wanted, rows)
    codes = [_codes(samples[:, band]) for band in bands]
    for row, number in enumerate(asked):
        tried = sorted({at for table, each in zip(tables, codes, strict=True) for at in table.get(each[row], ())})
        if tried:
            shares = np.mean(signs[tried] == samples[row], axis=1)
            for best in np.argsort(-shares, kind="stable")[:_TRIED]:
                if shares[best] >= _ALIKE:
                    yield number, known[tried[best]], float(shares[best])


def _codes(signs: Array) -> list[bytes]:
    packed = np.packbits(signs, axis=1)
    return [row.tobytes() for row in packed]


def _signs_of(candidates: Sequence[Candidate], rows: bool) -> tuple[list[int], Array]:
    """Numbers and signs of those tensors that are not the same value everywhere; as many signs of each."""
    most = min(_SAMPLE, *(each.spec.elements for each in candidates))
    samples = ((number, _signs(each, most, rows)) for number, each in enumerate(candidates))
    found = {number: signs for number, signs in samples if signs.any()}
    return list(found), np.stack(list(found.values())) if found else np.empty((0, 0), bool)


def _signs(candidate: Candidate, count: int, first: bool) -> Array:
    """Whether values in the middle, or the first ones, are above their median.

    None is where all are the same, or one is no number.
    """
    values = candidate.elements(0 if first else (candidate.spec.elements - count) // 2, count)
    known = numbers(values, TensorSpec(candidate.spec.dtype, (count,)))
    with np.errstate(invalid="ignore"):
        floats = (values if known is None else known).astype(np.float64)
        return np.asarray(floats > np.median(floats))
