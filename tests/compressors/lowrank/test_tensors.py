"""Tucker and tensor train: what they share is held against both."""

import numpy as np
import pytest
from hypothesis import given as given_values
from hypothesis import settings
from hypothesis import strategies as st

from bale.compressors.base import Values
from bale.compressors.floats import from_float32, to_float32
from bale.compressors.lowrank.ranks import given, trimmed
from bale.compressors.lowrank.tt import Tt
from bale.compressors.lowrank.tucker import Tucker
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


def separable(*vectors):
    x = np.array(1.0)
    for vector in vectors:
        x = np.multiply.outer(x, np.asarray(vector, float))
    return x


def low_tucker(shape, ranks, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=ranks)
    for mode, (n, r) in enumerate(zip(shape, ranks, strict=True)):
        x = np.moveaxis(np.tensordot(np.linalg.qr(rng.normal(size=(n, r)))[0], x, (1, mode)), 0, mode)
    return x


def kernel(seed=0, shape=(24, 16, 3, 3)):
    """A kernel whose singular values fall in each dimension."""
    rng = np.random.default_rng(seed)
    return low_tucker(shape, tuple(min(n, 10) for n in shape), seed) + 0.02 * rng.normal(size=shape)


def test_a_separable_tensor_by_hand():
    """(2, 0) x (0, 3) x (1, 0) has one entry, 6: norm 6 in the core, unit vectors else."""
    x = separable([2, 0], [0, 3], [1, 0])
    error, parts = error_of(Tucker(rank=1), values_of(x))
    assert error == 0
    assert np.abs(parts["core"].array).tolist() == [[[6]]]
    assert [np.abs(parts[f"u{mode}"].array).tolist() for mode in range(3)] == [[[1], [0]], [[0], [1]], [[1], [0]]]
    error, parts = error_of(Tt(rank=1), values_of(x))
    assert error == 0
    assert np.abs(parts["g0"].array).tolist() == [[1], [0]]
    assert np.abs(parts["g1"].array).tolist() == [[[0], [1]]]
    assert np.abs(parts["g2"].array).tolist() == [[6, 0]]


@pytest.mark.parametrize("codec", [Tucker(rank=1), Tt(rank=1), Tucker(error=1e-5), Tt(error=1e-5), Tucker(ratio=0.2)])
def test_separable_tensors_come_back(codec):
    rng = np.random.default_rng(1)
    error, parts = error_of(codec, values_of(separable(*(rng.normal(size=n) for n in (9, 7, 5, 3)))))
    assert error < 1e-6
    if codec.ratio is None:
        assert sum(part.spec.elements for part in parts.values()) <= 25


def test_ranks_of_exact_tensors_are_found():
    x = low_tucker((12, 10, 6, 3), (4, 3, 2, 3))
    _, parts = error_of(Tucker(error=1e-4), values_of(x))
    assert parts["core"].spec.shape == (4, 3, 2, 3)
    assert "u3" not in parts  # of full rank
    rng = np.random.default_rng(3)
    train = np.einsum("ap,pbq,qcr,rd->abcd", *(rng.normal(size=s) for s in ((8, 3), (3, 7, 4), (4, 6, 2), (2, 5))))
    _, parts = error_of(Tt(error=1e-4), values_of(train))
    assert [parts[f"g{at}"].spec.shape for at in range(4)] == [(8, 3), (3, 7, 4), (4, 6, 2), (2, 5)]


@pytest.mark.parametrize("name", ["tucker", "tt"])
@pytest.mark.parametrize("dtype", ["F32", "BF16", "F16"])
@pytest.mark.parametrize("error", [0.5, 0.1, 0.03])
def test_error_holds_rounding_included(name, dtype, error):
    codec = Pipeline.parse(f"{name}:error={error}").stages[0]
    assert error_of(codec, values_of(kernel(), dtype))[0] <= error


@pytest.mark.parametrize("name", ["tucker", "tt"])
@pytest.mark.parametrize("ratio", [0.02, 0.1, 0.3, 0.7])
def test_no_more_parameters_than_asked(name, ratio):
    codec, x = Pipeline.parse(f"{name}:ratio={ratio}").stages[0], kernel(2)
    error, parts = error_of(codec, values_of(x))
    count = sum(part.spec.elements for part in parts.values())
    assert count <= ratio * x.size or all(1 in part.spec.shape for part in parts.values())
    assert count > 0.5 * ratio * x.size or (name, ratio) == ("tt", 0.1)
    assert error < 1


def test_iteration_improves_on_the_truncated_hosvd():
    x = np.random.default_rng(4).normal(size=(15, 14, 13)).astype(np.float32)
    us = [np.linalg.svd(np.moveaxis(x, mode, 0).reshape(x.shape[mode], -1))[0][:, :4] for mode in range(3)]
    core = np.einsum("abc,ai,bj,ck->ijk", x, *us)
    hosvd = np.sqrt((x**2).sum() - (core**2).sum()) / np.linalg.norm(x)
    assert error_of(Tucker(rank=4), values_of(x))[0] < hosvd * 0.995


@pytest.mark.parametrize("text", ["tucker:rank=1", "tucker:error=0.3", "tucker:ratio=0.4", "tt:rank=1", "tt:error=0.3"])
def test_adversarial(text):
    codec = Pipeline.parse(text).stages[0]
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
        "thin": rng.normal(size=(40, 1, 3)),
        "five": rng.normal(size=(3, 2, 4, 2, 3)),
    }.items():
        values = values_of(x)
        codec.validate(values.spec)
        error, parts = error_of(codec, values)
        assert np.isfinite(error), name
        assert error <= (codec.error or 1.01), name
        bounds = {bound.name: bound for bound in codec.parts(values.spec)}
        assert all(part.spec.nbytes <= bounds[key].spec.nbytes for key, part in parts.items()), name
        assert set(parts) >= {key for key, bound in bounds.items() if not bound.optional}, name


@settings(max_examples=60, deadline=None, derandomize=True)
@given_values(
    st.sampled_from(["svd", "tucker", "tt"]),
    st.lists(st.integers(1, 9), min_size=3, max_size=5),
    st.floats(0.001, 0.99),
    st.integers(0, 2**16),
    st.integers(-100, 100),
)
def test_any_error_holds_for_any_shape(name, shape, error, seed, exponent):
    x = np.random.default_rng(seed).standard_t(2, size=shape) * 2.0**exponent
    codec, values = Pipeline.parse(f"{name}:error={error}").stages[0], values_of(x)
    found, parts = error_of(codec, values)
    assert found <= error
    bounds = {bound.name: bound.spec.nbytes for bound in codec.parts(values.spec)}
    assert all(part.spec.nbytes <= bounds[key] for key, part in parts.items())


def test_halves_do_not_overflow():
    error, parts = error_of(Tucker(rank=2), values_of(np.full((40, 40, 40), 60000.0), "F16"))
    assert error < 1e-3
    assert np.abs(parts["core"].array).max() < 65504


@pytest.mark.parametrize(
    ("text", "shape", "reason"),
    [
        ("tucker:ranks=4-4-3", (8, 8, 3, 3), "ranks 4-4-3 are not up to 8-8-3-3"),
        ("tucker:ranks=9-4-3-3", (8, 8, 3, 3), "not up to"),
        ("tucker:ranks=8-8-3-3", (8, 8, 3, 3), "factors of ranks 8-8-3-3 take up to 2304 bytes"),
        ("tucker:ranks=8-8-3-3,force=true", (8, 8, 3, 3), None),
        ("tucker:rank=4", (8, 8, 3, 3), None),
        ("tucker:rank=4", (8, 8), "2 dimensions, tucker takes 3 and more"),
        ("tt:ranks=8-9-3", (8, 8, 3, 3), "factors of ranks 8-9-3 take"),
        ("tt:ranks=4-9-3", (8, 8, 3, 3), None),
        ("tt:ranks=4-9-4", (8, 8, 3, 3), "not up to 8-9-3"),
        ("tt:rank=100,force=true", (8, 8, 3, 3), None),
        ("tt:error=0.5", (8, 8, 3, 3), None),
    ],
)
def test_what_is_refused(text, shape, reason):
    pipeline = Pipeline.parse(text)
    assert str(pipeline) == text
    assert Pipeline.from_json(pipeline.to_json()) == pipeline
    if reason is None:
        pipeline.validate(TensorSpec("F32", shape))
    else:
        with pytest.raises(Refused, match=reason):
            pipeline.validate(TensorSpec("F32", shape))


@pytest.mark.parametrize("text", ["tucker", "tt:rank=2,error=0.1", "tucker:ranks=0-3", "tucker:ranks=3-", "tt:ranks=a"])
def test_settings_are_checked(text):
    with pytest.raises(UsageError, match=r"give one of|ranks=|given"):
        Pipeline.parse(text)


def test_parts_that_do_not_fit():
    values = values_of(kernel())
    for codec in (Tucker(rank=2), Tt(rank=2)):
        parts = codec.encode(values)
        with pytest.raises(ValueError, match="factors"):
            codec.decode(parts, TensorSpec("F32", (24, 16, 9)))
        for name, part in parts.items():
            for shape in ((), (1,), (*part.spec.shape, 1), tuple(n + 1 for n in part.spec.shape)):
                bad = Values(TensorSpec("F32", shape), np.ones(shape, np.float32))
                with pytest.raises(ValueError, match="factors"):
                    codec.decode(parts | {name: bad}, values.spec)


def test_a_quantizer_codes_every_part():
    for text in ("tucker:error=0.1+int8", "tt:error=0.1+int8"):
        pipeline, values = Pipeline.parse(text), values_of(kernel())
        leaves = pipeline.encode(values)
        assert all(name.endswith((".qdata", ".scale", ".zero")) for name in leaves)
        decoded = pipeline.decode(leaves, values.spec)
        assert np.linalg.norm(decoded - values.array) < 0.12 * np.linalg.norm(values.array)


def test_nan_is_refused():
    for codec in (Tucker(rank=1), Tt(rank=1)):
        with pytest.raises(Refused, match="NaN"):
            codec.encode(values_of(np.full((3, 3, 3), np.nan)))


def test_ranks_and_trimming_by_hand():
    assert given(3, None, (8, 2)) == (3, 2)
    assert given(None, "3-2", (8, 2)) == (3, 2)
    assert given(None, None, (8, 2)) is None
    core = np.diag([3.0, 2.0, 1.0]).astype(np.float32)
    assert trimmed(core, lambda ranks: sum(ranks), 1.0, 0) == (2, 2)
    assert trimmed(core, lambda ranks: sum(ranks), 0.5, 0) == (3, 3)
    assert trimmed(core, lambda ranks: sum(ranks), None, 2) == (1, 1)
