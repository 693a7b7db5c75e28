"""Sizes and errors that the codec meets."""

import numpy as np
import pytest

from bale.compressors.base import Values
from bale.compressors.chunks import encode_chunk
from bale.compressors.floats import from_float32, to_float32
from bale.compressors.importance import Importance
from bale.compressors.pipeline import Pipeline
from bale.compressors.quantizers.linear import Int
from bale.compressors.trellis.codec import Trellis
from bale.errors import Refused, UsageError
from bale.spec import TensorSpec
from bale.testing.tensors import LARGEST, ROUNDING, adversarial


def run(stage, array, dtype="F32"):
    """Bits a weight and relative error."""
    spec = TensorSpec(dtype, array.shape)
    bits = from_float32(array.astype(np.float32), spec)
    parts = stage.encode(Values(spec, bits))
    decoded = stage.decode(parts, spec)
    assert decoded.dtype == spec.storage
    assert decoded.shape == array.shape
    x, y = (to_float32(each, spec).astype(np.float64) for each in (bits, decoded))
    norm = np.linalg.norm(x)
    return 8 * parts["qdata"].array.size / array.size, np.linalg.norm(x - y) / norm if norm else np.abs(y).max()


def snr(error):
    return -20 * np.log10(error)


@pytest.fixture(scope="module")
def gaussian():
    return np.random.default_rng(0).normal(size=(1024, 1024)).astype(np.float32)


@pytest.mark.parametrize(("effort", "gap"), [("fast", 0.5), ("high", 0.38), ("max", 0.27)])
@pytest.mark.parametrize("bits", [2, 4])
def test_how_near_to_shannons_bound(gaussian, effort, gap, bits):
    found, error = run(Trellis(bits=bits, effort=effort), gaussian)
    assert 0.995 * bits <= found <= bits
    assert 6.0206 * found - snr(error) < gap


@pytest.mark.parametrize("bits", [0.5, 1, 2.7, 6, 9.5, 13])
def test_bits_are_met(gaussian, bits):
    found, error = run(Trellis(bits=bits), gaussian)
    assert 0.995 * bits <= found <= bits
    assert 6.0206 * found - snr(error) < 0.6


@pytest.mark.parametrize("dtype", ["F32", "BF16", "F16"])
@pytest.mark.parametrize("error", [0.5, 0.1, 0.02])
def test_errors_are_met(gaussian, dtype, error):
    found = run(Trellis(error=error), gaussian[:300], dtype)[1]
    assert 0.99 * error <= found <= error
    assert run(Trellis(snr=snr(error)), gaussian[:300], dtype)[1] == pytest.approx(found, rel=0.01)


def test_a_step_is_taken_as_it_is(gaussian):
    spec = TensorSpec("F32", (4, 1024))
    parts = Trellis(step=0.5).encode(Values(spec, gaussian[:4]))
    decoded = Trellis(step=0.5).decode(parts, spec)
    large = np.abs(decoded) > 3.3  # beyond the centroids
    assert large.any()
    assert (decoded[large] % 0.5 == 0).all()


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("stage", [Trellis(error=0.1), Trellis(snr=50, balance="column"), Trellis(bits=4)], ids=str)
def test_hostile_tensors(seed, stage):
    for array in adversarial(seed).values():
        spec = TensorSpec("F32", array.shape)
        try:
            stage.validate(spec)
        except Refused:
            assert stage.bits is not None
            assert array.size < 128
            continue
        bits, error = run(stage, array)
        if stage.bits is not None:
            assert bits <= 4
        else:
            assert error <= (stage.error or 10**-2.5)


@pytest.mark.parametrize("value", [0, 1, -3.5, 1e-45, LARGEST])
@pytest.mark.parametrize("shape", [(), (1,), (5,), (70, 70)])
def test_constants_come_back(value, shape):
    bits, error = run(Trellis(error=0.001), np.full(shape, value))
    assert error <= 0.001
    assert bits * max(1, np.prod(shape)) < 8 * 24


def test_what_is_not_finite_is_refused():
    for value in (np.nan, np.inf):
        array = np.zeros(5000, np.float32)
        array[4321] = value
        with pytest.raises(Refused, match="NaN"):
            run(Trellis(), array)


def test_what_cannot_be_met_is_refused():
    with pytest.raises(Refused, match="64 at least"):
        Trellis(bits=4).validate(TensorSpec("F32", (100,)))
    noise = np.random.default_rng(0).normal(size=5000)
    with pytest.raises(Refused, match="no stream"):
        run(Trellis(error=1e-7), noise)
    with pytest.raises(UsageError, match="bits and error given"):
        Trellis(bits=3, error=0.1)
    with pytest.raises(UsageError, match="last transform"):
        Pipeline.parse("trellis+int8")


def test_four_bits_are_the_default():
    assert Trellis() == Trellis(bits=4)
    assert str(Pipeline.parse("trellis")) == str(Pipeline.parse("trellis:bits=4.0")) == "trellis:bits=4"


def test_rows_and_columns_of_their_own_scale_cost_nothing():
    rng = np.random.default_rng(1)
    scales = 2.0 ** rng.normal(size=(2, 512))
    scaled = rng.normal(size=(512, 512)) * scales[0][:, None] * scales[1]
    error = run(Trellis(), scaled)[1]
    geometric = np.exp(np.log(np.outer(*scales)).mean()) / np.sqrt(np.mean(np.outer(*scales) ** 2))
    assert snr(error) > 6.02 * 4 - 20 * np.log10(geometric) - 1.1


def test_sparse_tensors_are_coded_without_a_trellis():
    rng = np.random.default_rng(2)
    sparse = rng.normal(size=100_000) * (rng.random(100_000) < 0.1)
    assert snr(run(Trellis(bits=1), sparse)[1]) > 31


def test_balance_weighs_columns_alike():
    rng = np.random.default_rng(3)
    scales = 2.0 ** np.arange(-4, 4).repeat(32)
    array = (rng.normal(size=(512, 256)) * scales).astype(np.float32)
    spec = TensorSpec("F32", array.shape)
    spread = []
    for balance in ("none", "column"):
        stage = Trellis(balance=balance)
        decoded = stage.decode(stage.encode(Values(spec, array)), spec)
        errors = np.linalg.norm(array - decoded, axis=0)
        spread.append(np.log2(errors[-32:].mean() / errors[:32].mean()))
    assert abs(spread[0]) < 1.6  # small columns are partly zeroed
    assert spread[1] == pytest.approx(3.5, abs=0.3)  # the square root of 2^7


@pytest.mark.parametrize("count", [600, 1000, 4096, 30_000])
def test_not_larger_than_int_of_the_same_error(count):
    values = np.random.default_rng(count).normal(size=(count // 8, 8)).astype(np.float32)
    spec = TensorSpec("F32", values.shape)
    coder = Int(bits=4, group=64)
    parts = coder.encode(Values(spec, values))
    flat = [
        Values(TensorSpec(each.spec.dtype, (each.spec.elements,)), each.array.reshape(-1), each.bits)
        for each in parts.values()
    ]
    size = sum(len(encode_chunk(each, compiled=True)[1]) for each in flat)
    error = np.linalg.norm(values - coder.decode(parts, spec)) / np.linalg.norm(values)
    assert run(Trellis(error=float(error)), values)[0] * count / 8 <= size


@pytest.mark.parametrize("dtype", ["F64", "F8_E4M3", "BF16"])
def test_errors_hold_after_rounding(dtype):
    array = np.random.default_rng(5).normal(size=(64, 100)) * 3
    error = 0.05
    assert run(Trellis(error=error), array, dtype)[1] <= error + (ROUNDING[dtype][0] if dtype == "F64" else 0)


@pytest.mark.parametrize("shape", [(3, 5, 7, 11, 13), (15015,), (1, 15015), (15015, 1), (65, 231)])
def test_shapes(shape):
    array = np.random.default_rng(6).normal(size=shape)
    assert run(Trellis(bits=3), array)[0] <= 3
    assert run(Trellis(error=0.1, balance="column"), array)[1] <= 0.1


@pytest.mark.parametrize("balance", ["none", "column"])
@pytest.mark.parametrize("shape", [(64, 96), (600, 512)])
def test_statistics_lower_the_error_that_they_weigh_at_the_same_size(shape, balance):
    rng = np.random.default_rng(7)
    x = rng.normal(size=shape).astype(np.float32)
    second = np.exp(2 * rng.normal(size=(1, shape[1]))).astype(np.float32)
    codec, spec = Trellis(bits=3.0, balance=balance), TensorSpec("F32", shape)

    def coded(importance):
        parts = codec.encode(Values(spec, x, importance=importance))
        difference = (codec.decode(parts, spec) - x).astype(np.float64)
        return parts["qdata"].array.size, float((second * difference**2).sum())

    (plain_size, plain), (size, weighted) = coded(None), coded(Importance(second))
    assert weighted < 0.75 * plain
    assert plain_size * 0.99 <= size <= 3 * x.size / 8


def test_an_error_is_met_by_the_weights_themselves_whatever_the_statistics():
    rng = np.random.default_rng(8)
    x, spec = rng.normal(size=(80, 100)).astype(np.float32), TensorSpec("F32", (80, 100))
    importance = Importance(np.exp(2 * rng.normal(size=(1, 100))).astype(np.float32))
    codec = Trellis(error=0.1)
    again = codec.decode(codec.encode(Values(spec, x, importance=importance)), spec)
    assert 0.098 < np.linalg.norm(again - x) / np.linalg.norm(x) <= 0.1


@pytest.mark.parametrize("text", ["trellis", "trellis:error=0.1", "trellis:step=0.1", "trellis:bits=3,balance=column"])
def test_zeros_of_both_signs(text):
    spec = TensorSpec("F32", (64, 40))
    array = np.where(np.random.default_rng(0).normal(size=spec.shape) > 0, np.float32(0), np.float32(-0.0))
    codec = Pipeline.parse(text)
    assert not codec.decode(codec.encode(Values(spec, array)), spec).any()
