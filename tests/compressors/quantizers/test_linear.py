from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bale.compressors.base import Values
from bale.compressors.floats import from_float32, to_float32
from bale.compressors.quantizers import linear
from bale.compressors.quantizers.linear import Int
from bale.errors import Refused, UsageError
from bale.spec import TensorSpec
from tests.compressors.cases import LARGEST, LOSSY_DTYPES, ROUNDING, adversarial


def f32(rows):
    array = np.array(rows, np.float32)
    return Values(TensorSpec("F32", array.shape), array)


def check_bound(codec, values, parts):
    """|x - x'| <= s/2 as the docstring says, with what float32 and the dtype add."""
    x = to_float32(values.array, values.spec).astype(np.float64).reshape(-1)
    decoded = codec.decode(parts, values.spec)
    y = to_float32(decoded, values.spec).astype(np.float64).reshape(-1)
    run = -(-x.size // parts["scale"].array.size) if codec.group != "row" else values.spec.shape[-1]
    scale = parts["scale"].array.astype(np.float64)
    assert (scale > 0).all()
    assert np.isfinite(scale).all()
    step = np.repeat(scale, codec.group if isinstance(codec.group, int) else run)[: x.size]
    roundoff, least = ROUNDING[values.spec.dtype]
    allowed = step * (0.5 + 2.0**-15) + roundoff * np.abs(y) * 1.01 + least
    assert np.isfinite(y).all()
    assert (np.abs(x - y) <= allowed).all()


def test_asymmetric_by_hand():
    parts = Int(bits=2, group=4).encode(f32([-1, 0, 1, 2, 0, 0, 0, 0, 6]))
    assert parts["qdata"].array.tolist() == [3, 0, 1, 2, 0, 0, 0, 0, 3]
    assert parts["scale"].array.tolist() == [1, 1, 2]
    assert parts["scale"].spec == TensorSpec("F16", (3,))
    assert parts["zero"].array.tolist() == [1, 0, 0]
    assert (parts["qdata"].bits, parts["zero"].bits) == (2, 2)
    assert Int(bits=2, group=4).decode(parts, TensorSpec("F32", (9,))).tolist() == [-1, 0, 1, 2, 0, 0, 0, 0, 6]


def test_symmetric_by_hand():
    parts = Int(bits=3, symmetric=True).encode(f32([[-3, 1], [2, 0.4], [-0.375, 0.0625]]))
    assert list(parts) == ["qdata", "scale"]
    scale = [1, 0.66699, 0.125]  # 2/3 rounded up to F16
    assert parts["scale"].array.tolist() == pytest.approx(scale, rel=1e-5)
    assert parts["qdata"].array.tolist() == [[5, 1], [3, 1], [5, 0]]
    decoded = Int(bits=3, symmetric=True).decode(parts, TensorSpec("F32", (3, 2)))
    assert decoded.tolist() == pytest.approx(np.array([[-3, 1], [2.001, 0.667], [-0.375, 0]]), rel=1e-3)


def test_scales_are_rounded_up():
    parts = Int().encode(f32([0, 1]))
    assert parts["scale"].array.tolist() == [1029 / 2**18]  # 1/255 is 1028.02 / 2^18


@pytest.mark.parametrize(
    ("rows", "dtype"),
    [
        ([[0, 1], [0, 0]], "F16"),  # zeros ask for nothing
        ([[0, 1], [0, 1e-3]], "F32"),  # 1e-3 / 255 is no normal F16
        ([[0, 1], [0, 2**-14 * 255]], "F16"),
        ([[0, 1], [0, 65504 * 255]], "F16"),
        ([[0, 1], [0, 65505 * 255]], "F32"),
        ([[0, 1], [0, 1e30]], "F32"),
        ([[0, 0], [0, 0]], "F16"),
    ],
)
def test_dtype_of_scales(rows, dtype):
    assert Int().encode(f32(rows))["scale"].spec.dtype == dtype


@pytest.mark.parametrize(
    ("codec", "shape", "runs"),
    [
        (Int(), (6, 10), 6),
        (Int(), (6, 5, 2), 6),
        (Int(), (60,), 1),
        (Int(), (), 1),
        (Int(group="tensor"), (6, 10), 1),
        (Int(group=7), (6, 10), 9),
        (Int(group=100), (6, 10), 1),
    ],
)
def test_runs(codec, shape, runs):
    spec = TensorSpec("F32", shape)
    x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    parts = codec.encode(Values(spec, x))
    bounds = {bound.name: bound for bound in codec.parts(spec)}
    assert parts["scale"].array.shape == bounds["scale"].spec.shape == (runs,)
    assert parts["qdata"].spec == bounds["qdata"].spec
    assert codec.decode(parts, spec).shape == shape


def test_block_multiple():
    assert Int(group=64).block_multiple(TensorSpec("F32", (8, 64))) == 64
    assert Int().block_multiple(TensorSpec("F32", (8, 1 << 20))) == 1 << 20
    assert Int().block_multiple(TensorSpec("F32", (8, (1 << 20) + 1))) == 1


@settings(max_examples=60, deadline=None)
@given(
    cuts=st.lists(st.integers(1, 149), max_size=5),
    group=st.sampled_from(["row", "tensor", 1, 7, 50, 64]),
    clip=st.sampled_from(["absmax", "mse"]),
    symmetric=st.booleans(),
    bits=st.integers(2, 8),
    longest=st.sampled_from([8, 40, 1 << 20]),
    seed=st.integers(0, 99),
)
def test_blocks_make_no_difference(cuts, group, clip, symmetric, bits, longest, seed):
    """Whatever the blocks: runs longer than `longest` may begin, end or go on in any of them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(linear, "_LONGEST_RUN_IN_A_BLOCK", longest)
        check_blocks(Int(bits=bits, group=group, clip=clip, symmetric=symmetric), cuts, seed)


def check_blocks(codec, cuts, seed):
    spec = TensorSpec("F32", (5, 30))
    x = np.random.default_rng(seed).standard_t(3, size=150).astype(np.float32)
    multiple = codec.block_multiple(spec)
    edges = sorted({0, 150, *(cut // multiple * multiple for cut in cuts)})
    blocks = [(start, x[start:end]) for start, end in pairwise(edges)]
    known = {}
    for _ in range(codec.rounds(spec)):
        known = codec.settle([codec.measure(block, start, spec, known) for start, block in blocks], spec, known)
    side = codec.side(known, spec)
    codes = np.concatenate([codec.encode_block(block, start, spec, side) for start, block in blocks])
    whole = codec.encode(Values(spec, x.reshape(5, 30)))
    assert (codes == whole["qdata"].array.reshape(-1)).all()
    assert all((side[name].array == whole[name].array).all() for name in side)
    decoded = [codec.decode_block(codes[start : start + block.size], start, spec, side) for start, block in blocks]
    assert (np.concatenate(decoded) == codec.decode(whole, spec).reshape(-1)).all()


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize(
    "codec", [Int(), Int(bits=4, group=8), Int(bits=2, group="tensor"), Int(bits=5, symmetric=True)]
)
def test_bound_on_adversarial_tensors(codec, seed):
    for x in adversarial(seed).values():
        for dtype in LOSSY_DTYPES:
            spec = TensorSpec(dtype, x.shape)
            values = Values(spec, from_float32(x, spec))
            check_bound(codec, values, codec.encode(values))


@settings(max_examples=80, deadline=None)
@given(
    x=st.lists(st.floats(-LARGEST, LARGEST, width=32), min_size=1, max_size=40),
    bits=st.integers(2, 8),
    symmetric=st.booleans(),
)
def test_bound_on_any_values(x, bits, symmetric):
    codec, values = Int(bits=bits, symmetric=symmetric, group="tensor"), f32(x)
    check_bound(codec, values, codec.encode(values))


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("bits", [2, 4, 8])
def test_mse_is_never_worse(bits, symmetric):
    x = np.random.default_rng(bits).standard_t(4, size=(20, 64)).astype(np.float32)
    errors = []
    for clip in ("absmax", "mse"):
        codec = Int(bits=bits, symmetric=symmetric, clip=clip)
        errors.append(np.square(codec.decode(codec.encode(f32(x)), TensorSpec("F32", x.shape)) - x).sum(axis=1))
    assert (errors[1] <= errors[0] * (1 + 1e-5)).all()
    assert errors[1].sum() < errors[0].sum() or bits == 8


def test_mse_stays_finite_and_zero_stays_zero():
    for seed in range(5):
        for x in adversarial(seed).values():
            codec = Int(bits=4, clip="mse")
            decoded = codec.decode(codec.encode(f32(x)), TensorSpec("F32", x.shape))
            assert np.isfinite(decoded).all()
            assert (decoded[x == 0] == 0).all()


def test_symmetric_codes_leave_out_the_lowest():
    x = np.random.default_rng(0).standard_t(2, size=(50, 64)).astype(np.float32)
    parts = Int(bits=3, symmetric=True, clip="mse").encode(f32(x))
    assert 4 not in parts["qdata"].array


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_not_finite_is_refused(bad):
    with pytest.raises(Refused, match="NaN or infinity"):
        Int().encode(f32([[0, 1], [bad, 1]]))


def test_parts_that_do_not_fit():
    spec = TensorSpec("F32", (4, 8))
    parts = Int().encode(Values(spec, np.ones((4, 8), np.float32)))
    with pytest.raises(ValueError, match="4 runs"):
        Int().decode({**parts, "scale": Values(TensorSpec("F16", (1,)), np.ones(1, np.float16))}, spec)
    with pytest.raises(ValueError, match="shape"):
        Int().decode(parts, TensorSpec("F32", (8, 4)))


@pytest.mark.parametrize("bad", [{"bits": 1}, {"bits": 9}, {"bits": True}, {"group": 0}, {"group": "col"}, {"clip": 3}])
def test_settings_are_checked(bad):
    with pytest.raises(UsageError, match="int: "):
        Int(**bad)
