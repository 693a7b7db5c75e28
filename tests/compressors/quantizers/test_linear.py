from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bale.compressors.base import Values
from bale.compressors.floats import from_float32, to_float32
from bale.compressors.importance import Importance
from bale.compressors.quantizers import groups, scales
from bale.compressors.quantizers.groups import Groups
from bale.compressors.quantizers.linear import Int
from bale.errors import Refused, UsageError
from bale.spec import TensorSpec
from bale.testing.tensors import LARGEST, LOSSY_DTYPES, ROUNDING, adversarial
from tests.soak import few


def f32(rows):
    array = np.array(rows, np.float32)
    return Values(TensorSpec("F32", array.shape), array)


def check_bound(codec, values, parts):
    """|x - x'| <= s/2 as the docstring says, with what float32 and the dtype add."""
    x = to_float32(values.array, values.spec).astype(np.float64).reshape(-1)
    decoded = codec.decode(parts, values.spec)
    y = to_float32(decoded, values.spec).astype(np.float64).reshape(-1)
    groups = Groups.of(values.spec, codec.group, codec.rows)
    scale = scales.load(parts, codec.scale, groups.count, slice(0, groups.count)).astype(np.float64)
    assert (scale > 0).all()
    assert np.isfinite(scale).all()
    step = each_element(groups, scale, x.size)
    roundoff, least = ROUNDING[values.spec.dtype]
    allowed = step * (0.5 + 2.0**-15) + roundoff * np.abs(y) * 1.01 + least
    if codec.zero == "float":
        allowed += 2.0**-23 * (np.abs(x) + np.abs(each_element(groups, parts["zero"].array.astype(np.float64), x.size)))
    assert np.isfinite(y).all()
    assert (np.abs(x - y) <= allowed).all()


def each_element(groups, numbers, size):
    spread = np.empty(size)
    for piece in groups.slices(0, size):
        piece.of(spread)[:] = piece.spread(numbers[piece.groups])
    return spread


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


def test_zero_as_a_number_by_hand():
    x = f32([[10, 11, 12, 13], [5, 5, 5, 5], [-1, 0, 0, 2]])
    codec = Int(bits=2, zero="float")
    parts = codec.encode(x)
    assert parts["scale"].array.tolist() == [1, 5, 1]  # where all are one number, that number
    assert parts["zero"].array.tolist() == [12, 5, 1]  # lo + 2 s
    assert parts["zero"].spec == TensorSpec("F16", (3,))
    assert parts["qdata"].array.tolist() == [[2, 3, 0, 1], [0, 0, 0, 0], [2, 3, 3, 1]]
    assert (codec.decode(parts, x.spec) == x.array).all()


def test_one_bit_by_hand():
    codec = Int(bits=1, zero="float", group="tensor")
    parts = codec.encode(f32([3, 1, 1, 2.5]))
    assert (parts["scale"].array.tolist(), parts["zero"].array.tolist()) == ([2], [3])
    assert parts["qdata"].array.tolist() == [0, 1, 1, 0]  # 3 + 2 k, k = 0 or -1
    assert codec.decode(parts, TensorSpec("F32", (4,))).tolist() == [3, 1, 1, 3]


def test_columns_and_tiles_by_hand():
    x = f32([[7, -70, 0.5], [1, 10, -3.5]])
    parts = Int(bits=4, symmetric=True, group="column").encode(x)
    assert parts["scale"].array.tolist() == [1, 10, 0.5]
    assert parts["qdata"].array.tolist() == [[7, 9, 1], [1, 1, 9]]
    parts = Int(bits=4, symmetric=True, group=2, rows=2).encode(x)
    assert parts["scale"].array.tolist() == [10, 0.5]
    assert parts["qdata"].array.tolist() == [[1, 9, 1], [0, 1, 9]]
    parts = Int(bits=4, symmetric=True, rows=2).encode(x)
    assert parts["scale"].array.tolist() == [10]


def test_numbers_far_from_zero_are_kept_by_a_float_zero():
    x = f32(1000 + np.random.default_rng(0).normal(size=(4, 64)))
    errors = [np.abs(codec.decode(codec.encode(x), x.spec) - x.array).max() for codec in (Int(), Int(zero="float"))]
    assert errors[0] > 50 * errors[1]
    assert Int(zero="float").encode(x)["zero"].spec.dtype == "F32"  # F16 would be off by a quarter


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
    ("codec", "shape", "groups"),
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
def test_runs(codec, shape, groups):
    spec = TensorSpec("F32", shape)
    x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    parts = codec.encode(Values(spec, x))
    bounds = {bound.name: bound for bound in codec.parts(spec)}
    assert parts["scale"].array.shape == bounds["scale"].spec.shape == (groups,)
    assert parts["qdata"].spec == bounds["qdata"].spec
    assert codec.decode(parts, spec).shape == shape


def test_block_multiple():
    assert Int(group=64).block_multiple(TensorSpec("F32", (8, 64))) == 64
    assert Int().block_multiple(TensorSpec("F32", (8, 1 << 20))) == 1 << 20
    assert Int().block_multiple(TensorSpec("F32", (8, (1 << 20) + 1))) == 1


@settings(max_examples=120, deadline=None)
@given(
    cuts=st.lists(st.integers(1, 149), max_size=5),
    group=st.sampled_from(["row", "tensor", "column", 1, 7, 50, 64]),
    rows=st.sampled_from([1, 1, 2, 4, 9]),
    kind=st.sampled_from(["auto", "fp32", "fp8", "log"]),
    zero=st.sampled_from(["int", "float"]),
    clip=st.sampled_from(["absmax", "mse"]),
    symmetric=st.booleans(),
    bits=st.integers(2, 8),
    longest=st.sampled_from([8, 40, 1 << 20]),
    seed=st.integers(0, 99),
)
def test_blocks_make_no_difference(cuts, group, rows, kind, zero, clip, symmetric, bits, longest, seed):
    """Whatever the blocks: groups longer than `longest` may begin, end or go on in any of them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(groups, "LONGEST_IN_A_BLOCK", longest)
        rows = 1 if group in ("tensor", "column") else rows
        symmetric = symmetric and zero == "int"
        codec = Int(bits=bits, group=group, clip=clip, symmetric=symmetric, rows=rows, scale=kind, zero=zero)
        check_blocks(codec, cuts, seed)


def check_blocks(codec, cuts, seed):
    spec = TensorSpec("F32", (5, 30))
    x = np.random.default_rng(seed).standard_t(3, size=150).astype(np.float32)
    multiple = codec.block_multiple(spec)
    edges = sorted({0, 150, *(cut // multiple * multiple for cut in cuts)})
    blocks = [(start, x[start:end]) for start, end in pairwise(edges)]
    state = {}
    for _ in range(codec.passes(spec)):
        state = codec.fit([codec.observe(block, start, spec, state) for start, block in blocks], spec, state)
    side = codec.side_info(state, spec)
    codes = np.concatenate([codec.encode_block(block, start, spec, side) for start, block in blocks])
    whole = codec.encode(Values(spec, x.reshape(5, 30)))
    assert (codes == whole["qdata"].array.reshape(-1)).all()
    assert all((side[name].array == whole[name].array).all() for name in side)
    decoded = [codec.decode_block(codes[start : start + block.size], start, spec, side) for start, block in blocks]
    assert (np.concatenate(decoded) == codec.decode(whole, spec).reshape(-1)).all()


@pytest.mark.parametrize("seed", few(range(20), 3))
@pytest.mark.parametrize(
    "codec",
    [
        Int(),
        Int(bits=4, group=8),
        Int(bits=2, group="tensor"),
        Int(bits=5, symmetric=True),
        Int(bits=1),
        Int(bits=4, group="column", scale="fp8"),
        Int(bits=3, group=3, rows=5, scale="log", symmetric=True),
        Int(bits=4, zero="float", scale="fp32"),
        Int(bits=1, zero="float", group=16, scale="log"),
        Int(bits=6, zero="float", group=8),
        Int(bits=8, group=5, scale="fp16"),
        Int(bits=4, group=5, scale="bf16"),
    ],
)
def test_bound_on_adversarial_tensors(codec, seed):
    taken = 0
    for x in adversarial(seed).values():
        for dtype in LOSSY_DTYPES:
            spec = TensorSpec(dtype, x.shape)
            values = Values(spec, from_float32(x, spec))
            try:
                parts = codec.encode(values)
            except Refused:  # what is beyond the range of float32, or of the scales
                continue
            check_bound(codec, values, parts)
            taken += 1
    assert taken >= 8 * 5


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


def test_a_run_is_clipped_alike_whatever_the_others_are():
    """Where another run has a scale beyond F16, that is not known in other blocks."""
    rng = np.random.default_rng(0)
    x = rng.standard_t(4, size=(400, 7)).astype(np.float32)
    x[200, 3] = 1e30
    codec, spec = Int(bits=2, group=7, symmetric=True, clip="mse"), TensorSpec("F32", x.shape)
    blocks = [codec.observe(row, 7 * at, spec, {}) for at, row in enumerate(x)]
    side = codec.fit(blocks, spec, {})
    assert (side["scale"] == codec.encode(f32(x))["scale"].array).all()


def test_the_clip_is_the_least_by_what_comes_out():
    """Of 3, 1.2 and -1.2 with steps of 1 or 0.6: what is not used may be clipped."""
    x = f32([[3, 1.2, -1.2, 1.2]])
    codec = Int(bits=3, symmetric=True, clip="mse")
    scales = []
    for second in (None, [1, 1, 1, 1], [1000, 1, 1, 1], [0, 1, 1, 1], [0, 0, 0, 0]):
        importance = None if second is None else Importance(np.float32([second]))
        scales.append(float(codec.encode(replace(x, importance=importance))["scale"].array[0]))
    assert scales == [1, 1, 1, pytest.approx(0.6, rel=1e-3), 1]


def test_statistics_only_choose_the_clip():
    rng = np.random.default_rng(0)
    x, importance = f32(rng.standard_t(3, size=(8, 96))), Importance(rng.lognormal(0, 2, (1, 96)).astype(np.float32))
    plain, used = Int(bits=3).encode(x), Int(bits=3).encode(replace(x, importance=importance))
    assert all(plain[name].array.tobytes() == part.array.tobytes() for name, part in used.items())


@pytest.mark.parametrize("group", [32, 7, "row", "column", "tensor"])
def test_weighted_mse_is_never_worse_and_the_same_in_blocks(group, monkeypatch):
    rng = np.random.default_rng(1)
    x, importance = f32(rng.standard_t(3, size=(64, 96))), Importance(rng.lognormal(0, 2, (1, 96)).astype(np.float32))
    codec, errors = Int(bits=3, clip="mse", group=group), []
    for each in (None, importance):
        parts = codec.encode(replace(x, importance=each))
        errors.append(
            float((importance.second_moment * np.square(codec.decode(parts, x.spec) - x.array)).sum(dtype=np.float64))
        )
    assert errors[1] < errors[0] * 0.999 or (group in ("column", "tensor") and errors[1] <= errors[0])
    monkeypatch.setattr(groups, "LONGEST_IN_A_BLOCK", 1)  # in two rounds, block by block
    flat, state = x.array.reshape(-1), {}
    for _ in range(codec.passes(x.spec)):
        starts = range(0, flat.size, 96)
        blocks = [codec.observe(flat[at : at + 96], at, x.spec, state, importance) for at in starts]
        state = codec.fit(blocks, x.spec, state)
    assert codec.side_info(state, x.spec)["scale"].array.tobytes() == parts["scale"].array.tobytes()


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
    with pytest.raises(ValueError, match="4 groups"):
        Int().decode({**parts, "scale": Values(TensorSpec("F16", (1,)), np.ones(1, np.float16))}, spec)
    with pytest.raises(ValueError, match="shape"):
        Int().decode(parts, TensorSpec("F32", (8, 4)))


@pytest.mark.parametrize("bad", [{"bits": 0}, {"bits": 9}, {"bits": True}, {"group": 0}, {"group": "col"}, {"clip": 3}])
def test_settings_are_checked(bad):
    with pytest.raises(UsageError, match="int: "):
        Int(**bad)


@pytest.mark.parametrize(
    "bad",
    [
        {"bits": 1, "symmetric": True},
        {"zero": "float", "symmetric": True},
        {"rows": 2, "group": "column"},
        {"rows": 2, "group": "tensor"},
        {"scale": "fp64"},
    ],
)
def test_settings_that_do_not_go_together(bad):
    with pytest.raises(UsageError, match="int: "):
        Int(**bad)


def test_f16_scales_are_refused_where_they_do_not_do():
    with pytest.raises(Refused, match="F16"):
        Int(scale="fp16").encode(f32([[1e-6, 1], [1e-9, -1e-9]]))
