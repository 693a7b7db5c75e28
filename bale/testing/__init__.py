"""What every codec promises, as tests that its author runs with pytest.

A file of tests derives a class from the contract of the codec's kind, `TransformContract`, `QuantizerContract`,
`SerializerContract` or `CompressorContract`, and names the codecs, with all settings that matter::

    from bale.testing import QuantizerContract, rounding


    class TestSign(QuantizerContract):
        codecs = (Sign(), Sign(group=7))

        def within_bound(self, codec, x, y, parts, spec):
            return bool((abs(x - y) <= abs(x).max() + rounding(y, spec)).all())

`within_bound` is the error that the docstring of a lossy codec states; other methods that can be overridden say what a
codec is not suited for. A codec of another package has to be installed, as its name is looked up.

Needs pytest: ``pip install 'bale[testing]'``. bale itself never imports this.
"""

import pytest

pytest.register_assert_rewrite("bale.testing.contract")  # so that a failure shows what was compared

from bale.testing.contract import (  # noqa: E402
    CodecContract,
    CompressorContract,
    QuantizerContract,
    SerializerContract,
    TransformContract,
)
from bale.testing.tensors import LOSSY_DTYPES, SHAPES, adversarial, random_bits, random_values, rounding  # noqa: E402

__all__ = [
    "LOSSY_DTYPES",
    "SHAPES",
    "CodecContract",
    "CompressorContract",
    "QuantizerContract",
    "SerializerContract",
    "TransformContract",
    "adversarial",
    "random_bits",
    "random_values",
    "rounding",
]
