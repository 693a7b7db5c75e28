"""What an object in a pickle was made of, by the names under which users know it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from bale.io.sources.pickle.reader import Global, Object

LABEL_LIMIT = 64  # characters of a key that is no string
SAME = object()  # the label of what takes the name of its container


def members(node: Object) -> Iterator[tuple[Any, Any]]:
    """Labels and values of all that an object was made of."""
    special = _WRAPPERS.get(node.callee) if isinstance(node.args, tuple) else None
    if special:
        yield from special(node.args)
    elif isinstance(node.args, tuple):
        yield from enumerate(node.args)
    yield from node.items
    yield from enumerate(node.elements)
    yield from _state(node.state)


def _state(state: Any) -> Iterator[tuple[Any, Any]]:
    """The values that an object was set up with: attributes by their names, anything else as its state."""
    if isinstance(state, Object) and state.callee == "builtins.dict":
        yield from state.items
    else:
        yield "state", state


def _parameter(args: tuple[Any, ...]) -> Iterator[tuple[Any, Any]]:
    yield SAME, args[0] if args else None
    if len(args) > 3:
        yield from _state(args[3])


def _quantized(args: tuple[Any, ...]) -> Iterator[tuple[Any, Any]]:
    yield SAME, Object(Global("torch._utils", "_rebuild_tensor"), args[:4])
    if len(args) > 4:
        yield "quantizer", args[4]


def _subclass(args: tuple[Any, ...]) -> Iterator[tuple[Any, Any]]:
    function, _, inner, state = args if len(args) == 4 else (None,) * 4
    yield SAME, Object(function, inner)
    yield from _state(state)


def _ordered(args: tuple[Any, ...]) -> Iterator[tuple[Any, Any]]:
    """Pairs of key and value, as Python 2 wrote them."""
    pairs = args[0] if args and isinstance(args[0], (list, tuple)) else ()
    for pair in pairs:
        if isinstance(pair, (list, tuple)) and len(pair) == 2:
            yield pair[0], pair[1]


def _named_by_paddle(args: tuple[Any, ...]) -> Iterator[tuple[Any, Any]]:
    """A tensor in an object that Paddle saves: a pair of a name of its own and the array."""
    match args:
        case ((str(), array),):
            yield SAME, array
        case _:
            yield from enumerate(args)


_WRAPPERS: dict[str, Callable[[tuple[Any, ...]], Iterator[tuple[Any, Any]]]] = {
    "torch._utils._rebuild_parameter": _parameter,
    "torch._utils._rebuild_parameter_with_state": _parameter,
    "torch._utils._rebuild_qtensor": _quantized,
    "torch._tensor._rebuild_from_type": _subclass,
    "torch._tensor._rebuild_from_type_v2": _subclass,
    "torch.tensor._rebuild_from_type": _subclass,
    "collections.OrderedDict": _ordered,
    "builtins.tuple": _named_by_paddle,
}


def printed(label: Any) -> str:
    """A key as text; of keys that are not strings only short, flat ones are spelled out."""
    if isinstance(label, str):
        return label
    if isinstance(label, Global):
        return str(label)[:LABEL_LIMIT]
    parts = label if isinstance(label, tuple) and len(label) <= 8 else (label,)
    plain = all(
        isinstance(part, (int, float, type(None))) or (isinstance(part, (str, bytes)) and len(part) <= LABEL_LIMIT)
        for part in parts
    )
    return repr(label)[:LABEL_LIMIT] if plain else f"<{type(label).__name__}>"
