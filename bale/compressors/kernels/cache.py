"""Compiled loops kept on disk, by private names of numba: with another numba the import of this module may fail."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from types import BuiltinFunctionType, CodeType, FunctionType, ModuleType
from typing import Any

import numpy as np
from numba.core import event
from numba.core.caching import FunctionCache, IndexDataCacheFile
from numba.core.dispatcher import Dispatcher

from bale.compressors.compiling import begins


class _Listener(event.Listener):
    """Passes on that a loop which was not kept is being compiled."""

    def on_start(self, event: Any) -> None:
        """Called before it is."""
        begins()

    def on_end(self, event: Any) -> None:
        """Called after."""


event.register("numba:compile", _Listener())


class CheckedCache(FunctionCache):
    """Compiled code on disk that can only help: what cannot be read is compiled again, what cannot be kept is not."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__(function)
        kept = self._cache_file
        self._cache_file = _Checked(kept._cache_path, self._impl.filename_base, kept._source_stamp)

    def _index_key(self, sig: Any, codegen: Any) -> Any:
        """The key that code is kept by: what the function is made of, and those that it calls, in whatever file.

        By the key of numba a change in another file goes unseen, and a function made in another one has another name
        in every process, so that nothing that was kept is found.
        """
        return sig, codegen.magic_tuple(), hashlib.sha256(repr(_made_of(self._py_func)).encode()).hexdigest()

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """The code that was kept, or None."""
        try:
            return super().load_overload(sig, target_context)
        except Exception:  # a file that was cut, or is of another user: whatever unpickling makes of it
            with suppress(Exception):
                self.flush()
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        """Keep compiled code if that can be done."""
        with suppress(Exception):  # a full disk, or a folder that is gone
            super().save_overload(sig, data)


def _made_of(function: FunctionType, within: tuple[FunctionType, ...] = ()) -> tuple[Any, ...]:
    """What a function computes, as values that are equal in every process: its code, and all that this refers to."""
    if function in within:  # it calls itself
        return (function.__qualname__,)
    within = (*within, function)
    around = [cell.cell_contents for cell in function.__closure__ or ()]
    given = [function.__defaults__, *sorted((function.__kwdefaults__ or {}).items())]
    names = [name for code in _codes(function.__code__) for name in code.co_names if name in function.__globals__]
    found = [function.__globals__[name] for name in names]
    parts = [_fixed(each, within) for each in (function.__code__, *around, *given, *found)]
    return function.__qualname__, *parts


def _codes(code: CodeType) -> Iterator[CodeType]:
    """A code and those of the functions within it."""
    yield code
    for each in code.co_consts:
        if isinstance(each, CodeType):
            yield from _codes(each)


def _fixed(value: Any, within: tuple[FunctionType, ...]) -> Any:
    """A value as one whose text is the same in every process; `TypeError` for what may have none."""
    if isinstance(value, Dispatcher):
        return _made_of(value.py_func, within)
    if isinstance(value, FunctionType):
        return _made_of(value, within)
    if isinstance(value, CodeType):
        return value.co_code, value.co_names, *(_fixed(each, within) for each in value.co_consts)
    if isinstance(value, np.ndarray | np.generic):
        return value.dtype.str, value.shape, hashlib.sha256(value.tobytes()).hexdigest()
    if isinstance(value, tuple):
        return tuple(_fixed(each, within) for each in value)
    if isinstance(value, frozenset):  # whose order follows the hashes of a process
        return "frozenset", *sorted(repr(_fixed(each, within)) for each in value)
    if isinstance(value, ModuleType):
        return value.__name__
    if isinstance(value, type | BuiltinFunctionType | np.ufunc):
        return getattr(value, "__module__", None), value.__name__
    if value is None or value is ... or isinstance(value, bool | int | float | complex | str | bytes):
        return type(value).__name__, repr(value)
    raise TypeError(f"{value!r} has no text that is the same in every process")


class _Checked(IndexDataCacheFile):
    """Files of compiled code that begin with their digest: what changed there must not be run."""

    def _save_data(self, name: str, data: Any) -> None:
        content = self._dump(data)
        with self._open_for_write(self._data_path(name)) as file:
            file.write(hashlib.sha256(content).digest() + content)

    def _load_data(self, name: str) -> Any:
        import pickle

        with open(self._data_path(name), "rb") as file:
            digest, content = file.read(32), file.read()
        if hashlib.sha256(content).digest() != digest:
            raise ValueError(f"{name} is not what was written")
        return pickle.loads(content)
