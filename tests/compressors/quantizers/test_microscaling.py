"""FP8, MX and NVFP4: the bits of their specifications, checked against another implementation of the formats."""

import ml_dtypes
import numpy as np
import pytest

from bale.compressors.base import Values
from bale.compressors.quantizers.microscaling import FORMATS, Fp8, Mx, Nvfp4
from bale.errors import Refused
from bale.spec import TensorSpec
from tests.compressors.scaled import check_scaled

KINDS = {
    "e2m1": ml_dtypes.float4_e2m1fn,
    "e2m3": ml_dtypes.float6_e2m3fn,
    "e3m2": ml_dtypes.float6_e3m2fn,
    "e4m3": ml_dtypes.float8_e4m3fn,
    "e5m2": ml_dtypes.float8_e5m2,
}


def f32(rows):
    array = np.array(rows, np.float32)
    return Values(TensorSpec("F32", array.shape), array)


def heavy(seed, size=1 << 13):
    return (np.random.default_rng(seed).standard_t(2, size) * 10.0 ** (seed % 7 - 3)).astype(np.float32)


@pytest.mark.parametrize("name", KINDS)
def test_rounding_is_that_of_the_formats(name):
    """Nearest, ties to even, saturating, with the sign of zero: at every number, middle and neighbour of them."""
    levels = FORMATS[name]
    middles = levels.bounds
    near = np.concatenate([np.nextafter(middles, np.float32(end)) for end in (-np.inf, np.inf)])
    exact = (levels.values[1:].astype(np.float64) + levels.values[:-1]) / 2
    numbers = np.concatenate((levels.values, middles, near, exact.astype(np.float32), heavy(3)))
    numbers = np.concatenate((numbers, -numbers))
    clipped = np.clip(numbers, -levels.largest, levels.largest)
    assert (levels.nearest(numbers) == clipped.astype(KINDS[name]).view(np.uint8)).all()
    codes = levels.nearest(levels.values)
    assert (levels.table[codes] == codes.view(KINDS[name]).astype(np.float32)).all()
    assert np.isnan(levels.table[0xFF])


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("seed", range(7))
def test_mx_blocks_are_those_of_the_specification(name, seed):
    x = heavy(seed)
    x[64:96] = 0
    parts = Mx(format=name).encode(f32(x))
    blocks = x.reshape(-1, 32)
    largest = int(np.floor(np.log2(float(ml_dtypes.finfo(KINDS[name]).max))))
    with np.errstate(divide="ignore"):
        exponents = np.maximum(np.floor(np.log2(np.abs(blocks).max(axis=1).astype(np.float64))) - largest, -127)
    scale = (2.0**exponents).astype(ml_dtypes.float8_e8m0fnu)
    assert (parts["scale"].array == scale.view(np.uint8)).all()
    steps = blocks / scale.astype(np.float32)[:, None]
    top = float(ml_dtypes.finfo(KINDS[name]).max)
    codes = np.clip(steps, -top, top).astype(KINDS[name])
    assert (parts["qdata"].array.reshape(-1, 32) == codes.view(np.uint8)).all()
    decoded = Mx(format=name).decode(parts, TensorSpec("F32", x.shape)).reshape(-1, 32)
    assert (decoded == codes.astype(np.float32) * scale.astype(np.float32)[:, None]).all()
    assert parts["qdata"].bits == Mx(format=name).width


@pytest.mark.parametrize("seed", range(7))
def test_nvfp4_blocks_are_those_of_the_format(seed):
    x = heavy(seed)
    x[64:96] = 0
    parts = Nvfp4().encode(f32(x))
    blocks = x.reshape(-1, 16).astype(np.float64)
    factor = np.float32(np.abs(x).max().astype(np.float64) / 2688)
    assert parts["scale.range"].array.tolist() == [factor]
    wanted = np.abs(blocks).max(axis=1) / (6 * np.float64(factor))
    scale = np.maximum(np.clip(wanted.astype(np.float32), 0, 448).astype(ml_dtypes.float8_e4m3fn).view(np.uint8), 1)
    assert (parts["scale"].array == scale).all()
    step = scale.view(ml_dtypes.float8_e4m3fn).astype(np.float32) * factor
    codes = np.clip(x.reshape(-1, 16) / step[:, None], -6, 6).astype(ml_dtypes.float4_e2m1fn)
    assert (parts["qdata"].array.reshape(-1, 16) == codes.view(np.uint8)).all()
    decoded = Nvfp4().decode(parts, TensorSpec("F32", x.shape)).reshape(-1, 16)
    assert (decoded == codes.astype(np.float32) * step[:, None]).all()


def test_mxfp4_by_hand():
    parts = Mx().encode(f32([7, -1.25, 0.25, 0, *[-0.1] * 28, 0.375, 0.1]))
    # floor(log2 7) - 2 = 0; then floor(log2 0.375) - 2 = -4, so 0.375 is 6 steps and 0.1 is 1.6
    assert parts["scale"].array.tolist() == [127, 123]
    assert parts["qdata"].array[[0, 1, 2, 3, 4, 32, 33]].tolist() == [7, 10, 0, 0, 8, 7, 3]
    decoded = Mx().decode(parts, TensorSpec("F32", (34,)))
    assert decoded[[0, 1, 2, 3, 4, 32, 33]].tolist() == [6, -1, 0, 0, 0, 0.375, 0.09375]


def test_nvfp4_by_hand():
    x = np.zeros(32, np.float32)
    x[:3], x[16:19] = (2688, -448, 150), (6, 0.5, -4)
    parts = Nvfp4().encode(f32(x))
    assert parts["scale.range"].array.tolist() == [1]
    assert parts["scale"].array.tolist() == [0x7E, 0x38]  # 448 and 1
    assert parts["qdata"].array[[0, 1, 2, 16, 17, 18]].tolist() == [7, 10, 1, 7, 1, 14]
    assert Nvfp4().decode(parts, TensorSpec("F32", (32,)))[[0, 1, 2, 16]].tolist() == [2688, -448, 224, 6]


def test_nvfp4_with_one_range_for_all():
    x = np.zeros(32, np.float32)
    x[:3], x[16:19] = (21, -3.5, 1), (6 / 128, 2 / 128, -4 / 128)
    codec = Nvfp4(range="fixed")
    parts = codec.encode(f32(x))
    assert parts["scale.range"].array.tolist() == [2.0**-7]
    assert parts["scale"].array.tolist() == [0x7E, 0x38]  # 448 and 1
    assert parts["qdata"].array[[0, 1, 2, 16, 17, 18]].tolist() == [7, 10, 1, 7, 4, 14]
    assert codec.decode(parts, TensorSpec("F32", (32,)))[[0, 1, 2, 16]].tolist() == [21, -3.5, 1.75, 6 / 128]
    with pytest.raises(Refused, match="beyond 21"):
        codec.encode(f32([21.1]))


def test_fp8_by_hand():
    x = f32([[448, -1, 17], [0, 0, 0]])
    parts = Fp8().encode(x)
    assert parts["scale"].array.tolist() == [1, 1]
    assert parts["qdata"].array.tolist() == [[0x7E, 0xB8, 0x58], [0, 0, 0]]  # 17 lies between 16 and 18: even
    assert Fp8().decode(parts, x.spec).tolist() == [[448, -1, 16], [0, 0, 0]]
    assert Fp8(format="e5m2").encode(f32([57344, -1]))["qdata"].array.tolist() == [0x7B, 0xBC]


def test_fp8_with_scales_in_bf16():
    x = f32([[449, -1], [0, 0]])
    parts = Fp8(scale="bf16").encode(x)
    assert parts["scale"].spec.dtype == "BF16"
    assert parts["scale"].array[0] == 0x3F81  # the least above 449 / 448
    assert Fp8(scale="bf16").decode(parts, x.spec).tolist() == [[448 * 1.0078125, -1.0078125], [0, 0]]


@pytest.mark.parametrize(("name", "mantissa", "least", "beyond"), [("e4m3", 3, 2.0**-9, 0), ("e5m2", 2, 2.0**-16, 0)])
@pytest.mark.parametrize("group", ["row", "tensor", "column", 5])
def test_bound_of_fp8(name, mantissa, least, beyond, group):
    check_scaled(Fp8(format=name, group=group), lambda x: np.maximum(2.0 ** -(mantissa + 1) * x, least / 2), range(6))


def test_bound_of_fp8_with_scales_in_bf16():
    check_scaled(Fp8(scale="bf16"), lambda x: np.maximum(2.0**-4 * x, 2.0**-10), range(2))


@pytest.mark.parametrize(
    ("name", "mantissa", "least", "beyond"),
    [
        ("e2m1", 1, 0.5, 2),
        ("e2m3", 3, 0.125, 0.5),
        ("e3m2", 2, 2.0**-4, 4),
        ("e4m3", 3, 2.0**-9, 64),
        ("e5m2", 2, 2.0**-16, 8192),
    ],
)
def test_bound_of_mx(name, mantissa, least, beyond):
    largest = FORMATS[name].largest

    def allowed(x):
        return np.maximum(np.maximum(2.0 ** -(mantissa + 1) * x, least / 2), (x > largest) * beyond)

    check_scaled(Mx(format=name), allowed, range(10))


def test_bound_of_nvfp4():
    check_scaled(Nvfp4(), lambda x: np.where(x <= 6.4, 1.0, 3.0))


def test_what_is_refused():
    for codec in (Fp8(), Mx(), Nvfp4()):
        with pytest.raises(Refused, match="NaN or infinity"):
            codec.encode(f32([[1, np.nan]]))
    with pytest.raises(Refused, match="too small"):
        Nvfp4().encode(f32([[1e-36, 0]]))


def test_forged_scales():
    x = f32(np.ones(64))
    parts = Mx().encode(x)
    parts["scale"].array[1] = 255
    with pytest.raises(ValueError, match="not a number"):
        Mx().decode(parts, x.spec)
    with pytest.raises(ValueError, match="2 blocks"):
        Mx().decode({**parts, "scale": Values(TensorSpec("U8", (1,)), np.ones(1, np.uint8))}, x.spec)
