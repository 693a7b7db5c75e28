"""Two layers with loss: low rank, and a quantizer for what it leaves over."""

import numpy as np
import pytest

from bale.compressors.base import Values
from bale.compressors.floats import from_float32, to_float32
from bale.compressors.pipeline import Pipeline
from bale.compressors.residual import add, best_rank, entropy, subtract
from bale.errors import Refused
from bale.spec import TensorSpec


def values_of(x, dtype="F32"):
    spec = TensorSpec(dtype, x.shape)
    return Values(spec, from_float32(np.asarray(x, np.float32), spec))


def relative_error(pipeline, values):
    leaves = pipeline.encode(values)
    x = to_float32(values.array, values.spec).astype(np.float64)
    decoded = to_float32(pipeline.decode(leaves, values.spec), values.spec)
    return np.linalg.norm(decoded - x) / np.linalg.norm(x), leaves


def rows_of_all_sizes(seed=0, shape=(96, 80)):
    rng = np.random.default_rng(seed)
    return np.outer(*(np.exp(rng.normal(size=n) * 2) for n in shape)) * np.exp(0.1 * rng.normal(size=shape))


def test_by_hand():
    """The first layer has rank 1 exactly, and the rest has the values 0 and 3 that int8 keeps."""
    x = np.array([[4, 0, 0], [0, 3, 0]], np.float32)
    pipeline = Pipeline.parse("svd:rank=1/int:bits=2")
    leaves = pipeline.encode(values_of(x))
    assert sorted(leaves) == ["rest.qdata", "rest.scale", "rest.zero", "u", "vh"]
    assert leaves["u"].array.tolist() == [[2], [0]]
    assert leaves["rest.qdata"].array.tolist() == [[0, 0, 0], [0, 3, 0]]
    assert pipeline.decode(leaves, TensorSpec("F32", (2, 3))).tolist() == x.tolist()
    assert pipeline.first.decode(leaves, TensorSpec("F32", (2, 3))).tolist() == [[4, 0, 0], [0, 0, 0]]


def test_sums_stay_finite():
    spec = TensorSpec("F32", (1,))
    largest = np.array([3e38], np.float32)
    assert add(largest, largest, spec)[0] == np.finfo(np.float32).max
    assert subtract(-largest, largest, spec)[0] == -np.finfo(np.float32).max
    assert entropy(np.array([0, 1, 2, 3, 0, 0, 0, 0], np.uint8)) == pytest.approx(8 * (0.625 * 0.678071905) + 3 * 3)


@pytest.mark.parametrize("dtype", ["F32", "BF16", "F16", "F64"])
def test_the_rest_is_coded_with_the_error_of_its_quantizer(dtype):
    values = values_of(rows_of_all_sizes(), dtype)
    error, _ = relative_error(Pipeline.parse("svd:rank=4+int8/int:bits=4"), values)
    alone, _ = relative_error(Pipeline.parse("int:bits=4"), values)
    assert error < 0.25 * alone


def test_floats_of_a_byte_are_refused():
    with pytest.raises(Refused, match="differences of F8_E4M3"):
        Pipeline.parse("svd:rank=1/int4").validate(TensorSpec("F8_E4M3", (40, 40)))


@pytest.mark.parametrize("shape", [(64, 64), (200, 30)])
def test_auto_stores_no_factors_of_noise(shape):
    values = values_of(np.random.default_rng(1).normal(size=shape))
    auto, single = Pipeline.parse("svd:rank=auto+int8/int:bits=3"), Pipeline.parse("int:bits=3")
    error, leaves = relative_error(auto, values)
    assert sorted(leaves) == ["rest.qdata", "rest.scale", "rest.zero"]
    assert error == relative_error(single, values)[0]
    assert not auto.first.decode(leaves, values.spec).any()


def test_auto_finds_the_rank_of_low_rank_and_noise():
    rng = np.random.default_rng(2)
    low = rng.normal(size=(300, 5)) @ rng.normal(size=(5, 200))
    values = values_of(low + 0.05 * rng.normal(size=(300, 200)))
    error, leaves = relative_error(Pipeline.parse("svd:rank=auto+int8/int:bits=3"), values)
    assert leaves["u.qdata"].spec.shape == (300, 5)
    assert error < 0.02


def test_the_search_by_hand():
    """Costs fall to rank 11 and rise from there; 2, 4, 8, 16, 32 are tried, then what lies between."""
    tried = []

    class Ranked:
        most = 100

        def parts(self, rank):
            tried.append(rank)
            return {"r": Values(TensorSpec("F32", (abs(rank - 11),)), np.full(abs(rank - 11), rank, np.float32))}

    values = values_of(np.ones((2, 2)))
    best = best_rank(Ranked(), dict, lambda leaves: np.zeros((2, 2), np.float32), values)
    assert best["r"].spec.shape == (0,)
    assert tried == [0, 1, 2, 4, 8, 16, 32, 6, 10, 9, 11]
