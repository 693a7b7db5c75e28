"""Work grows with the number of tensors, and not with its square."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bale
from tests.making import write


def calls_of(work: Callable[[], Any]) -> int:
    """Python calls and calls of C functions in this thread, that of generators' steps included."""
    count = 0

    def counting(*_: object) -> None:
        nonlocal count
        count += 1

    sys.setprofile(counting)
    try:
        work()
    finally:
        sys.setprofile(None)
    return count


@pytest.mark.parametrize("verb", ["compress", "plan", "verify", "decompress", "inspect"])
def test_calls_for_each_tensor_do_not_grow(tmp_path: Path, verb: str) -> None:
    counts = []
    for number in (200, 200, 800):  # the first one loads what is needed
        tensors = {f"layers.{n}.weight": np.full(16, n, "<f4") for n in range(number)}
        source = write(tmp_path / f"{number}.safetensors", tensors)
        archive = tmp_path / f"{number}.safetensors.bale"
        if verb not in ("compress", "plan"):
            bale.compress(source, archive, force=True)
        given = source if verb in ("compress", "plan") else archive
        more: dict[str, Any] = {"force": True} if verb in ("compress", "decompress") else {}
        target = (tmp_path / "out",) if verb in ("compress", "decompress") else ()
        counts.append(calls_of(lambda: getattr(bale, verb)(given, *target, **more)))  # noqa: B023  (called at once)
    assert counts[2] < 4.4 * counts[1]
