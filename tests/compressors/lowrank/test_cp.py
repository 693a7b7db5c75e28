import numpy as np
import pytest

from bale.compressors.base import Values
from bale.compressors.floats import from_float32, to_float32
from bale.compressors.lowrank import cp
from bale.compressors.lowrank.cp import Cp
from bale.compressors.pipeline import Pipeline
from bale.errors import Refused, UsageError
from bale.spec import TensorSpec
from bale.testing.tensors import LARGEST


def values_of(x, dtype="F32"):
    spec = TensorSpec(dtype, x.shape)
    return Values(spec, from_float32(np.asarray(x, np.float32), spec))


def error_of(codec, values):
    parts = codec.encode(values)
    decoded = to_float32(codec.decode(parts, values.spec), values.spec)
    x = to_float32(values.array, values.spec).astype(np.float64)
    scale = np.abs(x).max() or 1.0
    return np.linalg.norm((decoded - x) / scale) / (np.linalg.norm(x / scale) or 1.0), parts


def sum_of(rank, *shape, seed=0):
    rng = np.random.default_rng(seed)
    factors = [rng.normal(size=(n, rank)) for n in shape]
    letters = "abcde"[: len(shape)]
    return np.einsum(f"{','.join(f'{letter}r' for letter in letters)}->{letters}", *factors)


def test_one_term_by_hand():
    """8 in one place: each of three factors gets the cube root, 2; rows are products of rows."""
    x = np.zeros((2, 3, 2), np.float32)
    x[0, 1, 0] = 8
    error, parts = error_of(Cp(rank=1), values_of(x))
    assert error < 1e-6
    found = [np.abs(parts[f"a{mode}"].array).round(4).tolist() for mode in range(3)]
    assert found == [[[2], [0]], [[0], [2], [0]], [[2], [0]]]
    rows = cp._row_products([np.array([[1, 2], [3, 4]]), np.array([[5, 6], [7, 8]])])
    assert rows.tolist() == [[5, 12], [7, 16], [15, 24], [21, 32]]


@pytest.mark.parametrize("shape", [(9, 8, 7), (8, 6, 3, 3), (5, 4, 3, 3, 2)])
@pytest.mark.parametrize("rank", [1, 3])
def test_sums_of_few_terms_come_back(shape, rank):
    error, _ = error_of(Cp(rank=rank, starts=4), values_of(sum_of(rank, *shape)))
    assert error < 0.05


def test_blocks_do_not_matter(monkeypatch):
    values = values_of(sum_of(3, 9, 8, 7, 3))
    parts = Cp(rank=4).encode(values)
    decoded = Cp(rank=4).decode(parts, values.spec)
    expected = np.einsum("ar,br,cr,dr->abcd", *(part.array.astype(np.float64) for part in parts.values()))
    assert np.abs(decoded - expected).max() < 1e-4 * np.abs(expected).max()
    monkeypatch.setattr(cp, "_BLOCK", 1)
    assert Cp(rank=4).decode(parts, values.spec).tobytes() == decoded.tobytes()


@pytest.mark.parametrize("dtype", ["F32", "BF16"])
def test_error_holds_or_is_refused(dtype):
    x = sum_of(3, 12, 10, 6) + 0.05 * np.random.default_rng(1).normal(size=(12, 10, 6))
    for error in (0.6, 0.2):
        assert error_of(Cp(error=error), values_of(x, dtype))[0] <= error
    with pytest.raises(Refused, match="relative error of"):
        Cp(error=1e-3).encode(values_of(x, dtype))


def test_more_starts_are_never_worse():
    values = values_of(np.random.default_rng(2).normal(size=(8, 7, 6)))
    errors = [error_of(Cp(rank=4, starts=starts), values)[0] for starts in (1, 2, 5)]
    assert errors == sorted(errors, reverse=True)


def test_adversarial():
    rng = np.random.default_rng(5)
    plain = rng.normal(size=(6, 5, 4)).astype(np.float32)
    outlier, rows = plain.copy(), plain.copy()
    outlier.flat[7], rows[::2] = 1e30, 0
    for name, x in {
        "all equal": np.full(plain.shape, 3.0),
        "outlier": outlier,
        "zero rows": rows,
        "zeros": np.zeros(plain.shape),
        "subnormal": plain * 2.0**-140,
        "largest": np.where(plain > 0, LARGEST, -LARGEST),
        "ones": np.ones((1, 1, 1)),
    }.items():
        assert error_of(Cp(rank=2), values_of(x))[0] <= 1.01, name
    with pytest.raises(Refused, match="NaN"):
        Cp(rank=1).encode(values_of(np.full((3, 3, 3), np.nan)))


def test_what_is_refused():
    with pytest.raises(Refused, match="factors of rank 40 take up to"):
        Pipeline.parse("cp:rank=40").validate(TensorSpec("F32", (8, 8, 3, 3)))
    with pytest.raises(Refused, match="rank 600 is more"):
        Pipeline.parse("cp:rank=600").validate(TensorSpec("F32", (8, 8, 3, 3)))
    Pipeline.parse("cp:ratio=0.5+int8").validate(TensorSpec("F32", (8, 8, 3, 3)))
    with pytest.raises(UsageError, match="cp: nothing given"):
        Cp()
    parts = Cp(rank=1).encode(values_of(np.ones((4, 3, 2))))
    bad = Values(TensorSpec("F32", (3, 2)), np.ones((3, 2), np.float32))
    for wrong, shape in ((parts, (3, 4, 2)), (parts | {"a1": bad}, (4, 3, 2))):
        with pytest.raises(ValueError, match="factors"):
            Cp(rank=1).decode(wrong, TensorSpec("F32", shape))
