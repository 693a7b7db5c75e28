"""Limits of size on random checkpoints, odd ones too: never above them, and hardly below."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

import bale
from bale.errors import UsageError
from bale.report.model import Report
from tests.making import Raw, write

Random = np.random.Generator
Shape = tuple[int, ...]
SHARES = (8, 15, 25, 45, 60)
_UNITS = {"B": 1, "kB": 1e3, "MB": 1e6}


def normal(r: Random, shape: Shape) -> np.ndarray:
    return r.standard_normal(shape) * 10 ** r.uniform(-3, 1)


def heavy(r: Random, shape: Shape) -> np.ndarray:
    return 0.02 * r.standard_t(2.5, shape)


def sparse(r: Random, shape: Shape) -> np.ndarray:
    return normal(r, shape) * (r.random(shape) < 0.05)


def squares(r: Random, shape: Shape) -> np.ndarray:
    return normal(r, shape) ** 2


def thirds(r: Random, shape: Shape) -> np.ndarray:
    return np.rint(3 * r.standard_normal(shape)) / 3


def sinusoid(r: Random, shape: Shape) -> np.ndarray:
    return np.sin(np.arange(math.prod(shape)) / 7).reshape(shape)


def scaled_rows(r: Random, shape: Shape) -> np.ndarray:
    return normal(r, shape) * np.exp(r.standard_normal((shape[0],) + (1,) * (len(shape) - 1)))


MAKERS: tuple[Callable[[Random, Shape], np.ndarray], ...] = (
    *(normal, heavy, sparse, squares, thirds, sinusoid, scaled_rows),
)


def tensors(r: Random) -> Iterator[tuple[str, Raw | np.ndarray]]:
    for number in range(int(r.integers(1, 20))):
        make = MAKERS[r.integers(len(MAKERS))]
        kernel = r.random() < 0.25
        shape: Shape = (int(r.integers(32, 500)), int(r.integers(128, 900)))
        if kernel:
            shape = (int(r.integers(16, 128)), int(r.integers(8, 64)), 3, 3)
        values = make(r, shape)
        yield f"{number}.{make.__name__}", values.astype("<f4") if r.random() < 0.6 else Raw.of(values.astype("<f2"))


def compressed(source: Path, size: int) -> Report:
    report = bale.compress(source, source.with_suffix(".bale"), budget=bale.budget(max_size=size), force=True)
    assert report.path is not None
    assert report.path.stat().st_size <= size
    return report


def least_of(problem: UsageError) -> float:
    """The size that an error names as the least."""
    found = re.search(r"the least is ([0-9.]+) (\w+)", problem.message)
    assert found is not None, problem.message
    return float(found[1]) * _UNITS[found[2]]


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(30))
def test_a_size_is_met_or_said_to_be_too_small(tmp_path: Path, seed: int) -> None:
    source = write(tmp_path / "m.safetensors", dict(tensors(np.random.default_rng(seed))))
    for share in SHARES:
        size = source.stat().st_size * share // 100
        try:
            report = compressed(source, size)
        except UsageError as problem:
            least = least_of(problem)
            assert least > size
            compressed(source, math.ceil(1.02 * least))
        else:
            filled = report.stored_bytes >= 0.99 * size
            assert filled or report.exact or "unspent" in {note.kind for note in report.notes}
