"""Walks what a pickle holds, and gives names to what is looked for in it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

from bale.io.faults import TooMuch
from bale.io.sources.pickle.members import LABEL_LIMIT, SAME, members, printed
from bale.io.sources.pickle.reader import Object
from bale.io.sources.storages import Names

VISIT_LIMIT = 2_000_000  # containers entered, or listed: shared ones can multiply without end
DEPTH_LIMIT = 10_000  # containers in containers: no pickler goes as deep

Test = Callable[[Any], bool]
"""Whether something is what is looked for: it is not entered then."""


def named(root: Any, is_leaf: Test, alone: str) -> Iterator[tuple[str, Any]]:
    """Name and node of each leaf that can be reached from an object, in its order.

    `alone` is the name of an object that is a leaf itself.
    Raises `TooMuch` when there are more names than any checkpoint has.
    """
    names = Names()
    for path, node in _walk(root, is_leaf, names):
        yield names.free(".".join(map(printed, path)) if path else alone), node


@dataclass(eq=False, slots=True)
class _Frame:
    """A container being walked; `text` bounds the length of its name, `before` is what had been found until then."""

    node: Any
    label: Any
    text: int
    before: int
    rest: Iterator[tuple[Any, Any]]


def _walk(root: Any, is_leaf: Test, names: Names) -> Iterator[tuple[list[Any], Any]]:
    """Path and node of each leaf, depth first, by a stack of our own.

    Containers are left out while they are being walked (cycles) and once they turn out to hold no leaf (structures
    that are shared exponentially), so the work is bounded by the text of the names.
    """
    children = _Children(is_leaf)
    active, barren = set[int](), set[int]()
    found = visits = 0
    frames = [_Frame(None, SAME, 0, 0, children.leading([(SAME, root)]))]
    while frames:
        frame = frames[-1]
        for label, child in frame.rest:
            length = frame.text + (len(label) + 1 if isinstance(label, str) else LABEL_LIMIT)
            if is_leaf(child):
                found += 1
                names.count(length)
                labels = [*(each.label for each in frames), label]
                yield [each for each in labels if each is not SAME], child
            elif id(child) not in active and id(child) not in barren:
                visits += 1
                if visits > VISIT_LIMIT or len(frames) > DEPTH_LIMIT:
                    raise TooMuch(f"the pickle has {visits} containers, {len(frames)} deep")
                active.add(id(child))
                frames.append(_Frame(child, label, length, found, iter(children.of(child))))
                break
        else:
            frames.pop()
            active.discard(id(frame.node))
            if found == frame.before:
                barren.add(id(frame.node))


class _Children:
    """Children of containers that may lead to leaves; found once, and kept so that their identities last."""

    def __init__(self, is_leaf: Test) -> None:
        self._is_leaf = is_leaf
        self._known: dict[int, list[tuple[Any, Any]]] = {}
        self._count = 0

    def of(self, node: Any) -> list[tuple[Any, Any]]:
        if id(node) not in self._known:
            found = members(node) if isinstance(node, Object) else enumerate(node)
            self._known[id(node)] = children = list(islice(self.leading(found), VISIT_LIMIT - self._count + 1))
            self._count += len(children)
            if self._count > VISIT_LIMIT:
                raise TooMuch(f"the pickle lists more than {VISIT_LIMIT} containers")
        return self._known[id(node)]

    def leading(self, found: Iterable[tuple[Any, Any]]) -> Iterator[tuple[Any, Any]]:
        return (pair for pair in found if isinstance(pair[1], (Object, list, tuple)) or self._is_leaf(pair[1]))
