"""The tensors of a pickled torch object: their names, and where in which storage they lie."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, NamedTuple

from bale.io.faults import Malformed, printable
from bale.io.sources.dtypes import BY_NAME
from bale.io.sources.pickle.arrays import Arrays, is_array
from bale.io.sources.pickle.reader import Global, Object, Persistent
from bale.io.sources.pickle.undescribed import Reasons, Undescribed
from bale.io.sources.pickle.walk import named
from bale.io.sources.storages import ROOT, Tensor
from bale.notes import Note

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
    **BY_NAME,
    "double": "F64",
    "float": "F32",
    "half": "F16",
    "cfloat": "C64",
    "cdouble": "C128",
    "long": "I64",
    "int": "I32",
    "short": "I16",
    "bits8": "U8",
    "bits16": "U16",
    "qint8": "I8",
    "quint8": "U8",
    "qint32": "I32",
    "float4_e2m1fn_x2": "U8",  # torch counts pairs
}
_PER_BYTE = {"QUInt4x2Storage": 2, "QUInt2x4Storage": 4}  # elements that share a byte


class StorageRef(NamedTuple):
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
    """The tensors of a pickle, notes on those that cannot be described, and the names of these by their storages.

    `arrays` are those of numpy, which lie in the pickle.
    """

    tensors: list[Tensor]
    notes: list[Note]
    nameless: dict[str, list[str]]
    arrays: Arrays

    @property
    def names(self) -> list[str]:
        """The names of all of them."""
        nameless = (name for names in self.nameless.values() for name in names)
        return [*(tensor.name for tensor in self.tensors), *self.arrays.names, *nameless]


def find_tensors(root: Any) -> Found:
    """All tensors that can be reached from an object, in its order; behind them storages that lie there by themselves.

    Raises `TooMuch` when there are more names than any checkpoint has.
    """
    tensors, bare, arrays = list[Tensor](), list[Tensor](), Arrays()
    nameless, reasons = dict[str, list[str]](), Reasons()
    for name, node in named(root, is_leaf, ROOT):
        try:
            if is_tensor(node):
                tensors.append(_describe(name, node))
            elif is_array(node):
                arrays.add(name, node)
            else:
                bare.append(_flat(name, node))
        except Undescribed as problem:
            reasons.add(str(problem), name)
            storage = storage_ref(_argument(node, 0) if is_tensor(node) else node)
            nameless.setdefault("" if storage is None else storage.key, []).append(name)
    taken = {tensor.storage for tensor in tensors}
    for each in bare:
        if each.storage not in taken:
            taken.add(each.storage)
            tensors.append(each)
    return Found(tensors, reasons.notes(), nameless, arrays)


def is_leaf(node: Any) -> bool:
    """Whether something is a tensor, a storage, or an array of numpy."""
    return is_tensor(node) or is_array(node) or storage_ref(node) is not None


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
    args = node.args if isinstance(node.args, tuple) else ()
    where, offset, shape, strides = (*args, None, None, None, None)[:4]
    storage = storage_ref(where)
    if storage is None:
        raise Undescribed("lies in no storage")
    dtype = storage.dtype if dtype_place is None else _dtype(_argument(node, dtype_place))
    if dtype is None:
        raise Undescribed("has a dtype that bale does not know")
    metadata = _argument(node, metadata_place)
    if isinstance(metadata, Object) and (metadata.get("conj") or metadata.get("neg")):
        raise Undescribed("is stored conjugated or negated")
    shape, strides = _sizes(shape), _sizes(strides)
    if type(offset) is not int or shape is None or strides is None or len(shape) != len(strides):
        raise Undescribed("has sizes that make no sense")
    _check_sizes(name, (offset, storage.offset, *shape, *strides))
    if per_byte := _PER_BYTE.get(storage.type_name):
        packed = -(-math.prod(shape) // per_byte)
        return Tensor(name, storage.key, dtype, storage.offset + offset // per_byte, (packed,), (1,))
    tensor = Tensor(name, storage.key, dtype, storage.offset + offset, shape, strides)
    if math.prod(shape) * tensor.width >= SIZE_LIMIT:
        raise Undescribed("is larger than any file")
    return tensor


def _flat(name: str, node: Persistent) -> Tensor:
    """A storage that lies somewhere by itself."""
    storage = storage_ref(node)
    if storage is None or storage.dtype is None or type(storage.elements) is not int:
        raise Undescribed("is a storage of unknown type")
    _check_sizes(name, (storage.elements,))
    elements = -(-storage.elements // _PER_BYTE.get(storage.type_name, 1))
    return Tensor(name, storage.key, storage.dtype, 0, (elements,), (1,))


def _check_sizes(name: str, numbers: tuple[int, ...]) -> None:
    if min(numbers) < 0:
        raise Malformed(f"{printable(name)!r} has a negative size, stride or offset")
    if len(numbers) > 2 * RANK_LIMIT + 2:
        raise Undescribed(f"has more than {RANK_LIMIT} dimensions")
    if max(numbers) >= SIZE_LIMIT:
        raise Undescribed("has sizes beyond any tensor's")


def _argument(node: Object, place: int | None) -> Any:
    known = place is not None and isinstance(node.args, tuple) and place < len(node.args)
    return node.args[place] if known else None


def _dtype(value: Any) -> str | None:
    return _DTYPES.get(value.name) if isinstance(value, Global) and value.module == "torch" else None


def _sizes(value: Any) -> tuple[int, ...] | None:
    if isinstance(value, Object) and value.callee == "torch.Size":
        value = _argument(value, 0)
    if isinstance(value, (tuple, list)) and {*map(type, value)} <= {int}:
        return tuple(value)
    return None
