"""The second layer, whatever it is given: every bit comes back."""

import pytest

from bale.compressors.base import Place, Reference, Values
from bale.compressors.conditional.exact import Exact
from bale.errors import Refused
from bale.spec import DTYPES, TensorSpec
from bale.testing.tensors import SHAPES, random_bits


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [*SHAPES, (2, 0, 64), (300, 65)])
def test_any_words_given_any_words(dtype, shape):
    """Unrelated ones, equal ones, such that differ in the lowest bit, and zeros; all NaN payloads are among them."""
    spec, codec = TensorSpec(dtype, shape), Exact()
    try:
        codec.validate(spec)
    except Refused:
        pytest.skip("refused")
    array = random_bits(spec, 1).reshape(-1)
    word = f"<u{array.itemsize}"
    for known in (
        random_bits(spec, 2).reshape(-1).view(word),
        array.view(word),
        array.view(word) ^ 1,
        array.view(word) * 0,
    ):
        near = Reference(known.astype(word).view(spec.storage))
        data = codec.encode(Values(spec, array, place=Place(shape, 0)), near)
        found = codec.decode(memoryview(data), TensorSpec(dtype, (array.size,)), near)
        assert found.tobytes() == array.tobytes()
