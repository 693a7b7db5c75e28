"""Low rank by statistics of inputs: which matrix they belong to, and that what comes out is off by less."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bale.compressors.base import Values
from bale.compressors.floats import from_float32, to_float32
from bale.compressors.importance import Importance
from bale.compressors.lowrank.svd import Svd
from bale.compressors.lowrank.truncated import truncated_svd
from bale.compressors.lowrank.whitening import DAMPING, Whitening
from bale.compressors.pipeline import Pipeline
from bale.spec import TensorSpec


def values_of(x, importance=None, dtype="F32"):
    spec = TensorSpec(dtype, x.shape)
    return Values(spec, from_float32(np.asarray(x, np.float32), spec), importance=importance)


def by_columns(second):
    return Importance(np.float32(second)[None])


def by_products(products):
    products = np.float32(products)
    return Importance(np.ascontiguousarray(np.diag(products))[None], products)


def decoded(codec, values):
    return to_float32(codec.decode(codec.encode(values), values.spec), values.spec).astype(np.float64)


def off(difference, products):
    """Mean square of what a matrix with these errors puts out."""
    return float(np.sum(difference @ products * difference))


def some_products(rng, n, samples):
    x = rng.normal(size=(samples, n)) * rng.lognormal(0, 1.5, n) + rng.normal(size=(samples, 1))
    return x.T @ x / samples


def test_what_is_multiplied_with_more_is_kept():
    """Of diag(3, 1) the 3 is larger; with mean squares of 1 and 100 the 1 counts 100 / 9 times as much."""
    x = np.diag([3.0, 1.0])
    assert decoded(Svd(rank=1), values_of(x)).tolist() == [[3, 0], [0, 0]]
    for importance in (by_columns([1, 100]), Importance(np.float32([[1], [100]])), by_products([[1, 0], [0, 100]])):
        assert np.allclose(decoded(Svd(rank=1), values_of(x, importance)), [[0, 0], [0, 1]], atol=1e-6)


def test_covariances_tell_what_mean_squares_do_not():
    """Inputs that are always equal only use the sum of two columns: (1, 1) is kept, not the larger (2, -2)."""
    x = np.array([[1.0, 1.0], [2.0, -2.0]])
    products = np.float32([[1, 1], [1, 1]])
    assert np.allclose(decoded(Svd(rank=1), values_of(x, by_columns([1, 1]))), [[0, 0], [2, -2]], atol=1e-5)
    assert np.allclose(decoded(Svd(rank=1), values_of(x, by_products(products))), [[1, 1], [0, 0]], atol=1e-5)


def test_a_covariance_of_rank_one_leaves_other_ranks_to_the_plain_error():
    rng = np.random.default_rng(0)
    x, direction = rng.normal(size=(12, 8)), rng.normal(size=8)
    found = decoded(Svd(rank=4), values_of(x, by_products(np.outer(direction, direction))))
    assert np.allclose(found @ direction, x @ direction, atol=0.05 * np.linalg.norm(x @ direction))
    rest = np.linalg.svd(x - np.outer(x @ direction, direction) / (direction @ direction))[1]
    assert np.linalg.norm(found - x) < 1.1 * np.linalg.norm(rest[3:])


@pytest.mark.parametrize("shape", [(20, 9), (9, 20), (12, 12)])
@pytest.mark.parametrize("dtype", ["F32", "BF16"])
def test_all_ranks_are_exact(shape, dtype):
    rng = np.random.default_rng(1)
    x = rng.normal(size=shape)
    second = np.where(np.arange(shape[1]) % 3, rng.lognormal(0, 4, shape[1]), 0)
    for importance in (
        by_columns(second),
        by_products(some_products(rng, shape[1], 3)),
        Importance(np.float32(x[:, :1] ** 2)),
    ):
        values = values_of(x, importance, dtype)
        x = to_float32(values.array, values.spec)
        found = decoded(Svd(rank=min(shape)), values)
        assert np.linalg.norm(found - x) < (1e-5 if dtype == "F32" else 0.02) * np.linalg.norm(x)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.integers(2, 20), st.integers(2, 20), st.integers(0, 2**16), st.booleans(), st.floats(0.1, 0.9))
def test_what_comes_out_is_off_by_no_more(m, n, seed, full, ratio):
    rng = np.random.default_rng(seed)
    x, products = rng.standard_t(3, size=(m, n)), some_products(rng, n, int(rng.integers(1, 40)))
    if not full:
        products = np.diag(np.diag(products))
    importance = by_products(products) if full else by_columns(np.diag(products))
    x, products = x.astype(np.float32).astype(np.float64), products.astype(np.float32)
    plain, weighted = (off(decoded(Svd(ratio=ratio), values_of(x, each)) - x, products) for each in (None, importance))
    assert weighted <= plain * (1 + 1e-3) + 1e-9 * off(x, products)
    turned = importance.transposed((1, 0))
    rows = off(decoded(Svd(ratio=ratio), values_of(x.T, turned)).T - x, products)
    assert rows <= weighted * (1 + 1e-3) + 1e-9 * off(x, products)


def test_it_is_the_least_damped_error():
    """Against the truncated singular values of W L, computed in float64."""
    rng = np.random.default_rng(2)
    x, products = rng.normal(size=(30, 20)), some_products(rng, 20, 50)
    damped = products + DAMPING * np.trace(products) / 20 * np.eye(20)
    tails = np.linalg.svd(x @ np.linalg.cholesky(damped))[1][7:]
    found = decoded(Svd(rank=7), values_of(x, by_products(products)))
    assert off(found - x, damped) == pytest.approx(np.square(tails).sum(), rel=1e-4)


@pytest.mark.parametrize("dtype", ["F32", "F16", "BF16"])
@pytest.mark.parametrize("error", [0.6, 0.2, 0.02])
def test_bounds_are_on_the_plain_error(error, dtype):
    rng = np.random.default_rng(3)
    x, importance = rng.normal(size=(50, 40)), by_products(some_products(rng, 40, 100))
    for codec in (Svd(error=error), Svd(energy=1 - error**2)):
        values = values_of(x, importance, dtype)
        plain = to_float32(values.array, values.spec)
        assert np.linalg.norm(decoded(codec, values) - plain) <= error * np.linalg.norm(plain) * (1 + 1e-9)
    ranks = [Svd(error=error).encode(values_of(x, each))["u"].spec.shape[1] for each in (None, importance)]
    assert ranks[0] <= ranks[1]


def test_bounds_hold_where_sketches_are_used():
    rng = np.random.default_rng(4)
    x = rng.normal(size=(1100, 30)) @ rng.normal(size=(30, 1040)) + 0.1 * rng.normal(size=(1100, 1040))
    importance = by_columns(rng.lognormal(0, 2, 1040))
    found = decoded(Svd(error=0.1), values_of(x, importance))
    assert np.linalg.norm(found - x) <= 0.1 * np.linalg.norm(x)


def test_tails_are_plain_errors():
    rng = np.random.default_rng(5)
    x = rng.normal(size=(30, 20)).astype(np.float32)
    whitening = Whitening(some_products(rng, 20, 30), True)
    for rank in (8, 20):
        found = truncated_svd(x, rank, whitening)
        for r, tail in enumerate(found.tails):
            error2 = np.square(x - (found.u[:, :r] * found.s[:r]) @ found.vh[:r]).sum()
            assert tail == pytest.approx(error2, rel=1e-4, abs=1e-4)
    assert (found.u.max(axis=0) >= -found.u.min(axis=0)).all()


@pytest.mark.parametrize(
    "importance", [None, by_columns([0, 0, 0, 0]), Importance(np.float32([[5]])), Importance(np.ones((1, 1), "f4"))]
)
def test_without_statistics_or_with_equal_ones_nothing_changes(importance):
    x = np.random.default_rng(6).normal(size=(6, 4))
    plain, found = (Svd(rank=2).encode(values_of(x, each)) for each in (None, importance))
    for name, part in found.items():
        assert part.array.tobytes() == plain[name].array.tobytes()
        assert part.importance is None


def test_the_size_of_statistics_does_not_matter():
    rng = np.random.default_rng(7)
    x, second = rng.normal(size=(6, 4)), rng.random(4)
    parts = [Svd(rank=2).encode(values_of(x, by_columns(second * scale))) for scale in (1, 2.0**-100, 2.0**100)]
    assert len({part["u"].array.tobytes() + part["vh"].array.tobytes() for part in parts}) == 1
    assert all(np.isfinite(part.importance.second_moment).all() for each in parts for part in each.values())


def test_which_matrix_inputs_belong_to():
    """A kernel with inputs i, h, w: unfold=in has i as rows, unfold=spatial (o h) x (i w)."""
    second = np.arange(1, 13, dtype=np.float32).reshape(1, 2, 2, 3)
    covariance = np.arange(144, dtype=np.float32).reshape(12, 12)
    shape, importance = (5, 2, 2, 3), Importance(second, covariance)
    assert Svd(rank=1).whitening(importance, shape).moments.tolist() == covariance.tolist()
    found = Svd(rank=1, unfold="in").whitening(importance, shape)
    assert found.columns
    assert found.moments.tolist() == np.tile(second.reshape(2, 6).mean(axis=0), 5).tolist()
    found = Svd(rank=1, unfold="spatial").whitening(importance, shape)
    blocks = covariance.reshape(2, 2, 3, 2, 2, 3)
    expected = sum(blocks[:, h, :, :, h, :] for h in range(2)).reshape(6, 6) / 2
    assert found.columns
    assert found.moments.tolist() == expected.tolist()
    channels = Importance(np.float32([1, 2]).reshape(1, 2, 1, 1), np.ones((2, 2), np.float32))
    assert Svd(rank=1).whitening(channels, shape).moments.tolist() == [1] * 6 + [2] * 6
    found = Svd(rank=1, unfold="in").whitening(channels, shape)
    assert not found.columns
    assert found.moments.tolist() == [[1, 1], [1, 1]]


def unit_of(second):
    """The power of two that brings the largest of them to between a half and 1."""
    return 2.0 ** -np.frexp(second.max())[1]


def test_how_factors_are_used():
    """u gets ``V x``; errors of a row of vh count as much as the column of u that it meets."""
    x, products = np.diag([4.0, 1.0]), np.float32([[1, 0.5], [0.5, 9]])
    parts = Svd(rank=2).encode(values_of(x, by_products(products)))
    u, vh = (to_float32(part.array, part.spec) for part in parts.values())
    passed = vh @ products @ vh.T
    unit = unit_of(np.diag(passed))
    assert np.allclose(parts["u"].importance.covariance, unit * passed)
    assert np.allclose(parts["u"].importance.second_moment, unit * np.diag(passed)[None])
    second = np.outer((u**2).sum(axis=0), [1, 9])
    assert np.allclose(parts["vh"].importance.second_moment, unit_of(second) * second)
    turned = Svd(rank=2).encode(values_of(x.T, by_products(products).transposed((1, 0))))
    u, vh = (to_float32(part.array, part.spec) for part in turned.values())
    passed = u.T @ products @ u
    assert np.allclose(turned["vh"].importance.covariance, unit_of(np.diag(passed)) * passed)
    assert turned["vh"].importance.second_moment.shape == (2, 1)
    second = np.outer([1, 9], (vh**2).sum(axis=1))
    assert np.allclose(turned["u"].importance.second_moment, unit_of(second) * second)


def test_errors_of_parts_count_as_their_use_says():
    """The sum of weighted squared errors of a factor is what comes out of the whole, but for a unit."""
    rng = np.random.default_rng(8)
    x, products = rng.normal(size=(9, 7)), some_products(rng, 7, 30)
    products = np.diag(np.diag(products))
    parts = Svd(rank=7).encode(values_of(x, by_columns(np.diag(products))))
    u, vh = (to_float32(part.array, part.spec).astype(np.float64) for part in parts.values())
    units = []
    for name, put_out in (
        ("vh", lambda change: off(u @ change, products)),
        ("u", lambda change: off(change @ vh, products)),
    ):
        for _ in range(3):
            change = rng.normal(size=parts[name].spec.shape)
            if name == "u":  # of which the errors of one column alone add up
                change[:, 1:] = 0
            units.append(np.sum(parts[name].importance.second_moment * change**2) / put_out(change))
            assert np.log2(units[-1]) == pytest.approx(np.rint(np.log2(units[-1])), abs=2e-3)
    assert len(set(np.rint(np.log2(units[:3])))) == len(set(np.rint(np.log2(units[3:])))) == 1


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("size", [1e-30, 1, 1e30])
def test_uses_of_factors_are_finite_whatever_the_size_of_values(size):
    rng = np.random.default_rng(10)
    x, products = size * rng.normal(size=(60, 40)), some_products(rng, 40, 9)
    for part in Svd(rank=6).encode(values_of(x, by_products(products))).values():
        assert 0.5 <= part.importance.second_moment.max() < 1
        assert np.isfinite(part.importance.covariance if part.importance.covariance is not None else 0).all()
    Pipeline.parse("svd:rank=6+trellis:bits=5").encode(values_of(x, by_products(products)))


def test_layers_and_quantizers_behind_take_statistics():
    rng = np.random.default_rng(9)
    x, importance = rng.normal(size=(40, 30)), by_products(some_products(rng, 30, 60))
    for text in ("svd:rank=8+int:clip=mse,bits=4", "svd:rank=auto+int8/int:bits=3", "svd:rank=4+int8/int:bits=3"):
        pipeline, values = Pipeline.parse(text), values_of(x, importance)
        leaves = pipeline.encode(values)
        assert np.isfinite(pipeline.decode(leaves, values.spec)).all()
    assert (
        pipeline.encode(values)["vh.qdata"].array.tobytes() != pipeline.encode(values_of(x))["vh.qdata"].array.tobytes()
    )
