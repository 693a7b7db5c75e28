"""The search for levels, against a plain encoder and by hand."""

import numpy as np
import pytest

from bale.compressors.kernels.trellis import HEAVIEST
from bale.compressors.trellis.viterbi import Code, Search, paths_of
from tests.compressors.trellis import reference
from tests.soak import few


@pytest.mark.parametrize(
    ("states", "count", "paths"),
    [
        *((states, *each) for states in (8, 32, 256) for each in ((1, 8), (100, 8), (1000, 64))),
        *few([(8, 9000, 8), (32, 8200, 8), (256, 8200, 8)], 2),
    ],
)
def test_the_search_finds_what_a_plain_encoder_finds(states, count, paths):
    rng = np.random.default_rng(count + states)
    values = rng.normal(size=count).astype(np.float32) * 2
    found = Search(Code(states), paths).levels(values, np.float32(1))
    positions = np.rint(values * 128).astype(int).tolist()
    assert found.tolist() == reference.levels(positions, states, paths)


@pytest.mark.parametrize("states", [8, 32, 256])
@pytest.mark.parametrize(("count", "paths"), [(100, 8), (1000, 64), (8200, 8)])
def test_the_weighted_search_finds_what_a_plain_encoder_finds(states, count, paths):
    if states == 256:
        count = min(count, 2000)
    rng = np.random.default_rng(count + states)
    values = rng.normal(size=count).astype(np.float32) * 2
    weights = (255 * rng.random(count) ** 3 + 1).astype(np.uint8)
    weights[::7] = HEAVIEST
    found = Search(Code(states), paths).levels(values, np.float32(1), weights)
    positions = np.rint(values * 128).astype(int).tolist()
    assert found.tolist() == reference.levels(positions, states, paths, weights.tolist())


@pytest.mark.parametrize(("states", "count"), few([(8, 3000), (32, 1200), (256, 480), (32, 3000), (256, 1200)], 3))
def test_metrics_do_not_overflow_on_hostile_values(states, count):
    """Values half way between levels, far outliers and long runs of the dearest choices."""
    rng = np.random.default_rng(1)
    patterns = [np.full(count, 0.5), rng.integers(-4, 5, count) + 0.5, np.tile([2.0, -2, 1.99, 0], count // 4)]
    patterns.append(np.where(rng.random(count) < 0.1, 4e6, 0.25))
    for values in patterns:
        values = values.astype(np.float32)
        found = Search(Code(states), 8).levels(values, np.float32(1))
        positions = np.rint(values * np.float32(128)).astype(int).tolist()
        assert found.tolist() == reference.levels(positions, states, 8)
        for weights in (np.full(count, HEAVIEST, np.uint8), rng.choice([1, HEAVIEST], count).astype(np.uint8)):
            found = Search(Code(states), 8).levels(values, np.float32(1), weights)
            assert found.tolist() == reference.levels(positions, states, 8, weights.tolist())


def test_every_level_is_one_that_its_state_allows():
    code, rng = Code(8), np.random.default_rng(2)
    found = Search(code, 8).levels(rng.normal(size=800).astype(np.float32), np.float32(0.3))
    for lane in range(8):
        state = 0
        for level in found[lane::8].tolist():
            assert level & 1 == state & 1
            state = int(code.follow[2 * state + ((level >> 1) & 1)])


def test_a_code_by_hand():
    # h0 = 1011, h1 = 100 in binary: a parity of 1 adds 101, z adds 10 to the state shifted down.
    assert Code(8).follow.tolist() == [0, 2, 5, 7, 1, 3, 4, 6, 2, 0, 7, 5, 3, 1, 6, 4]
    assert Code(1).follow.tolist() == [0, 0]
    with pytest.raises(ValueError, match="no code of 16"):
        Code(16)


def test_without_a_trellis_levels_are_even_and_zero_is_wide():
    values = np.array([0, 0.9, 1.1, 1.2, -1.2, -1.1, 2.9, 3.2, 100], np.float32)
    assert Search(Code(1), 8).levels(values, np.float32(1)).tolist() == [0, 0, 2, 2, -2, -2, 2, 4, 100]
    assert Search(Code(1), 8, dead=24).levels(values, np.float32(1)).tolist() == [0, 0, 0, 2, -2, 0, 2, 4, 100]


def test_blocks_can_be_searched_one_by_one():
    values = np.random.default_rng(3).normal(size=200_000).astype(np.float32)
    paths = paths_of(values.size)
    search, block = Search(Code(8), paths), 1024 * paths
    whole, step = search.levels(values, np.float32(0.5)), np.float32(0.5)
    pieces = [search.levels(values[at : at + block], step) for at in range(0, values.size, block)]
    assert (np.concatenate(pieces) == whole).all()
    assert paths_of(values.size) == 64
    assert paths_of(65_535) == 8
