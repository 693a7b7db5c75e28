import numpy as np
import pytest

from bale.compressors.floats import from_float32, require_float, to_float32
from bale.errors import Refused
from bale.spec import DTYPES, TensorSpec
from bale.testing.tensors import LOSSY_DTYPES


def spec(dtype, *shape):
    return TensorSpec(dtype, shape)


@pytest.mark.parametrize(
    ("dtype", "bits", "value"),
    [
        ("BF16", 0x3F80, 1.0),
        ("BF16", 0xC049, -3.140625),
        ("F16", np.float16(0.5), 0.5),
        ("F8_E4M3", 0x7E, 448.0),
        ("F8_E5M2", 0x7B, 57344.0),
        ("F8_E4M3FNUZ", 0x7F, 240.0),
        ("F8_E5M2FNUZ", 0x7F, 57344.0),
        ("F64", 0.1, float(np.float32(0.1))),
    ],
)
def test_by_hand(dtype, bits, value):
    array = np.array([bits], spec(dtype).storage)
    assert to_float32(array, spec(dtype, 1)).tolist() == [value]
    if dtype != "F64":
        assert from_float32(np.array([value], np.float32), spec(dtype, 1)).tobytes() == array.tobytes()


@pytest.mark.parametrize("dtype", [name for name in LOSSY_DTYPES if DTYPES[name].bits <= 16])
def test_every_finite_pattern_comes_back_and_every_nan_stays_nan(dtype):
    width = DTYPES[dtype].bits
    bits = np.arange(2**width, dtype=f"u{width // 8}").view(spec(dtype).storage)
    values = to_float32(bits, spec(dtype, 2**width))
    again = from_float32(values, spec(dtype, 2**width))
    finite = np.isfinite(values)
    assert again[finite].tobytes() == bits[finite].tobytes()
    assert np.isnan(to_float32(again, spec(dtype, 2**width))[np.isnan(values)]).all()


@pytest.mark.parametrize(("x", "bits"), [(1 + 2**-8, 0x3F80), (1 + 3 * 2**-8, 0x3F82), (1 + 2**-8 + 2**-20, 0x3F81)])
def test_bf16_ties_go_to_even(x, bits):
    assert from_float32(np.array([x, -x], np.float32), spec("BF16", 2)).tolist() == [bits, bits | 0x8000]


def test_bf16_rounds_as_ml_dtypes_does():
    import ml_dtypes

    bits = np.random.default_rng(1).integers(0, 2**32, 100_000, np.uint32)
    values = bits.view(np.float32)
    values = values[np.abs(values) < 3e38]
    expected = values.astype(ml_dtypes.bfloat16).view(np.uint16)
    assert (from_float32(values, spec("BF16", values.size)) == expected).all()


@pytest.mark.parametrize(
    ("dtype", "largest"),
    [("F16", 65504), ("BF16", 3.3895314e38), ("F8_E4M3", 448), ("F8_E5M2", 57344), ("F8_E4M3FNUZ", 240)],
)
def test_too_large_becomes_largest(dtype, largest):
    values = np.array([3.4e38, -3.4e38, np.inf, -np.inf], np.float32)
    back = to_float32(from_float32(values, spec(dtype, 4)), spec(dtype, 4))
    assert back.tolist() == np.array([largest, -largest] * 2, np.float32).tolist()


def test_f64_beyond_float32_becomes_infinite():
    assert to_float32(np.array([1e300, -1e300, 1e-300]), spec("F64", 3)).tolist() == [np.inf, -np.inf, 0]


@pytest.mark.parametrize("dtype", LOSSY_DTYPES)
def test_single_values_stay_arrays(dtype):
    bits = from_float32(np.array(1.5, np.float32), spec(dtype))
    assert isinstance(bits, np.ndarray)
    assert bits.shape == ()
    assert bits.dtype == spec(dtype).storage
    assert to_float32(bits, spec(dtype)) == 1.5


@pytest.mark.parametrize("dtype", [name for name in DTYPES if name not in LOSSY_DTYPES])
def test_others_are_refused(dtype):
    with pytest.raises(Refused):
        require_float(spec(dtype, 1))
    with pytest.raises(Refused):
        to_float32(np.zeros(1, spec(dtype).storage), spec(dtype, 1))
    with pytest.raises(Refused):
        from_float32(np.zeros(1, np.float32), spec(dtype, 1))
