"""Loops in C beside the same in Python."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType
from typing import Any

import numpy as np


@contextmanager
def modules_without_c(*names: str) -> Iterator[dict[str, ModuleType]]:
    """Modules of kernels as they are where nothing was built."""
    package = "bale.compressors.kernels"
    kept = {name: module for name, module in sys.modules.items() if name.startswith(package)}
    for name in kept:
        del sys.modules[name]
    sys.modules[f"{package}.native._loops"] = None  # type: ignore[assignment]
    try:
        yield {name: import_module(f"{package}.{name}") for name in names}
    finally:
        for name in [name for name in sys.modules if name.startswith(package)]:
            del sys.modules[name]
        sys.modules.update(kept)


def assert_same(module: str, name: str, here: dict[str, Any], numba: dict[str, Any], *arguments: Any) -> None:
    """Both give the same, and leave the same in their arrays."""
    assert not hasattr(getattr(here[module], name), "py_func")  # in C
    assert hasattr(getattr(numba[module], name), "py_func")
    copies = [[each.copy() if isinstance(each, np.ndarray) else each for each in arguments] for _ in range(2)]
    found, wanted = (getattr(loops[module], name)(*given) for loops, given in zip((here, numba), copies, strict=True))
    assert found == wanted
    for one, other in zip(*copies, strict=True):
        if isinstance(one, np.ndarray):
            assert bytes_of(one) == bytes_of(other)


def bytes_of(array: Any) -> bytes:
    """All bits, but for those of what is no number: its sign is not the same in all compilers, and nothing uses it."""
    copied = array.copy()
    if array.dtype.kind == "f":
        copied[np.isnan(array)] = np.nan
    return bytes(copied.tobytes())
