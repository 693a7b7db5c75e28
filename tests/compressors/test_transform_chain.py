"""Walks over transforms, with a transform that is plain to see."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pytest

from bale.compressors import transform_chain
from bale.compressors.base import PartBound, Transform, Values
from bale.spec import Array, TensorSpec


@dataclass(frozen=True)
class Halves(Transform):
    """The first half goes on, the second one is stored beside it, and left out when it is zero."""

    name = "halves"

    def validate(self, spec: TensorSpec) -> None:
        assert spec.elements % 2 == 0

    def parts(self, spec: TensorSpec) -> tuple[PartBound, ...]:
        half = TensorSpec(spec.dtype, (spec.elements // 2,))
        return PartBound("a", half, primary=True), PartBound("b", half, optional=True)

    def encode(self, values: Values) -> dict[str, Values]:
        halves = [Values(TensorSpec("U8", half.shape), half) for half in np.split(values.array, 2)]
        return {name: half for name, half in zip("ab", halves, strict=True) if name == "a" or half.array.any()}

    def decode(self, parts: Mapping[str, Values], spec: TensorSpec) -> Array:
        first = parts["a"].array
        return np.concatenate([first, parts["b"].array if "b" in parts else np.zeros_like(first)])


SPEC = TensorSpec("U8", (8,))
CHAIN = (Halves(), Halves())


def test_by_hand() -> None:
    array = np.arange(1, 9, dtype=np.uint8)
    found = transform_chain.encode(CHAIN, Values(SPEC, array))
    assert {name: values.array.tolist() for name, values in found.items()} == {
        "a.a": [1, 2],
        "a.b": [3, 4],
        "b": [5, 6, 7, 8],
    }
    assert transform_chain.decode(CHAIN, found, SPEC).array.tolist() == array.tolist()
    assert {name: values.array.tolist() for name, values in transform_chain.below("a", found).items()} == {
        "a": [1, 2],
        "b": [3, 4],
    }
    bounds = transform_chain.leaves(CHAIN, PartBound("", SPEC, primary=True))
    assert [(leaf.name, leaf.spec.elements, leaf.optional) for leaf in bounds] == [
        ("a.a", 2, False),
        ("a.b", 2, True),
        ("b", 4, True),
    ]


def test_parts_that_are_missing() -> None:
    array = np.array([1, 2, 0, 0, 0, 0, 0, 0], np.uint8)
    found = transform_chain.encode(CHAIN, Values(SPEC, array))
    assert list(found) == ["a.a"]
    assert transform_chain.is_missing("b", found)
    assert not transform_chain.is_missing("a", found)
    assert transform_chain.decode(CHAIN, found, SPEC).array.tolist() == array.tolist()
    with pytest.raises(ValueError, match=r"the part 'a\.a' is missing"):
        transform_chain.decode(CHAIN, {}, SPEC)


def test_no_transforms() -> None:
    values = Values(SPEC, np.zeros(8, np.uint8))
    assert transform_chain.encode((), values) == {"data": values}
    assert transform_chain.decode((), {"data": values}, SPEC) is values
    assert [leaf.name for leaf in transform_chain.leaves((), PartBound("", SPEC))] == ["data"]
