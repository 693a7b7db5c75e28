"""The loops in C, if the package was built with them: `of` finds one by its name."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from types import ModuleType
from typing import Any

import numpy as np

_KINDS = {
    "uint8_t": np.uint8,
    "uint16_t": np.uint16,
    "uint32_t": np.uint32,
    "uint64_t": np.uint64,
    "int8_t": np.int8,
    "int16_t": np.int16,
    "int32_t": np.int32,
    "int64_t": np.int64,
    "float": np.float32,
    "double": np.float64,
}
_PREFIX = "k_"


@cache
def _module() -> ModuleType | None:
    try:
        from bale.compressors.kernels.native import _loops
    except ImportError:  # a package without them, as where no compiler was found
        return None
    if digest() and _loops.ffi.string(_loops.lib.k_digest).decode() != digest():
        return None  # built from other sources than those that lie here: its loops may give other bytes
    return _loops


def available() -> bool:
    """Whether the loops in C are there."""
    return _module() is not None


@cache
def digest() -> str:
    """SHA-256 of the C files that the loops must be built from; empty where these are not there."""
    from bale.compressors.kernels.native import build

    return build.digest() if build.sources() else ""


@cache
def of(name: str) -> Callable[..., Any] | None:
    """The loop of this name, called with arrays and numbers as they are declared; None where it is not there.

    Raises
    ------
    TypeError
        When it is called with arrays of kinds that it is not made for.
    ValueError
        When an array is not contiguous, or not aligned.
    """
    module = _module()
    if module is None:
        return None
    found = [each for each in dir(module.lib) if each == _PREFIX + name or each.startswith(f"{_PREFIX}{name}__")]
    variants = {_arrays_of(module, each): getattr(module.lib, each) for each in found}
    return _caller(module, name, variants) if variants else None


def _arrays_of(module: ModuleType, name: str) -> tuple[np.dtype[Any], ...]:
    """Kinds of the arrays that a function takes."""
    kinds = (each for each in module.ffi.typeof(getattr(module.lib, name)).args if each.kind == "pointer")
    return tuple(np.dtype(_KINDS[each.item.cname.removeprefix("const ")]) for each in kinds)


def _caller(module: ModuleType, name: str, variants: dict[tuple[np.dtype[Any], ...], Any]) -> Callable[..., Any]:
    from_buffer, array_kind = module.ffi.from_buffer, np.ndarray
    pointers = {np.dtype(kind): module.ffi.typeof(f"{each}[]") for each, kind in _KINDS.items()}

    def call(*given: Any) -> Any:
        kinds: list[Any] = []
        arguments: list[Any] = []
        for each in given:
            if isinstance(each, array_kind):
                if not each.flags.aligned:
                    raise ValueError(f"{name} is given an array that is not aligned")
                kinds.append(each.dtype)
                pointer = pointers.get(each.dtype)
                if pointer is None:
                    raise TypeError(f"{name} is not made for {each.dtype}")
                arguments += from_buffer(pointer, each), *each.shape
            else:
                arguments.append(each)
        function = variants.get(tuple(kinds))
        if function is None:
            raise TypeError(f"{name} is not made for {', '.join(map(str, kinds))}")
        return function(*arguments)

    call.__name__ = name
    return call
