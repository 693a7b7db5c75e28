"""Tokens as bytes: tables are generated in whole numbers, and everything comes back."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bale.compressors.entropy import rans
from bale.compressors.kernels.axes import log2
from bale.compressors.kernels.rans import rans_encode


def coded(tokens, contexts, count, width):
    counts = np.zeros((count, width), np.uint32)
    np.add.at(counts, (np.broadcast_to(contexts, tokens.shape), tokens), 1)
    return rans.encode(tokens, contexts, counts)


def decoded(data, contexts, count, width, size):
    tokens = np.empty(size, np.uint8)
    rest = rans.decode(memoryview(data), contexts, count, width, tokens)
    return tokens, bytes(rest)


def test_a_token_that_is_certain_takes_nothing():
    tokens = np.full(100_000, 7, np.uint8)
    data = coded(tokens, np.zeros(1, np.uint8), 1, 8)
    assert len(data) < 100
    assert (decoded(data, np.zeros(1, np.uint8), 1, 8, tokens.size)[0] == tokens).all()


def test_one_step_by_hand():
    # One token of frequency 1/4 that comes second: x = 2^16 becomes (2^16 // 1024) * 4096 + 0 + 2048.
    entries = np.array([[2048 << 16, (1024 << 16) | 2048, (1024 << 16) | 3072]], np.uint64)
    words, states = np.zeros(2, np.uint16), np.zeros(8, np.uint64)
    one, context = np.ones(1, np.uint8), np.zeros(1, np.uint8)
    assert rans_encode(one, context, entries, 12, words, states) == 2  # no word was needed
    assert states.tolist() == [64 * 4096 + 2048] + [1 << 16] * 7


def test_size_is_near_to_the_entropy():
    rng = np.random.default_rng(1)
    contexts = np.repeat(np.arange(4, dtype=np.uint8), 50_000)
    tokens = np.minimum(rng.geometric(0.1 + 0.2 * contexts), 40).astype(np.uint8)
    bits = 0.0
    for context in range(4):
        share = np.bincount(tokens[contexts == context]) / 50_000
        bits -= 50_000 * float((share[share > 0] * np.log2(share[share > 0])).sum())
    assert len(coded(tokens, contexts, 4, 64)) < 1.003 * bits / 8 + 200


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 3000), st.integers(1, 5), st.integers(1, 256), st.integers(0, 2**32))
def test_everything_comes_back(size, count, width, seed):
    rng = np.random.default_rng(seed)
    tokens = (rng.integers(0, width, size) * (rng.random(size) < rng.random())).astype(np.uint8)
    contexts = rng.integers(0, count, size).astype(np.uint8) if count > 1 and size > 1 else np.zeros(1, np.uint8)
    data = coded(tokens, contexts, count, width)
    found, rest = decoded(data + b"xyz", contexts, count, width, size)
    assert (found == tokens).all()
    assert rest == b"xyz"


def test_damage_is_an_error_or_other_tokens():
    rng = np.random.default_rng(2)
    tokens = np.minimum(rng.geometric(0.3, 3000), 20).astype(np.uint8)
    contexts = rng.integers(0, 3, 3000).astype(np.uint8)
    data = coded(tokens, contexts, 3, 21)
    for end in range(len(data)):
        with pytest.raises(ValueError):  # noqa: PT011
            decoded(data[:end], contexts, 3, 21, 3000)
    for at in range(len(data)):
        flipped = bytearray(data)
        flipped[at] ^= 1 << int(rng.integers(8))
        try:
            found, _ = decoded(bytes(flipped), contexts, 3, 21, 3000)
        except ValueError:
            continue
        assert found.size == 3000


@pytest.mark.parametrize("steps", [1, 5, 8, 12])
def test_weights_are_powers_of_two_in_between(steps):
    weights = rans._weights(steps)
    assert weights[1] == 256
    for level in range(1, 1 + 20 * steps):
        assert abs(weights[level] / 2 ** ((level - 1) / steps) / 256 - 1) < 1 / 200


def test_logarithms_of_whole_numbers():
    numbers = [*range(1, 5000), *(2**k + d for k in range(13, 45) for d in (-1, 0, 1))]
    for number in numbers:
        assert abs(log2(number) / 65536 - np.log2(number)) < 2**-11


def test_costs_by_hand():
    counts = np.array([[4, 4, 0], [0, 0, 8], [0, 0, 0]], np.uint32)
    assert rans.cost(counts, 0) == 8 << 16  # a bit for each of the first eight
    assert rans.cost(counts, 5) == (8 << 16) + 3 * 5
