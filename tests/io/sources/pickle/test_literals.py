from __future__ import annotations

import io
import pickle
import zipfile
from typing import Any

import numpy as np
import pytest
import torch

from bale.io.sources.pickle.literals import Literal, find_literals
from bale.io.sources.pickle.reader import parse_pickle
from bale.io.sources.torch.tensors import is_leaf
from tests.io.test_bombs import at_most


def literals(value: Any, protocol: int = 2) -> list[Literal]:
    return find_literals(parse_pickle(pickle.dumps(value, protocol)).value, lambda node: False)


@pytest.mark.parametrize("protocol", range(6))
def test_arrays_by_their_keys(protocol: int) -> None:
    value = {"model": {"w": np.zeros((100, 250), "f4")}, "few": np.ones(3), "many": [np.zeros(500)]}
    if protocol < 2:
        value = {"model": {"w": value["model"]["w"].astype("u1")}}
    found = literals(value, protocol)
    assert found[0].name == "model.w"
    assert all(each.is_array for each in found)
    if protocol >= 2:
        assert [(each.name, each.nbytes) for each in found] == [("model.w", 100_000), ("many.0", 4000)]


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_texts_and_bytes(protocol: int) -> None:
    found = literals({"vocab": "ü" * 10_000, "raw": bytes(5000), "array": bytearray(30_000), "short": "x"}, protocol)
    sizes = [("array", 30_000), ("vocab", 20_000), ("raw", 5000)]
    assert [(each.name, each.nbytes, each.is_array) for each in found] == [(*each, False) for each in sizes]


def test_bytes_take_what_the_pickle_has_of_them() -> None:
    """Protocol 2 writes bytes as a text, of two bytes from 128 on."""
    (found,) = literals({"w": np.full(2000, 255, "u1")})
    assert found == Literal("w", 4000, True)


def test_each_once_and_without_tensors() -> None:
    array = np.zeros(1000)
    stream = io.BytesIO()
    torch.save({"a": array, "b": [array], "t": torch.zeros(3), "p": torch.nn.Parameter(torch.ones(2))}, stream)
    with zipfile.ZipFile(stream) as file:
        data = file.read(next(name for name in file.namelist() if name.endswith("data.pkl")))
    (found,) = find_literals(parse_pickle(data).value, is_leaf)
    assert found.name in ("a", "b.0")
    assert found.nbytes == 8000


def test_an_array_by_itself_has_no_name() -> None:
    assert literals(np.zeros(1000)) == [Literal("", 8000, True)]


def test_lists_of_many_numbers_take_nothing() -> None:
    root = parse_pickle(b"\x80\x02](" + b"K\x07" * 100_000 + b"e.").value
    with at_most(50_000):
        assert find_literals([root, root], is_leaf) == []
