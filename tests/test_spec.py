"""Sizes of tensors, counted by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open

from bale.spec import DTYPES, TensorSpec, Unit, View
from tests.making import random_raw, write


@pytest.mark.parametrize(
    ("dtype", "shape", "elements", "nbytes", "held"),
    [
        ("F32", (3, 4), 12, 48, (3, 4)),
        ("BF16", (), 1, 2, ()),
        ("F64", (0, 5), 0, 0, (0, 5)),
        ("F4", (3, 4), 12, 6, (6,)),
        ("F4", (3,), 3, 2, (2,)),
        ("F6_E2M3", (8,), 8, 6, (6,)),
        ("BOOL", (7,), 7, 7, (7,)),
        ("C128", (2,), 2, 32, (2,)),
    ],
)
def test_sizes(dtype: str, shape: tuple[int, ...], elements: int, nbytes: int, held: tuple[int, ...]) -> None:
    spec = TensorSpec(dtype, shape)
    assert (spec.elements, spec.nbytes, spec.storage_shape) == (elements, nbytes, held)
    assert np.zeros(spec.storage_shape, spec.storage).nbytes == nbytes


def test_large_shapes_do_not_wrap() -> None:
    assert TensorSpec("F32", (1 << 40, 1 << 40)).nbytes == 1 << 82


def test_storage_types_have_the_width_of_their_dtype() -> None:
    for name, dtype in DTYPES.items():
        assert dtype.name == name
        assert np.dtype(dtype.storage).itemsize * 8 == max(8, dtype.bits)
        assert dtype.packed == (dtype.bits < 8)
    assert [name for name, dtype in DTYPES.items() if not dtype.portable] == ["C128"]


def test_portable_dtypes_are_those_of_safetensors(tmp_path: Path) -> None:
    names = [name for name, dtype in DTYPES.items() if dtype.portable]
    path = write(tmp_path / "m", {name: random_raw(name, (8,)) for name in names})
    with safe_open(path, framework="np") as file:
        assert {name: file.get_slice(name).get_dtype() for name in names} == {name: name for name in names}


def test_text() -> None:
    assert str(TensorSpec("BF16", (2, 3))) == "BF16[2,3]"
    assert str(TensorSpec("BF16", ())) == "BF16[]"


@pytest.mark.parametrize(
    ("shape", "offset", "strides", "reach"),
    [
        ((3, 4), 0, None, 12 * 32),
        ((3, 4), 5, None, 17 * 32),
        ((3, 4), 0, (1, 3), (2 * 1 + 3 * 3 + 1) * 32),
        ((5,), 2, (0,), 3 * 32),
        ((0, 4), 9, None, 0),
        ((), 6, None, 7 * 32),
    ],
)
def test_reach_of_views(shape: tuple[int, ...], offset: int, strides: tuple[int, ...] | None, reach: int) -> None:
    assert View("x", TensorSpec("F32", shape), offset, strides).reach == reach


def test_units_end_behind_their_last_byte() -> None:
    assert Unit(100, TensorSpec("F16", (3, 3)), ()).end == 118
