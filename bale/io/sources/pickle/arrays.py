"""The numpy arrays of a pickle: what they are, and where their values lie in it.

Followed are arrays whose values are bytes of the pickle (protocols 3 to 5, and strings of Python 2), those of jax, and
those that joblib puts between opcodes. Protocols 0 to 2 of Python 3 write values as a text: these stay where they are.
Elements that are no numbers (records, texts, dates) are bytes; arrays of objects are what the objects are.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from bale.io.sources.pickle.dtypes import Dtype, dtype_of
from bale.io.sources.pickle.reader import Bytes, Long, Object, OldBytes
from bale.io.sources.pickle.undescribed import Undescribed
from bale.io.sources.storages import Storage, Tensor, make_units, merged
from bale.spec import DTYPES, Unit

RANK_LIMIT = 63  # dimensions, of 64 at most, with one more for the bytes of an element
SIZE_LIMIT = 1 << 62
WRAPPERS = {f"{joblib}.numpy_pickle.NumpyArrayWrapper" for joblib in ("joblib", "sklearn.externals.joblib")}
_RECONSTRUCT = {f"numpy.{core}.multiarray._reconstruct" for core in ("core", "_core")}
_FROM_BUFFER = {f"numpy.{core}.numeric._frombuffer" for core in ("core", "_core")}
OF_NUMPY = _RECONSTRUCT | _FROM_BUFFER
_OF_JAX = {"jax._src.array._reconstruct_array", "jax.array._reconstruct_array"}


class _Record(NamedTuple):
    """What a pickle says of an array; `axes` is the order in which dimensions of `shape` are those of the array."""

    at: int
    nbytes: int
    dtype: Any
    shape: Any
    is_fortran: bool = False
    axes: Any = None


def is_array(node: Any) -> bool:
    """Whether a node is an array whose values are a run of bytes."""
    return isinstance(node, Object) and _record(node) is not None


class Arrays:
    """The arrays of a pickle, as they are found."""

    def __init__(self) -> None:
        self._storages: dict[int, Storage] = {}
        self._swapped: dict[int, bool] = {}
        self._tensors: list[tuple[int, Tensor]] = []
        self._dtypes: dict[int, Dtype | None] = {}  # by the identities of their nodes, which are few and stay

    @property
    def names(self) -> list[str]:
        """Their names."""
        return [tensor.name for _, tensor in self._tensors]

    @property
    def nbytes(self) -> int:
        """Bytes of their values, those of several arrays once."""
        return sum(storage.nbytes for storage in self._storages.values())

    def add(self, name: str, node: Object) -> None:
        """Describe one more; raise `Undescribed` for one whose description makes no sense."""
        record = _record(node)
        dtype = None if record is None else self._dtype(record.dtype)
        if record is None or dtype is None:
            raise Undescribed("has a dtype that bale does not know")
        swapped = dtype.swapped and dtype.name is not None
        if self._swapped.setdefault(record.at, swapped) != swapped:
            raise Undescribed("shares its bytes with one of another byte order")
        tensor = _describe(name, record, dtype.name)
        self._storages.setdefault(record.at, Storage(record.at, record.nbytes))
        self._tensors.append((record.at, tensor))

    def units(self) -> tuple[Unit, ...]:
        """Their units, by ascending offset."""
        units = self._units(False)
        return merged(units, self._units(True)) if True in self._swapped.values() else units

    def _dtype(self, node: Any) -> Dtype | None:
        if id(node) not in self._dtypes:
            self._dtypes[id(node)] = dtype_of(node)
        return self._dtypes[id(node)]

    def _units(self, swapped: bool) -> tuple[Unit, ...]:
        storages = {str(at): each for at, each in self._storages.items() if self._swapped[at] == swapped}
        return make_units(storages, (tensor for at, tensor in self._tensors if self._swapped[at] == swapped), swapped)


def _record(node: Object) -> _Record | None:
    callee = node.callee
    if callee in _RECONSTRUCT:
        return _of_state(node.state)
    if callee in _FROM_BUFFER:
        match node.args:
            case (Bytes() | Long() as values, dtype, shape, order):
                return _of(values, dtype, shape, order == "F")
            case (Bytes() | Long() as values, dtype, shape, order, axes):
                return _of(values, dtype, shape, order == "F", axes if order == "K" else None)
    if callee in _OF_JAX and isinstance(node.args, tuple) and len(node.args) == 4:
        return _of_state(node.args[2])
    if callee in WRAPPERS:
        match node:
            case Object(state=Object() as state, elements=[Long() as values]):
                return _of(values, state.get("dtype"), state.get("shape"), state.get("order") == "F")
    return None


def _of_state(state: Any) -> _Record | None:
    match state:
        case (_, shape, dtype, is_fortran, Bytes() | Long() as values):
            return _of(values, dtype, shape, bool(is_fortran))
        case (_, shape, dtype, is_fortran, OldBytes() as values):
            return _of(values.raw, dtype, shape, bool(is_fortran))
    return None


def _of(values: Bytes | Long, dtype: Any, shape: Any, is_fortran: bool, axes: Any = None) -> _Record | None:
    if values.at is None:
        return None
    nbytes = values.nbytes if isinstance(values, Long) else len(values)
    return _Record(values.at, nbytes, dtype, shape, is_fortran, axes)


def _describe(name: str, record: _Record, dtype: str | None) -> Tensor:
    shape, axes = record.shape, record.axes
    if not isinstance(shape, tuple) or len(shape) > RANK_LIMIT:
        raise Undescribed(f"has more than {RANK_LIMIT} dimensions, or none that are known")
    if not all(type(size) is int and 0 <= size < SIZE_LIMIT for size in shape):
        raise Undescribed("has sizes that make no sense")
    elements = math.prod(shape)
    inner = DTYPES[dtype].bits // 8 if dtype else record.nbytes // elements if elements else 0
    if elements * inner != record.nbytes or not ((elements and inner) or dtype):
        raise Undescribed(f"has {record.nbytes} bytes, which are not those of its elements")
    strides = _strides(shape, record.is_fortran)
    if axes is not None:
        _check_axes(axes, len(shape))
        shape, strides = tuple(shape[axis] for axis in axes), tuple(strides[axis] for axis in axes)
    if dtype is None:
        shape, strides = (*shape, inner), (*(inner * stride for stride in strides), 1)
    return Tensor(name, str(record.at), dtype or "U8", 0, shape, strides)


def _check_axes(axes: Any, rank: int) -> None:
    is_order = isinstance(axes, (tuple, list)) and len(axes) == rank and all(type(axis) is int for axis in axes)
    if not is_order or set(axes) != set(range(rank)):
        raise Undescribed("has axes that make no sense")


def _strides(shape: Sequence[int], is_fortran: bool) -> tuple[int, ...]:
    """Elements from one to the next in each dimension, without gaps."""
    strides, step = list[int](), 1
    for size in shape if is_fortran else reversed(shape):
        strides.append(step)
        step *= max(1, size)
    return tuple(strides if is_fortran else reversed(strides))
