from __future__ import annotations

import threading

import numpy as np
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from bale.compressors.entropy.huffman import (
    ENTROPY_LIMIT,
    compress,
    compress_general,
    decompress,
    entropy,
    is_noise,
    pays,
)


def exponents(size: int) -> np.ndarray:
    return (np.random.default_rng(3).normal(size=size).astype(np.float32).view("<u4") >> 23 & 0xFF).astype(np.uint8)


def histogram(*counts: int) -> np.ndarray:
    return np.array(counts, np.int64)


@given(st.binary(max_size=500))
def test_round_trip(data: bytes) -> None:
    plane = np.frombuffer(data, np.uint8)
    for coder in (compress, compress_general):
        frame = coder(plane)
        assert zstandard.frame_content_size(frame) == len(data)
        out = np.empty_like(plane)
        decompress(memoryview(frame), out)
        assert out.tobytes() == data


def test_literals_are_coded() -> None:
    """A frame is at most 3 % above the entropy; without coded literals it would be as large as the plane."""
    plane = exponents(1 << 18)
    bits = 8 * len(compress(plane)) / plane.size
    counts = np.bincount(plane, minlength=256)
    assert entropy(counts) < bits < 1.03 * entropy(counts)


def test_words_of_any_size() -> None:
    words = np.arange(1000, dtype="<u8")
    out = np.empty_like(words)
    decompress(memoryview(compress_general(words)), out)
    assert out.tolist() == words.tolist()


def test_incompressible_bytes_grow_by_a_few_bytes_only() -> None:
    plane = np.random.default_rng(4).integers(0, 256, 1 << 18, np.uint8)
    assert len(compress(plane)) <= plane.size + 20


def test_entropy_by_hand() -> None:
    ln2 = 0.6931471805599453
    assert entropy(histogram(0, 8, 0)) == pytest.approx(0)
    assert entropy(histogram(512, 512)) == pytest.approx(1 + 1 / (2 * 1024 * ln2))
    assert entropy(histogram(2048, 1024, 0, 1024)) == pytest.approx(1.5 + 2 / (2 * 4096 * ln2))


def test_short_samples_of_noise_do_not_pay() -> None:
    for seed in range(50):
        sample = np.random.default_rng(seed).integers(0, 256, 4032, np.uint8)
        assert 7.97 < entropy(np.bincount(sample, minlength=256)) < 8.03
        assert not pays(np.bincount(sample, minlength=256))
    assert pays(np.bincount(sample % 240, minlength=256))  # log2(240) = 7.907
    assert ENTROPY_LIMIT == 7.92


@pytest.mark.parametrize("values", [1, 100, 127, 128, 150, 200, 230])
@pytest.mark.parametrize("size", [64, 256, 257, 300, 4032])
def test_what_pays_is_below_the_limit(values: int, size: int) -> None:
    counts = np.bincount(np.arange(size) % values, minlength=256)
    assert pays(counts) == (entropy(counts) < ENTROPY_LIMIT)


def test_frames_of_another_size_are_refused() -> None:
    frame = memoryview(compress(exponents(1000)))
    for size in (0, 999, 1001):
        with pytest.raises(ValueError, match=f"holds {size} bytes"):
            decompress(frame, np.empty(size, np.uint8))


def test_truncated_and_changed_frames_are_refused_or_decoded() -> None:
    plane = exponents(300)
    frame = compress(plane)
    out = np.empty_like(plane)
    for size in range(len(frame)):
        with pytest.raises(ValueError, match="coded plane"):
            decompress(memoryview(frame[:size]), out)
    for at in range(len(frame)):
        for change in (0x01, 0x80, 0xFF):
            damaged = bytearray(frame)
            damaged[at] ^= change
            try:
                decompress(memoryview(damaged), out)
            except ValueError:
                continue


def test_large_windows_are_refused() -> None:
    """A frame may not make the decoder allocate a window that no frame made here needs."""
    header = bytes([0x28, 0xB5, 0x2F, 0xFD, 0x80, 0x88]) + (1000).to_bytes(4, "little")  # window log 27, 1000 bytes
    with pytest.raises(ValueError, match="too much memory"):
        decompress(memoryview(header + b"\x00" * 40), np.empty(1000, np.uint8))


def test_threads_do_not_share_coders() -> None:
    planes = [exponents(100_000 + 17 * n) for n in range(4)]
    expected = [compress(plane) for plane in planes]
    failures: list[int] = []

    def work(number: int) -> None:
        for _ in range(20):
            out = np.empty_like(planes[number])
            frame = compress(planes[number])
            decompress(memoryview(frame), out)
            if frame != expected[number] or out.tobytes() != planes[number].tobytes():
                failures.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_noise_by_hand() -> None:
    """Two of 512 bytes, two of each value, are equal with a chance of 1 in 511; of 768 skewed ones more often."""
    assert is_noise(np.full(256, 2))
    assert not is_noise(np.tile([1, 5], 128))


def test_noise_is_never_worth_coding() -> None:
    rng = np.random.default_rng(15)
    for skew in np.linspace(0, 1, 30):
        counts = np.bincount((256 * rng.random(1000) ** (1 + skew)).astype(np.uint8), minlength=256)
        assert not (is_noise(counts) and entropy(counts) < ENTROPY_LIMIT - 0.05)
    assert is_noise(np.bincount(rng.integers(0, 256, 1000), minlength=256))
