"""The serializer that makes codes smallest."""

import numpy as np
import pytest

from bale.compressors import registry
from bale.compressors.base import Values
from bale.compressors.serializers.smallest import FEW, smallest
from bale.spec import TensorSpec


def codes(count, bits, share=0.9):
    rng = np.random.default_rng(0)
    array = np.where(rng.random(count) < share, 0, rng.integers(0, 1 << bits, count)).astype(np.uint8)
    return Values(TensorSpec("U8", (count,)), array, bits)


@pytest.mark.parametrize(
    ("count", "compiled", "share", "name"),
    [
        (FEW, False, 0.9, "rans"),
        (FEW - 1, False, 0.9, "huffman"),
        (FEW - 1, True, 0.9, "rans"),
        (8, True, 0.0, "bitpack"),
    ],
)
def test_the_smallest_is_found(count, compiled, share, name):
    values = codes(count, 4, share)
    found, data = smallest(values, compiled=compiled)
    assert found == name
    again = registry.get(found)().decode(memoryview(bytes(data)), values.spec, values.bits)
    assert (again == values.array).all()
    assert len(data) <= count // 2
