"""Levels by the covariance of inputs: by hand, and that they never make outputs worse."""

import numpy as np
import pytest

from bale.compressors.base import Values
from bale.compressors.importance import Importance
from bale.compressors.trellis.codec import Trellis
from bale.compressors.trellis.coordinate_descent import descend
from bale.compressors.trellis.scaled_tensor import ScaledTensor
from bale.compressors.trellis.viterbi import Code, Search, paths_of
from bale.spec import TensorSpec
from tests.compressors.trellis import reference


def inputs(n, seed=0, rank=None):
    """The use of a matrix whose inputs are mixtures of a few things."""
    rng = np.random.default_rng(seed)
    mixed = rng.normal(size=(rank or n, n)) * np.exp(rng.normal(size=n))
    covariance = (mixed.T @ mixed + 0.01 * np.eye(n)).astype(np.float32)
    return Importance(covariance.diagonal()[None].copy(), covariance)


def found(x, importance, states=8, step=0.5):
    spec = TensorSpec("F32", x.shape)
    tensor = ScaledTensor(x.reshape(-1), spec, balanced=False, importance=importance)
    search = Search(Code(states), paths_of(x.size))
    first = search.levels(x.reshape(-1), np.float32(step), tensor.weights(slice(0, x.size)))
    return tensor, search, first, descend(first, tensor, search, np.float32(step))


def output_error(levels, x, tensor, step=0.5):
    error = levels.reshape(x.shape) * step - x.astype(np.float64)
    return float(np.einsum("ij,jk,ik->", error, tensor.covariance.astype(np.float64), error))


@pytest.mark.parametrize("shape", [(40, 64), (37, 61), (5, 3), (1, 200), (300, 257), (700, 128)])
@pytest.mark.parametrize("rank", [None, 4])
def test_outputs_are_nearer_than_by_weights_alone(shape, rank):
    x = np.random.default_rng(sum(shape)).normal(size=shape).astype(np.float32)
    tensor, _, first, second = found(x, inputs(shape[1], rank=rank))
    before, after = output_error(first, x, tensor), output_error(second, x, tensor)
    assert after <= before * (1 + 1e-5)
    if x.size > 2000:
        assert after < 0.9 * before


@pytest.mark.parametrize("shape", [(40, 64), (37, 61), (300, 257)])
def test_levels_are_those_that_states_allow(shape):
    x = np.random.default_rng(1).normal(size=shape).astype(np.float32)
    _, search, _, levels = found(x, inputs(shape[1]))
    code = Code(8)
    block = 1024 * search.paths
    for start in range(0, x.size, block):
        for lane in range(search.paths):
            state = 0
            for level in levels[start : start + block][lane :: search.paths].tolist():
                assert level & 1 == state & 1
                state = int(code.follow[2 * state + ((level >> 1) & 1)])


def test_a_path_by_hand():
    # Two columns of one row lie on two paths, whose first levels are even: the search puts 0.5 at 0 in both. Inputs
    # that are nearly the same let their errors add up; so the first one moves to 2, as its target is 0.5 + 0.5.
    covariance = np.float32([[1, 0.99], [0.99, 1]])
    x = np.float32([[0.51, 0.51]])
    tensor, search, first, second = found(x, Importance(np.float32([[1, 1]]), covariance), step=1)
    assert search.paths == 8
    assert first.tolist() == [0, 0]
    assert second.tolist() == [2, 0]
    assert output_error(second, x, tensor, 1) < output_error(first, x, tensor, 1)


def test_one_path_is_searched_as_a_plain_encoder_does():
    rng = np.random.default_rng(5)
    values, weights = rng.normal(size=3000).astype(np.float32), rng.integers(1, 255, 3000)
    levels = Search(Code(8), 8).path(values, weights, np.float32(0.5))
    positions = np.rint(values * 256).astype(int).tolist()
    expected = [
        level
        for start in (0, 1024, 2048)
        for level in reference.path(positions[start:][:1024], weights.tolist()[start:][:1024], 8)
    ]
    assert levels.tolist() == expected


@pytest.mark.parametrize("balance", ["none", "column"])
@pytest.mark.parametrize("shape", [(64, 96), (1100, 256)])
def test_covariances_lower_the_error_of_outputs_at_the_same_size(shape, balance):
    x, spec = np.random.default_rng(2).normal(size=shape).astype(np.float32), TensorSpec("F32", shape)
    importance, codec = inputs(shape[1], rank=8), Trellis(bits=3.0, balance=balance)

    def coded(importance):
        parts = codec.encode(Values(spec, x, importance=importance))
        assert 2.97 * x.size / 8 <= parts["qdata"].array.size <= 3 * x.size / 8
        return codec.decode(parts, spec) - x.astype(np.float64)

    def outputs(error):
        return float(np.einsum("ij,jk,ik->", error, importance.covariance.astype(np.float64), error))

    plain, weighted, both = (outputs(coded(each)) for each in (None, Importance(importance.second_moment), importance))
    assert both < 0.8 * weighted < 0.8 * plain


@pytest.mark.parametrize(
    ("shape", "second", "size"),
    [((2, 4), (1, 4), 0), ((4, 4), (4, 1), 1), ((4, 2, 2), (1, 2, 1), 1), ((4, 1), (1, 1), 1), ((4,), (4,), 1)],
)
def test_what_says_nothing_of_rows_is_not_used(shape, second, size):
    x, n = np.ones(shape, np.float32), np.ones(second).size
    importance = Importance(np.ones(second, np.float32), size * np.eye(n, dtype=np.float32))
    assert (
        ScaledTensor(x.reshape(-1), TensorSpec("F32", shape), balanced=False, importance=importance).covariance is None
    )
