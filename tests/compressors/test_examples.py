"""The example in the docstring of each codec runs, and gives what it says."""

import doctest

import numpy as np
import pytest

from bale.compressors import registry
from bale.compressors.base import Values
from bale.compressors.pipeline import Pipeline
from bale.spec import TensorSpec

NAMES = {"np": np, "Values": Values, "TensorSpec": TensorSpec, "Pipeline": Pipeline}
"""Imported before each example, as docs/codecs.md says."""


@pytest.mark.parametrize("name", registry.names())
def test_each_codec_has_an_example_that_runs(name):
    codec = registry.get(name)
    globs = NAMES | {codec.__name__: codec}
    example = doctest.DocTestParser().get_doctest(codec.__doc__ or "", globs, name, None, None)
    assert any(each.want for each in example.examples), f"{name} has no example"
    said = []
    assert doctest.DocTestRunner().run(example, out=said.append).failed == 0, "".join(said)
