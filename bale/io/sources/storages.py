"""Divides storages into the units that are coded: each byte of a storage belongs to exactly one."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from operator import attrgetter
from typing import NamedTuple

from bale.io.faults import Malformed, TooMuch, printable
from bale.spec import DTYPES, TensorSpec, Unit, View, shared_spec

OVERLAP = "tensors overlap in it"
HOLES = "its tensor is strided, with gaps between the elements"
MIXED = "tensors of different dtypes share it"
BIG_ENDIAN = "big-endian"
ROOT = "tensor"  # the name of a tensor that was saved by itself
NAME_LIMIT = 250_000  # names of tensors in a file
TEXT_LIMIT = 64_000_000  # characters of all names together


class Tensor(NamedTuple):
    """A tensor and where it lies in its storage; `offset` and `strides` count elements."""

    name: str
    storage: str
    dtype: str
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    @property
    def width(self) -> int:
        """Bytes of an element."""
        return DTYPES[self.dtype].bits // 8

    @property
    def start(self) -> int:
        """Offset in bytes of the first element within the storage."""
        return self.offset * self.width

    @property
    def end(self) -> int:
        """Offset in bytes behind the last element within the storage; `start` when there is none."""
        if 0 in self.shape:
            return self.start
        last = sum((size - 1) * stride for size, stride in zip(self.shape, self.strides, strict=True))
        return self.start + (last + 1) * self.width

    def fills(self, storage: Storage) -> bool:
        """Whether it is the whole storage, in its order."""
        is_whole = self.offset == 0 and math.prod(self.shape) * self.width == storage.nbytes > 0
        return is_whole and _is_contiguous(self.shape, self.strides)


class Storage(NamedTuple):
    """A run of payload in the file; `dtype` is that of the parts that no tensor claims."""

    start: int
    nbytes: int
    dtype: str = "U8"


class Names:
    """Hands out names; one that is taken gets ``~2``, ``~3``.

    Few bytes of a file can give one long name to very many tensors, so names and their text are counted.

    Attributes
    ----------
    text : int
        Characters of all names that were counted.
    """

    def __init__(self) -> None:
        self.text = self._count = 0
        self._taken: set[str] = set()
        self._next: dict[str, int] = {}

    def count(self, length: int) -> None:
        """Count a name of so many characters; raise `TooMuch` where names are more than any file has."""
        self._count += 1
        self.text += length
        if self._count > NAME_LIMIT or self.text > TEXT_LIMIT:
            raise TooMuch(f"it gives names to more than {NAME_LIMIT} tensors, or very long ones")

    def unique(self, name: str) -> str:
        """The same name, or one made of it that nothing has yet; it is counted."""
        self.count(len(name))
        return self.free(name)

    def free(self, name: str) -> str:
        """The same of a name that has been counted."""
        if not name.isascii():
            self.text -= len(name)
            name = name.encode("utf-8", "backslashreplace").decode()  # a lone surrogate cannot stand in an archive
            self.text += len(name)
        found = name
        while found in self._taken:
            self._next[name] = self._next.get(name, 1) + 1
            found = f"{name}~{self._next[name]}"
        self._taken.add(found)
        return found


def make_units(storages: Mapping[str, Storage], tensors: Iterable[Tensor], swapped: bool = False) -> tuple[Unit, ...]:
    """Units of all storages, by ascending offset.

    Parameters
    ----------
    storages : mapping of str to Storage
        Disjoint ranges of the file by key.
    tensors : iterable of Tensor
        In the order of the pickle, which is the order of the views of a unit. One that reaches out of its storage, or
        whose storage is not there, raises `Malformed`.
    swapped : bool
        Whether elements are big-endian.
    """
    members: dict[str, list[Tensor]] = {key: [] for key in storages}
    for tensor in tensors:
        if tensor.storage not in members:
            raise Malformed(f"{printable(tensor.name)!r} lies in a storage that is not there")
        members[tensor.storage].append(tensor)
    units = list[Unit]()
    for key, storage in storages.items():
        group = members[key]
        if len(group) == 1 and group[0].fills(storage):  # as nearly all do
            units.append(_whole(group[0], storage, swapped))
        else:
            units += _Layout(storage, swapped).units(group)
    return merged(units)


def merged(*units: Iterable[Unit]) -> tuple[Unit, ...]:
    """Units from several places of a file, by ascending offset."""
    return tuple(sorted(chain(*units), key=attrgetter("start", "end")))


class _Layout:
    """Divides one storage; offsets are within it, in bytes."""

    def __init__(self, storage: Storage, swapped: bool) -> None:
        self.storage = storage
        self.swapped = swapped

    def units(self, tensors: list[Tensor]) -> Iterator[Unit]:
        self._check(tensors)
        solid = []
        for tensor in tensors:
            if 0 in tensor.shape:
                yield self._unit(0, TensorSpec(tensor.dtype, tensor.shape), [tensor], None)
            else:
                solid.append(tensor)
        at = 0
        for start, end, group in self._groups(solid):
            yield from self._gap(at, start)
            yield self._shared(start, end, group)
            at = end
        yield from self._gap(at, self.storage.nbytes)

    def _check(self, tensors: list[Tensor]) -> None:
        nbytes = self.storage.nbytes
        for tensor in tensors:
            if tensor.end > nbytes and 0 not in tensor.shape:
                reach = f"reaches to byte {tensor.end} of a storage of {nbytes} bytes"
                raise Malformed(f"{printable(tensor.name)!r} {reach}")

    def _groups(self, tensors: list[Tensor]) -> Iterator[tuple[int, int, list[Tensor]]]:
        """Ranges that share no byte, and their tensors in pickle order."""
        if len({tensor.width for tensor in tensors}) > 1:  # offsets would be no whole elements: one flat run of all
            yield 0, self.storage.nbytes, tensors
            return
        ranges: list[tuple[int, int, list[int]]] = []
        for index in sorted(range(len(tensors)), key=lambda index: tensors[index].start):
            tensor = tensors[index]
            if ranges and tensor.start < ranges[-1][1]:
                start, end, group = ranges.pop()
                group.append(index)
                ranges.append((start, max(end, tensor.end), group))
            else:
                ranges.append((tensor.start, tensor.end, [index]))
        for start, end, group in ranges:
            yield start, end, [tensors[index] for index in sorted(group)]

    def _shared(self, start: int, end: int, group: list[Tensor]) -> Unit:
        first = group[0]
        reason = _reason(start, end, group)
        if reason is None:
            return self._unit(start, TensorSpec(first.dtype, _memory_shape(first)), group, None)
        dtype = "U8" if reason == MIXED else first.dtype
        return self._unit(start, _run(dtype, end - start), group, reason)

    def _gap(self, start: int, end: int) -> Iterator[Unit]:
        if end > start:
            width = DTYPES[self.storage.dtype].bits // 8
            aligned = start % width == 0 and end % width == 0
            yield self._unit(start, _run(self.storage.dtype if aligned else "U8", end - start), [], None)

    def _unit(self, start: int, spec: TensorSpec, group: list[Tensor], exact: str | None) -> Unit:
        views = tuple(_view(tensor, spec, start) for tensor in group)
        return Unit(self.storage.start + start, spec, views, BIG_ENDIAN if self.swapped else exact, self.swapped)


def _whole(tensor: Tensor, storage: Storage, swapped: bool) -> Unit:
    """The unit of a tensor that fills its storage: what `_Layout` makes of it, sooner."""
    spec = shared_spec(tensor.dtype, tensor.shape)
    return Unit(storage.start, spec, (View(tensor.name, spec),), BIG_ENDIAN if swapped else None, swapped)


def _run(dtype: str, nbytes: int) -> TensorSpec:
    return TensorSpec(dtype, (nbytes * 8 // DTYPES[dtype].bits,))


def _reason(start: int, end: int, group: list[Tensor]) -> str | None:
    """Why the tensors of a range cannot be coded as one tensor, or None if they can."""
    if len({tensor.dtype for tensor in group}) > 1:
        return MIXED
    if any((tensor.start, tensor.end) != (start, end) for tensor in group):
        return OVERLAP
    if not all(_is_dense(tensor) for tensor in group):
        return HOLES
    return None


def _view(tensor: Tensor, unit: TensorSpec, start: int) -> View:
    spec = shared_spec(tensor.dtype, tensor.shape)
    if spec.nbytes == unit.nbytes and _is_contiguous(tensor.shape, tensor.strides):
        return View(tensor.name, spec)
    return View(tensor.name, spec, (tensor.start - start) // tensor.width, tensor.strides)


def _memory_shape(tensor: Tensor) -> tuple[int, ...]:
    """Dimensions as they lie in memory; of an expanded tensor those that it really has."""
    if _is_contiguous(tensor.shape, tensor.strides):
        return tensor.shape
    return tuple(size for size, _ in _memory_order(tensor))


def _memory_order(tensor: Tensor) -> list[tuple[int, int]]:
    """Size and stride of each dimension that is not merely expanded, outermost first."""
    real = [pair for pair in zip(tensor.shape, tensor.strides, strict=True) if pair[1]]
    return sorted(real, key=lambda pair: -pair[1])


def _is_dense(tensor: Tensor) -> bool:
    """Whether the elements fill the range from the first to the last."""
    order = _memory_order(tensor)
    return _is_contiguous([size for size, _ in order], [stride for _, stride in order])


def _is_contiguous(shape: Sequence[int], strides: Sequence[int]) -> bool:
    if 0 in shape:
        return True
    expected = 1
    for size, stride in zip(reversed(shape), reversed(strides), strict=True):
        if size != 1 and stride != expected:
            return False
        expected *= size
    return True
