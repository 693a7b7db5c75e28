"""Bytes of the storages of a torch file that lie in no tensor."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from bale.io.faults import printable
from bale.io.sources.storages import Storage, Tensor
from bale.io.sources.torch.tensors import Found
from bale.io.sources.unnamed import Unnamed, listed
from bale.notes import size


def of_storages(storages: Mapping[str, Storage], found: Found) -> Iterator[Unnamed]:
    """Bytes of storages that no tensor reaches: of whole ones, and of those that tensors are views of a part of."""
    members: dict[str, list[Tensor]] = {key: [] for key in storages}
    for tensor in found.tensors:
        members[tensor.storage].append(tensor)
    whole, rest, nameless, views = 0, 0, list[str](), list[tuple[int, str]]()
    for key, storage in storages.items():
        if any(tensor.fills(storage) for tensor in members[key]):
            continue
        reached = _reached(members[key], storage.nbytes)
        left = storage.nbytes - reached
        if left and not reached:
            whole += left
            nameless += map(printable, found.nameless.get(key, ()))
        elif left:
            rest += left
            name = printable(min(tensor.name for tensor in members[key]))
            more = f" and {len(members[key]) - 1} more have" if len(members[key]) > 1 else " has"
            views.append((left, f"{name}{more} {size(reached)} of {size(storage.nbytes)}"))
    views.sort(key=lambda each: -each[0])
    yield Unnamed(whole, f"storages that no tensor describes{listed(nameless)}")
    yield Unnamed(rest, f"the rest of larger storages{listed([text for _, text in views])}")


def _reached(tensors: list[Tensor], nbytes: int) -> int:
    """Bytes of a storage that are in a tensor, at most."""
    distinct = {(each.start, each.end, _distinct(each)) for each in tensors if 0 not in each.shape}
    at = covered = 0
    for start, end, _ in sorted(distinct):
        covered += max(0, end - max(at, start))
        at = max(at, end)
    return min(covered, sum(each for _, _, each in distinct), nbytes)


def _distinct(tensor: Tensor) -> int:
    return tensor.width * math.prod(n for n, stride in zip(tensor.shape, tensor.strides, strict=True) if stride)
