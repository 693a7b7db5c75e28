"""Values that lie in a pickle itself: numpy arrays, texts, bytes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from bale.io.sources.pickle.arrays import OF_NUMPY
from bale.io.sources.pickle.members import SAME, members, printed
from bale.io.sources.pickle.reader import Global, Long, Object
from bale.io.sources.pickle.walk import Test

LEAST = 1 << 10  # bytes: what is shorter is a part of the structure
_ENCODE = Global("_codecs", "encode")
_BYTES = {f"{module}.{name}" for module in ("builtins", "__builtin__") for name in ("bytes", "bytearray")}
_WRAPPERS = {str(_ENCODE), *_BYTES}  # around a text that stands for bytes


@dataclass(frozen=True)
class Literal:
    """Bytes of a pickle that are the values of one array or text, and the keys that lead to it."""

    name: str
    nbytes: int
    is_array: bool


Path = tuple[Any, Any] | None  # of its container, and a label


def find_literals(root: Any, is_leaf: Test) -> list[Literal]:
    """Those of some length, each once, the largest first; leaves are passed over."""
    found: list[tuple[int, bool, Path]] = []
    seen: dict[int, Any] = {}  # which keeps them, so that no other has their identity
    rest: list[tuple[Any, Path, bool]] = [(Object(_ENCODE, (root,)), None, False)]  # which gives it no name
    while rest:
        node, path, in_array = rest.pop()
        in_array = in_array or (isinstance(node, Object) and node.callee in OF_NUMPY)
        for label, child in _children(node):
            is_container = isinstance(child, (Object, list, tuple))
            nbytes = 0 if is_container else _length(child)
            if id(child) in seen or not (is_container or nbytes >= LEAST):
                continue
            seen[id(child)] = child
            to = path if in_array or label is SAME else (path, label)
            if is_container and not is_leaf(child):
                rest.append((child, to, in_array))
            elif nbytes:
                found.append((nbytes, in_array, to))
    found.sort(key=lambda each: -each[0])
    return [Literal(_name(path), nbytes, is_array) for nbytes, is_array, path in found]


def _children(node: Any) -> Iterator[tuple[Any, Any]]:
    if not isinstance(node, Object):
        yield from enumerate(node)
    elif node.callee in _WRAPPERS and isinstance(node.args, tuple):
        yield from ((SAME, each) for each in node.args)
    else:
        yield from members(node)


def _length(value: Any) -> int:
    """Bytes that a value takes in the pickle, if it is one of those."""
    match value:
        case Long():
            return value.nbytes
        case bytes():
            return len(value)
        case str():
            return len(value) if value.isascii() else len(value.encode("utf-8", "surrogatepass"))
    return 0


def _name(path: Path) -> str:
    labels = []
    while path is not None:
        path, label = path
        labels.append(printed(label))
    return ".".join(reversed(labels))
