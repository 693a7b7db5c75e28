"""Compiled loops kept on disk, by private names of numba: with another numba the import of this module may fail."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from numba.core import event
from numba.core.caching import FunctionCache, IndexDataCacheFile
from numba.core.dispatcher import Dispatcher
from numba.core.serialize import dumps

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
        """The key that code is kept by: of a compiled function that it refers to, what that is made of.

        As numba pickles such a function it has another name in every process, and nothing that was kept is found.
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


def _made_of(function: Callable[..., Any]) -> tuple[Any, ...]:
    """Code of a function and the values that it has from around it; the file that it stands in has a stamp."""
    around = [cell.cell_contents for cell in function.__closure__ or ()]
    values = [_made_of(each.py_func) if isinstance(each, Dispatcher) else dumps(each) for each in around]
    return function.__qualname__, function.__code__.co_code, *values


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
