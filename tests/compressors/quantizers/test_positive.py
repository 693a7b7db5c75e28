"""Tensors that are never negative."""

import numpy as np
import pytest

from bale.compressors.base import Values
from bale.compressors.floats import from_float32, to_float32
from bale.compressors.pipeline import Pipeline
from bale.compressors.quantizers.positive import Positive
from bale.errors import Refused
from bale.spec import TensorSpec
from bale.testing.tensors import LOSSY_DTYPES, ROUNDING, adversarial

TEXTS = [
    *("positive+int8", "positive:domain=sqrt+int8", "positive+int:bits=1,group=tensor", "positive+nf4"),
    *("positive:domain=sqrt+int:bits=2,symmetric=true", "positive+int:bits=4,zero=float,group=8", "positive"),
]


def f32(rows):
    array = np.array(rows, np.float32)
    return Values(TensorSpec("F32", array.shape), array)


def test_logarithm_by_hand():
    x = f32([[1, 1.5, 2, 6], [0, 0.25, 2.0**-127, 0]])
    parts = Positive().encode(x)
    assert parts["value"].array.tolist() == [[0, 0.5, 1, 2.5], [-126.5, -2, -126.5, -126.5]]
    assert parts["zeros"].array.tolist() == [[0, 0, 0, 0], [1, 0, 0, 1]]
    assert parts["least"].array.tolist() == [2.0**-127]
    assert (Positive().decode(parts, x.spec) == x.array).all()


def test_square_root_by_hand():
    x = f32([4, 0, 0.25, 1e-20])
    parts = Positive(domain="sqrt").encode(x)
    assert parts["value"].array.tolist() == pytest.approx([2, 0, 0.5, 1e-10])
    parts["value"].array[3] = 0  # what a quantizer may make of it
    assert Positive(domain="sqrt").decode(parts, x.spec).tolist() == pytest.approx([4, 0, 0.25, 1e-20])


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("seed", range(20))
def test_signs_and_zeros_stay(text, seed):
    pipeline = Pipeline.parse(text)
    for x in adversarial(seed).values():
        for dtype in LOSSY_DTYPES:
            spec = TensorSpec(dtype, x.shape)
            values = Values(spec, from_float32(np.abs(x), spec))
            y = to_float32(pipeline.decode(pipeline.encode(values), spec), spec)
            before = to_float32(values.array, spec)
            assert np.isfinite(y).all()
            assert ((y > 0) == (before > 0)).all()
            assert (y >= 0).all()


@pytest.mark.parametrize("domain", ["log", "sqrt"])
@pytest.mark.parametrize("seed", range(20))
def test_bound(domain, seed):
    """Of what a quantizer's error makes of the values."""
    codec, rng = Positive(domain=domain), np.random.default_rng(seed)
    for x in adversarial(seed).values():
        for dtype in LOSSY_DTYPES:
            spec = TensorSpec(dtype, x.shape)
            values = Values(spec, from_float32(np.abs(x), spec))
            parts = codec.encode(values)
            seen = parts["value"].array
            d = float(rng.choice([0, 0.01, 1])) * (1 if domain == "log" else float(seen.max(initial=0)))
            moved = (seen + d * rng.uniform(-1, 1, seen.shape)).astype(np.float32)
            d = np.abs(moved.astype(np.float64) - seen).max(initial=0)
            parts["value"] = Values(parts["value"].spec, moved)
            y = to_float32(codec.decode(parts, spec), spec).astype(np.float64)
            x64 = to_float32(values.array, spec).astype(np.float64)
            roundoff, least = ROUNDING[dtype]
            allowed = 2 * d * x64 + 2.0**-126 * d if domain == "log" else d * (2 * np.sqrt(x64) + d)
            assert (
                np.abs(x64 - y) <= allowed * 1.0001 + 2.0**-17 * x64 + 2.0**-143 + roundoff * 1.01 * y + least
            ).all()


def test_relative_errors_of_a_second_moment_stay_small():
    x = np.random.default_rng(0).normal(size=(64, 256)).astype(np.float32) ** 2
    x *= (10.0 ** np.random.default_rng(1).uniform(-12, -4, (64, 1))).astype(np.float32)
    pipeline, plain = Pipeline.parse("positive+int8"), Pipeline.parse("int8")
    relative = [
        np.abs(each.decode(each.encode(f32(x)), TensorSpec("F32", x.shape)) / x - 1).max() for each in (pipeline, plain)
    ]
    assert relative[0] < 0.12
    assert relative[1] == 1


def test_refusals():
    with pytest.raises(Refused, match="negative"):
        Positive().encode(f32([1, -1e-30]))
    with pytest.raises(Refused, match="NaN or infinity"):
        Positive().encode(f32([1, np.inf]))


def test_parts_that_do_not_fit():
    x = f32(np.ones((2, 3)))
    parts = Positive().encode(x)
    with pytest.raises(ValueError, match="parts of"):
        Positive().decode(parts, TensorSpec("F32", (3, 2)))
