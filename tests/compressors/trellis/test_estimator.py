"""Estimates of a tensor by its sample."""

import numpy as np
import pytest

from bale.compressors.base import Values
from bale.compressors.floats import from_float32
from bale.compressors.trellis.codec import Trellis
from bale.compressors.trellis.coder import Coder
from bale.compressors.trellis.estimator import Estimator
from bale.compressors.trellis.scaled_tensor import ScaledTensor
from bale.compressors.trellis.viterbi import Code
from bale.spec import TensorSpec
from tests.soak import few


def rows_of_all_sizes(rows, columns, spread=1.0, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, columns)) * np.exp(spread * rng.normal(size=(rows, 1)))
    return x.astype(np.float32)


def tensor_of(x, balanced=False):
    return ScaledTensor(x.reshape(-1), TensorSpec("F32", x.shape), balanced=balanced)


@pytest.mark.parametrize("states", [1, 8])
def test_of_a_tensor_that_is_its_own_sample_they_are_right(states):
    x = rows_of_all_sizes(300, 200)
    tensor = tensor_of(x)
    estimator = Estimator(tensor, Code(states))
    found = estimator.estimate(0.25, measured=True)
    coded = Coder(tensor, estimator, None).encode(0.25, measured=True)
    assert found.size == pytest.approx(coded.size, rel=0.005)
    assert found.error2 == pytest.approx(coded.error2, rel=1e-12)
    assert found.model.classes == coded.model.classes
    assert estimator.estimate(0.25, measured=False).error2 == 0


def test_errors_are_those_of_what_comes_back():
    x = rows_of_all_sizes(700, 1000)
    tensor = tensor_of(x, balanced=True)
    assert not tensor.whole
    estimator = Estimator(tensor, Code(8))
    found = estimator.estimate(0.2, measured=True)
    coder = Coder(tensor, estimator, found.model)
    coded = coder.encode(0.2, measured=True)
    back = coder.decoded(coded)
    assert coded.error2 == pytest.approx(float(np.square(back - x.reshape(-1), dtype=np.float64).sum()), rel=1e-9)
    assert found.error2 == pytest.approx(coded.error2, rel=0.02)


def test_rows_that_the_sample_lacks_are_made_up_for():
    x = rows_of_all_sizes(2000, 4096)
    tensor = tensor_of(x)
    logs = np.log2(np.abs(x).mean(axis=1))
    seen = np.concatenate([[start // 4096 + k for k in range(2)] for start in tensor.starts]) % 2000
    assert tensor.excess == pytest.approx(logs.mean() - logs[seen].mean(), abs=0.05)
    assert abs(tensor.excess) > 0.05
    estimator = Estimator(tensor, Code(8))
    found = estimator.estimate(0.25, measured=False)
    size = Coder(tensor, estimator, found.model).encode(0.25, measured=False).size
    assert size == pytest.approx(found.size, rel=0.005)


def test_where_there_are_no_usual_rows_nothing_is_made_up_for():
    x = rows_of_all_sizes(2000, 4096)
    assert tensor_of(x.reshape(-1)).excess == 0
    assert tensor_of(x[:50]).excess == 0  # it is its own sample
    x[5] = 0
    assert tensor_of(x).excess == 0


@pytest.mark.parametrize(
    ("dtype", "shape"),
    [
        *((dtype, shape) for dtype in ("F32", "BF16", "F16", "F64", "F8_E4M3") for shape in ((40, 30), (90, 80))),
        *few([(dtype, (1200, 1000)) for dtype in ("BF16", "F32", "F16", "F64", "F8_E4M3")], 1),
    ],
)
@pytest.mark.parametrize(
    "settings", [{"bits": 3.0}, {"error": 0.1}, {"bits": 4.0, "balance": "column"}, {"step": 0.01}]
)
def test_what_encoding_says_comes_back_does(dtype, settings, shape):
    spec, codec = TensorSpec(dtype, shape), Trellis(**settings)
    x = rows_of_all_sizes(*shape, spread=0.3)
    x[::7, ::9] *= 30  # levels of which tokens leave bits open
    values = Values(spec, from_float32(x, spec))
    parts, decoded = codec.encode_and_decode(values)
    back = codec.decode(parts, spec)
    assert decoded is None or decoded().tobytes() == back.tobytes()
    assert decoded is not None or x.size <= 4096  # a plain stream
    again = codec.encode(values)
    assert again["qdata"].array.tobytes() == parts["qdata"].array.tobytes()
