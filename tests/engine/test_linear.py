"""Work grows with the number of tensors, and not with its square."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bale
from bale.torch import load_state_dict
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


READERS: dict[str, Callable[[Path, Path], Any]] = {
    "compare checkpoints": lambda source, archive: bale.compare(source, source),
    "compare an archive": lambda source, archive: bale.compare(source, archive),
    "--tensor": lambda source, archive: bale.decompress(archive, f"{archive}.out", tensors=["*"], force=True),
    "open": lambda source, archive: read_all(archive),
    "load_state_dict": lambda source, archive: load_state_dict(archive),
    "load_state_dict of a checkpoint": lambda source, archive: load_state_dict(source),
    "--base of other names": lambda source, archive: bale.compress(
        source, f"{archive}.out", base=renamed(source), force=True
    ),
}


def read_all(archive: Path) -> None:
    with bale.open(archive) as tensors:
        for name in tensors:
            tensors[name]


def renamed(source: Path) -> Path:
    """The same tensors under names that have nothing in common with theirs."""
    with bale.open(f"{source}.bale") as tensors:
        return write(source.with_suffix(".base"), {f"x{at}": tensors[name] for at, name in enumerate(tensors)})


@pytest.mark.parametrize("reader", READERS)
def test_calls_of_readers_do_not_grow(tmp_path: Path, reader: str) -> None:
    counts = []
    rng = np.random.default_rng(0)
    for number in (100, 100, 400):  # the first one loads what is needed
        source = write(
            tmp_path / f"{number}.safetensors",
            {f"layers.{n}.weight": rng.standard_normal((8, 10)).astype("<f4") for n in range(number)},
        )
        bale.compress(source, f"{source}.bale", force=True)
        counts.append(calls_of(lambda: READERS[reader](source, Path(f"{source}.bale"))))  # noqa: B023  (called at once)
    assert counts[2] < 4.4 * counts[1]
