"""Levels fitted to the values."""

from itertools import pairwise

import numpy as np
import pytest

from bale.compressors.base import Values
from bale.compressors.floats import from_float32, to_float32
from bale.compressors.pipeline import Pipeline
from bale.compressors.quantizers import groups
from bale.compressors.quantizers.codebook import Codebook
from bale.errors import Refused
from bale.spec import TensorSpec
from bale.testing.tensors import LOSSY_DTYPES, ROUNDING, adversarial
from tests.soak import few


def f32(rows):
    array = np.array(rows, np.float32)
    return Values(TensorSpec("F32", array.shape), array)


def test_by_hand():
    x = f32([[0, 1, 10, 11], [1, 0, 11, 10]])
    parts = Codebook(bits=1).encode(x)
    assert parts["levels"].array.tolist() == [[0.5, 10.5]]
    assert parts["qdata"].array.tolist() == [[1, 1, 0, 0], [1, 1, 0, 0]]  # counted from the upper one, modulo 2
    assert Codebook(bits=1).decode(parts, x.spec).tolist() == [[0.5, 0.5, 10.5, 10.5]] * 2


def test_few_values_are_kept():
    x = f32([[-3, 0.5, 0.5, 7], [7, 7, 7, 7]])
    for group in ("tensor", "row", 3):
        codec = Codebook(bits=2, group=group)
        assert (codec.decode(codec.encode(x), x.spec) == x.array).all()


def test_normal_numbers_get_the_levels_of_lloyd_and_max():
    x = f32(np.random.default_rng(0).normal(size=200000))
    levels = Codebook(bits=2).encode(x)["levels"].array[0]
    assert levels == pytest.approx([-1.510, -0.4528, 0.4528, 1.510], abs=0.02)  # Max 1960, table 1


@pytest.mark.parametrize("group", ["tensor", "row", 30, 37])
@pytest.mark.parametrize("longest", [10, 1 << 20])
def test_blocks_make_no_difference(group, longest, monkeypatch):
    monkeypatch.setattr(groups, "LONGEST_IN_A_BLOCK", longest)
    codec, spec = Codebook(bits=3, group=group), TensorSpec("F32", (10, 30))
    x = np.random.default_rng(0).standard_t(3, size=300).astype(np.float32)
    multiple = codec.block_multiple(spec)
    edges = sorted({0, 300, *(cut // multiple * multiple for cut in (30, 111, 222))})
    observed = [codec.observe(x[a:b], a, spec, {}) for a, b in pairwise(edges)]
    side = codec.side_info(codec.fit(observed, spec, {}), spec)
    codes = np.concatenate([codec.encode_block(x[a:b], a, spec, side) for a, b in pairwise(edges)])
    whole = codec.encode(Values(spec, x.reshape(10, 30)))
    assert (codes == whole["qdata"].array.reshape(-1)).all()
    decoded = np.concatenate([codec.decode_block(codes[a:b], a, spec, side) for a, b in pairwise(edges)])
    assert (decoded == codec.decode(whole, spec).reshape(-1)).all()


@pytest.mark.parametrize("codec", [Codebook(), Codebook(bits=1, group="row"), Codebook(bits=8), Codebook(group=100)])
@pytest.mark.parametrize("seed", few(range(20), 4))
def test_bound(codec, seed):
    for x in adversarial(seed).values():
        for dtype in LOSSY_DTYPES:
            spec = TensorSpec(dtype, x.shape)
            values = Values(spec, from_float32(x, spec))
            parts = codec.encode(values)
            levels = parts["levels"].array.astype(np.float64)
            x64 = to_float32(values.array, spec).astype(np.float64).reshape(-1)
            y64 = to_float32(codec.decode(parts, spec), spec).astype(np.float64).reshape(-1)
            assert np.isfinite(y64).all()
            roundoff, least = ROUNDING[dtype]
            for piece in codec._groups(spec).slices(0, x64.size):
                of = levels[piece.groups]
                nearest = np.abs(piece.of(x64)[:, :, None] - of[:, None, :]).min(axis=2)
                error = np.abs(piece.of(x64) - piece.of(y64))
                rounding = 2.0**-23 * np.abs(piece.of(x64)) + 2.0**-148
                assert (error <= nearest + rounding + roundoff * np.abs(piece.of(y64)) * 1.01 + least).all()
                spread = np.square(piece.of(x64) - piece.of(x64).mean(axis=1, keepdims=True)).sum(axis=1)
                size = np.square(piece.of(x64)).sum(axis=1)
                assert (np.square(nearest).sum(axis=1) <= spread * 1.0001 + 1e-13 * size + 1e-80).all()


def test_refusals():
    with pytest.raises(Refused, match="NaN or infinity"):
        Codebook().encode(f32([1, np.nan]))
    with pytest.raises(Refused, match="codebooks"):
        Pipeline.parse("codebook:bits=8,group=16").validate(TensorSpec("F32", (100, 100)))


def test_parts_that_do_not_fit():
    x = f32(np.ones((4, 4)))
    parts = Codebook(bits=2, group="row").encode(x)
    with pytest.raises(ValueError, match="1 groups"):
        Codebook(bits=2).decode(parts, x.spec)
    half = Values(TensorSpec("F16", (4, 4)), parts["levels"].array.astype(np.float16))
    with pytest.raises(ValueError, match="levels of 4 groups"):
        Codebook(bits=2, group="row").decode({**parts, "levels": half}, x.spec)
