import numpy as np
import pytest

from bale.compressors.base import Values
from bale.compressors.floats import from_float32, to_float32
from bale.compressors.lowrank.svd import Svd
from bale.compressors.pipeline import Pipeline
from bale.errors import Refused, UsageError
from bale.spec import TensorSpec
from bale.testing.tensors import LOSSY_DTYPES, adversarial


def low_rank(m, n, values, seed=0):
    rng = np.random.default_rng(seed)
    left, _ = np.linalg.qr(rng.normal(size=(m, len(values))))
    right, _ = np.linalg.qr(rng.normal(size=(n, len(values))))
    return ((left * values) @ right.T).astype(np.float32)


def values_of(x, dtype="F32"):
    spec = TensorSpec(dtype, x.shape)
    return Values(spec, from_float32(x, spec))


def relative_error(codec, values):
    decoded = codec.decode(codec.encode(values), values.spec)
    x = to_float32(values.array, values.spec).astype(np.float64)
    return np.linalg.norm(to_float32(decoded, values.spec) - x) / np.linalg.norm(x)


def test_by_hand():
    """diag(4, 1) has the factors diag(2, 1) and diag(2, 1); signs go to the right-hand factor."""
    parts = Svd(rank=2).encode(values_of(np.array([[-4, 0], [0, 1]], np.float32)))
    assert parts["u"].array.tolist() == [[2, 0], [0, 1]]
    assert parts["vh"].array.tolist() == [[-2, 0], [0, 1]]
    assert Svd(rank=2).decode(parts, TensorSpec("F32", (2, 2))).tolist() == [[-4, 0], [0, 1]]
    assert Svd(rank=1).encode(values_of(np.diag([4.0, 1.0]).astype(np.float32)))["u"].array.tolist() == [[2], [0]]


def test_largest_entry_of_each_left_vector_is_positive():
    u = Svd(rank=10).encode(values_of(low_rank(30, 20, np.arange(20, 0, -1.0))))["u"].array
    assert (u[np.abs(u).argmax(axis=0), np.arange(10)] > 0).all()


@pytest.mark.parametrize(
    ("codec", "rank"),
    [
        (Svd(rank=3), 3),
        (Svd(energy=0.9), 2),  # 16 + 4 of 21.25; 21 is 98.8 %
        (Svd(energy=0.7), 1),
        (Svd(energy=0.98), 3),
        (Svd(error=0.25), 2),  # the square root of 1.25 / 21.25 is 0.2425
        (Svd(error=0.24), 3),
        (Svd(error=1.0), 1),
        (Svd(ratio=0.25), 3),  # 0.25 * 1200 / 70 = 4.28, with 40 x 20: 0.25 * 800 / 60 = 3.33
        (Svd(ratio=0.0), 1),
    ],
)
def test_rank(codec, rank):
    values = values_of(low_rank(40, 20, [4.0, 2.0, 1.0, 0.5]))
    parts = codec.encode(values)
    assert parts["u"].spec == TensorSpec("F32", (40, rank))
    assert parts["vh"].spec == TensorSpec("F32", (rank, 20))


def test_more_dimensions_are_rows_and_the_rest():
    x = low_rank(12, 30, [3.0, 2.0]).reshape(12, 5, 6)
    codec = Svd(rank=2)
    decoded = codec.decode(codec.encode(values_of(x)), TensorSpec("F32", x.shape))
    assert decoded.shape == x.shape
    assert np.abs(decoded - x).max() < 1e-6


@pytest.mark.parametrize("dtype", LOSSY_DTYPES)
def test_dtype_of_factors(dtype):
    parts = Svd(rank=2).encode(values_of(low_rank(9, 8, [3.0, 2.0, 1.0]), dtype))
    expected = dtype if dtype in ("F16", "BF16") else "F32"
    assert {part.spec.dtype for part in parts.values()} == {expected}
    assert all(part.array.dtype == part.spec.storage for part in parts.values())


@pytest.mark.parametrize("dtype", ["F32", "BF16", "F16", "F64"])
@pytest.mark.parametrize("error", [0.5, 0.1, 0.02])
def test_error_holds_whatever_the_rounding(dtype, error):
    values = values_of(np.random.default_rng(1).normal(size=(50, 40)).astype(np.float32), dtype)
    assert relative_error(Svd(error=error), values) <= error
    assert relative_error(Svd(energy=1 - error**2), values) <= error * (1 + 1e-9)


def test_rank_is_raised_when_rounding_breaks_the_bound():
    x = low_rank(60, 60, np.concatenate([np.full(30, 1.0), np.full(30, 0.004)]))
    tail = np.sqrt(30 * 0.004**2 / (30 + 30 * 0.004**2))
    values = values_of(x, "BF16")
    codec = Svd(error=float(tail) * 1.02)
    assert codec.encode(values)["u"].spec.shape[1] > 30
    assert relative_error(codec, values) <= codec.error


def test_bound_below_rounding_is_refused():
    with pytest.raises(Refused, match="rounding alone"):
        Svd(error=1e-4).encode(values_of(np.random.default_rng(1).normal(size=(50, 40)).astype(np.float32), "BF16"))


@pytest.mark.parametrize("codec", [Svd(rank=1), Svd(error=0.3), Svd(ratio=0.5)])
def test_adversarial(codec):
    for seed in range(6):
        for name, x in adversarial(seed).items():
            if name == "mixed scales" and codec.error:
                continue  # covered by its relative error, which is all that is promised
            values = values_of(x)
            codec.validate(values.spec)
            decoded = codec.decode(codec.encode(values), values.spec)
            assert np.isfinite(decoded).all(), name
            if codec.error and x.any():
                big = np.abs(x).max()
                error = np.linalg.norm((decoded.astype(np.float64) - x) / big) / np.linalg.norm(
                    x.astype(np.float64) / big
                )
                assert error <= codec.error, name


def test_decoding_is_exact_arithmetic(monkeypatch):
    x = np.random.default_rng(2).normal(size=(90, 70)).astype(np.float32)
    parts = Svd(rank=20).encode(values_of(x))
    decoded = Svd(rank=20).decode(parts, TensorSpec("F32", x.shape))
    monkeypatch.setattr("bale.compressors.lowrank.matmul._BLOCK", 64)
    assert Svd(rank=20).decode(parts, TensorSpec("F32", x.shape)).tobytes() == decoded.tobytes()


def test_unfolded_by_hand():
    """Kernel entries x[o, i, h, w]: the matrices of `unfold` have rank 1 where it says so."""
    rng = np.random.default_rng(5)
    a, b = rng.normal(size=(4, 3)), rng.normal(size=(5, 2))
    spatial = np.einsum("oh,iw->oihw", a, b).astype(np.float32)
    second = np.einsum("i,ohw->oihw", b[:, 0], rng.normal(size=(4, 3, 2))).astype(np.float32)
    for unfold, x, shapes in (("spatial", spatial, [(12, 1), (1, 10)]), ("in", second, [(5, 1), (1, 24)])):
        codec = Svd(rank=1, unfold=unfold)
        parts = codec.encode(values_of(x))
        assert [part.spec.shape for part in parts.values()] == shapes
        assert np.abs(codec.decode(parts, TensorSpec("F32", x.shape)) - x).max() < 1e-5
    with pytest.raises(Refused, match="takes 4"):
        Svd(rank=1, unfold="spatial").validate(TensorSpec("F32", (3, 4, 5)))


@pytest.mark.parametrize("error", [0.05, 0.8, 0.97])
def test_error_holds_where_sketches_are_used(error):
    rng = np.random.default_rng(6)
    x = low_rank(1100, 1040, 0.95 ** np.arange(300.0)) + 0.002 * rng.normal(size=(1100, 1040)).astype(np.float32)
    assert relative_error(Svd(error=error), values_of(x)) <= error


@pytest.mark.parametrize(
    ("text", "dtype", "shape", "reason"),
    [
        ("svd:rank=200", "F32", (384, 384), "factors of rank 200 take up to 614400 bytes"),
        ("svd:rank=192", "F32", (384, 384), "factors of rank 192"),
        ("svd:ratio=1.0", "F32", (384, 384), "factors of rank 192"),
        ("svd:rank=191", "F32", (384, 384), None),
        ("svd:rank=200,force=true", "F32", (384, 384), None),
        ("svd:rank=64", "F8_E4M3", (384, 384), "factors of rank 64"),
        ("svd:rank=150+int8", "BF16", (384, 384), None),
        ("svd:rank=150", "BF16", (384, 384), None),
        ("svd:rank=380+int8", "BF16", (384, 384), "factors of rank 380"),
        ("svd:rank=300+int8", "F32", (384, 384), None),
        ("svd:rank=385,force=true", "F32", (384, 384), "rank 385 is more"),
        ("svd:error=0.1", "F32", (384, 384), None),
        ("svd:rank=1", "F32", (384,), "1 dimensions"),
        ("svd:rank=1", "F32", (0, 5), "no elements"),
        ("svd:rank=1", "I32", (30, 30), "not floating point"),
        ("svd:rank=1", "F4", (30, 30), "quantized already"),
    ],
)
def test_what_is_refused(text, dtype, shape, reason):
    pipeline, spec = Pipeline.parse(text), TensorSpec(dtype, shape)
    if reason is None:
        pipeline.validate(spec)
    else:
        with pytest.raises(Refused, match=reason):
            pipeline.validate(spec)


@pytest.mark.parametrize("given", [{}, {"rank": 2, "error": 0.1}, {"rank": 0}, {"energy": 1.5}, {"rank": 2.0}])
def test_settings_are_checked(given):
    with pytest.raises(UsageError, match="svd: "):
        Svd(**given)


def test_factors_that_do_not_fit():
    values = values_of(np.ones((6, 5), np.float32))
    parts = Svd(rank=1).encode(values)
    for spec in (TensorSpec("F32", (5, 6)), TensorSpec("F32", (6, 6))):
        with pytest.raises(ValueError, match="factors"):
            Svd(rank=1).decode(parts, spec)
    with pytest.raises(Refused, match="NaN"):
        Svd(rank=1).encode(values_of(np.full((3, 3), np.nan, np.float32)))
