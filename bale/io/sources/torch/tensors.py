"""The tensors of a pickled torch object: their names, and where in which storage they lie."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, NamedTuple

from bale.io.faults import Malformed, TooMuch, printable
from bale.io.sources.storages import NAME_LIMIT, ROOT, TEXT_LIMIT, Names, Tensor
from bale.io.sources.torch.pickle_reader import Global, Object, Persistent
from bale.notes import Note, many

LABEL_LIMIT = 64  # characters of a key that is no string
VISIT_LIMIT = 2_000_000  # containers entered, or listed: shared ones can multiply without end
DEPTH_LIMIT = 10_000  # containers in containers: no pickler goes as deep
SIZE_LIMIT = 1 << 62
RANK_LIMIT = 64

_STORAGES = {
    "DoubleStorage": "F64",
    "FloatStorage": "F32",
    "HalfStorage": "F16",
    "BFloat16Storage": "BF16",
    "LongStorage": "I64",
    "IntStorage": "I32",
    "ShortStorage": "I16",
    "CharStorage": "I8",
    "ByteStorage": "U8",
    "BoolStorage": "BOOL",
    "ComplexFloatStorage": "C64",
    "ComplexDoubleStorage": "C128",
    "QInt8Storage": "I8",
    "QUInt8Storage": "U8",
    "QInt32Storage": "I32",
    "QUInt4x2Storage": "U8",
    "QUInt2x4Storage": "U8",
    "UntypedStorage": "U8",
}
_DTYPES = {
    "float64": "F64",
    "double": "F64",
    "float32": "F32",
    "float": "F32",
    "float16": "F16",
    "half": "F16",
    "bfloat16": "BF16",
    "float8_e4m3fn": "F8_E4M3",
    "float8_e5m2": "F8_E5M2",
    "float8_e4m3fnuz": "F8_E4M3FNUZ",
    "float8_e5m2fnuz": "F8_E5M2FNUZ",
    "float8_e8m0fnu": "F8_E8M0",
    "float4_e2m1fn_x2": "U8",  # torch counts pairs
    "complex64": "C64",
    "cfloat": "C64",
    "complex128": "C128",
    "cdouble": "C128",
    "int64": "I64",
    "long": "I64",
    "int32": "I32",
    "int": "I32",
    "int16": "I16",
    "short": "I16",
    "int8": "I8",
    "uint64": "U64",
    "uint32": "U32",
    "uint16": "U16",
    "uint8": "U8",
    "bool": "BOOL",
    "bits8": "U8",
    "bits16": "U16",
    "qint8": "I8",
    "quint8": "U8",
    "qint32": "I32",
}
_PER_BYTE = {"QUInt4x2Storage": 2, "QUInt2x4Storage": 4}  # elements that share a byte


@dataclass(frozen=True)
class StorageRef:
    """A storage as a persistent id names it; `offset` is where a view of the legacy format begins, in elements."""

    key: str
    type_name: str
    elements: Any = None
    offset: int = 0

    @property
    def dtype(self) -> str | None:
        """Its dtype, if bale has it."""
        return _STORAGES.get(self.type_name)


def storage_ref(value: Any) -> StorageRef | None:
    """The storage that a persistent id means, or None if it means something else."""
    match value:
        case Persistent(pid=("storage", Global(name=name), str() | int() as key, _, elements, *views)):
            return StorageRef(str(key), name, elements, _view_offset(views))
    return None


def _view_offset(views: list[Any]) -> int:
    match views:
        case [(_, int() as offset, _)]:
            return offset
    return 0


def storage_dtypes(persistents: Iterable[Persistent]) -> dict[str, str | None]:
    """Dtype of each storage by key, as it is first named; None for a type that bale does not know."""
    dtypes: dict[str, str | None] = {}
    for ref in filter(None, map(storage_ref, persistents)):
        dtypes.setdefault(ref.key, ref.dtype)
    return dtypes


class Found(NamedTuple):
    """The tensors of a pickle, notes on those that cannot be described, and the names of these by their storages."""

    tensors: list[Tensor]
    notes: list[Note]
    nameless: dict[str, list[str]]


def find_tensors(root: Any) -> Found:
    """All tensors that can be reached from an object, in its order; behind them storages that lie there by themselves.

    Raises `TooMuch` when there are more names than any checkpoint has.
    """
    tensors, bare, nameless, notes, names = list[Tensor](), list[Tensor](), dict[str, list[str]](), _Notes(), Names()
    for path, node in _walk(root):
        name = names.unique(".".join(map(printed, path)) if path else ROOT)
        try:
            if isinstance(node, Object):
                tensors.append(_describe(name, node))
            else:
                bare.append(_flat(name, node))
        except _Undescribed as problem:
            notes.add(str(problem), name)
            storage = storage_ref(_argument(node, 0) if isinstance(node, Object) else node)
            nameless.setdefault("" if storage is None else storage.key, []).append(name)
    taken = {tensor.storage for tensor in tensors}
    for each in bare:
        if each.storage not in taken:
            taken.add(each.storage)
            tensors.append(each)
    return Found(tensors, notes.made(), nameless)


class _Undescribed(Exception):
    """The reason why a tensor is kept as bytes of its storage without a name."""


class _Notes:
    """Counts reasons; keeps the first name of each."""

    def __init__(self) -> None:
        self._first: dict[str, str] = {}
        self._count: dict[str, int] = {}

    def add(self, reason: str, name: str) -> None:
        self._first.setdefault(reason, name)
        self._count[reason] = self._count.get(reason, 0) + 1

    def made(self) -> list[Note]:
        return [
            Note(
                "undescribed",
                f"{many(self._count[reason], 'tensor')} kept as bytes without a name, "
                f"{'the first ' * (self._count[reason] > 1)}{printable(name)!r}: it {reason}",
            )
            for reason, name in self._first.items()
        ]


# --- walking ---------------------------------------------------------------------------------------------------------


SAME = object()  # the label of what takes the name of its container


@dataclass(eq=False, slots=True)
class _Frame:
    """A container being walked; `text` bounds the length of its name, `before` is what had been found until then."""

    node: Any
    label: Any
    text: int
    before: int
    rest: Iterator[tuple[Any, Any]]


def _walk(root: Any) -> Iterator[tuple[list[Any], Object | Persistent]]:
    """Path and node of each tensor, and of each storage outside of one, depth first, by a stack of our own.

    Containers are left out while they are being walked (cycles) and once they turn out to hold no tensor (structures
    that are shared exponentially), so the work is bounded by the text of the names.
    """
    children = _Children()
    active, barren = set[int](), set[int]()
    found = text = visits = 0
    frames = [_Frame(None, SAME, 0, 0, _leading([(SAME, root)]))]
    while frames:
        frame = frames[-1]
        for label, child in frame.rest:
            length = frame.text + (len(label) + 1 if isinstance(label, str) else LABEL_LIMIT)
            if is_tensor(child) or isinstance(child, Persistent):
                found += 1
                text += length
                if found > NAME_LIMIT or text > TEXT_LIMIT:
                    raise TooMuch(f"the pickle gives names to more than {NAME_LIMIT} tensors")
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
    """Children of containers that may lead to tensors; found once, and kept so that their identities last."""

    def __init__(self) -> None:
        self._known: dict[int, list[tuple[Any, Any]]] = {}
        self._count = 0

    def of(self, node: Any) -> list[tuple[Any, Any]]:
        if id(node) not in self._known:
            found = members(node) if isinstance(node, Object) else enumerate(node)
            self._known[id(node)] = children = list(islice(_leading(found), VISIT_LIMIT - self._count + 1))
            self._count += len(children)
            if self._count > VISIT_LIMIT:
                raise TooMuch(f"the pickle lists more than {VISIT_LIMIT} containers")
        return self._known[id(node)]


def _leading(members: Iterable[tuple[Any, Any]]) -> Iterator[tuple[Any, Any]]:
    return (pair for pair in members if isinstance(pair[1], (Object, list, tuple)) or storage_ref(pair[1]))


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


_WRAPPERS: dict[str, Callable[[tuple[Any, ...]], Iterator[tuple[Any, Any]]]] = {
    "torch._utils._rebuild_parameter": _parameter,
    "torch._utils._rebuild_parameter_with_state": _parameter,
    "torch._utils._rebuild_qtensor": _quantized,
    "torch._tensor._rebuild_from_type": _subclass,
    "torch._tensor._rebuild_from_type_v2": _subclass,
    "torch.tensor._rebuild_from_type": _subclass,
    "collections.OrderedDict": _ordered,
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


# --- describing ------------------------------------------------------------------------------------------------------

# For each function that makes a tensor the places of its dtype and of its metadata among its arguments.
_MAKERS: dict[str, tuple[int | None, int | None]] = {
    "torch._utils._rebuild_tensor": (None, None),
    "torch._utils._rebuild_tensor_v2": (None, 6),
    "torch._utils._rebuild_tensor_v3": (6, 7),
}


def is_tensor(node: Any) -> bool:
    """Whether an object is a tensor."""
    return isinstance(node, Object) and node.callee in _MAKERS


def _describe(name: str, node: Object) -> Tensor:
    dtype_place, metadata_place = _MAKERS[node.callee]
    storage = storage_ref(_argument(node, 0))
    if storage is None:
        raise _Undescribed("lies in no storage")
    dtype = storage.dtype if dtype_place is None else _dtype(_argument(node, dtype_place))
    if dtype is None:
        raise _Undescribed("has a dtype that bale does not know")
    metadata = _argument(node, metadata_place)
    if isinstance(metadata, Object) and (metadata.get("conj") or metadata.get("neg")):
        raise _Undescribed("is stored conjugated or negated")
    offset, shape, strides = _argument(node, 1), _sizes(_argument(node, 2)), _sizes(_argument(node, 3))
    if type(offset) is not int or shape is None or strides is None or len(shape) != len(strides):
        raise _Undescribed("has sizes that make no sense")
    _check_sizes(name, (offset, storage.offset, *shape, *strides))
    if per_byte := _PER_BYTE.get(storage.type_name):
        packed = -(-math.prod(shape) // per_byte)
        return Tensor(name, storage.key, dtype, storage.offset + offset // per_byte, (packed,), (1,))
    tensor = Tensor(name, storage.key, dtype, storage.offset + offset, shape, strides)
    if math.prod(shape) * tensor.width >= SIZE_LIMIT:
        raise _Undescribed("is larger than any file")
    return tensor


def _flat(name: str, node: Persistent) -> Tensor:
    """A storage that lies somewhere by itself."""
    storage = storage_ref(node)
    if storage is None or storage.dtype is None or type(storage.elements) is not int:
        raise _Undescribed("is a storage of unknown type")
    _check_sizes(name, (storage.elements,))
    elements = -(-storage.elements // _PER_BYTE.get(storage.type_name, 1))
    return Tensor(name, storage.key, storage.dtype, 0, (elements,), (1,))


def _check_sizes(name: str, numbers: tuple[int, ...]) -> None:
    if min(numbers) < 0:
        raise Malformed(f"{printable(name)!r} has a negative size, stride or offset")
    if len(numbers) > 2 * RANK_LIMIT + 2:
        raise _Undescribed(f"has more than {RANK_LIMIT} dimensions")
    if max(numbers) >= SIZE_LIMIT:
        raise _Undescribed("has sizes beyond any tensor's")


def _argument(node: Object, place: int | None) -> Any:
    known = place is not None and isinstance(node.args, tuple) and place < len(node.args)
    return node.args[place] if known else None


def _dtype(value: Any) -> str | None:
    return _DTYPES.get(value.name) if isinstance(value, Global) and value.module == "torch" else None


def _sizes(value: Any) -> tuple[int, ...] | None:
    if isinstance(value, Object) and value.callee == "torch.Size":
        value = _argument(value, 0)
    if isinstance(value, (tuple, list)) and all(type(size) is int for size in value):
        return tuple(value)
    return None
