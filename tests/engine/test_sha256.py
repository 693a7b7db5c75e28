from __future__ import annotations

import hashlib

import numpy as np
import pytest

from bale.engine import sha256
from bale.engine.sha256 import Sha256


@pytest.mark.parametrize("beside", [False, True])
@pytest.mark.parametrize("sizes", [[], [1], [3, 0, 100], [1000] * 20])
def test_pieces_in_their_order(beside: bool, sizes: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sha256, "_LARGE", 100)
    pieces = [np.random.default_rng(size).integers(0, 256, size).astype(np.uint8) for size in sizes]
    with Sha256(beside=beside) as digest:
        for piece in pieces:
            digest.update(piece)
        assert digest.result() == hashlib.sha256(b"".join(piece.tobytes() for piece in pieces)).hexdigest()


def test_the_thread_ends_with_an_exception() -> None:
    digest = Sha256(beside=True)

    def fail() -> None:
        with digest:
            digest.update(np.zeros(10, np.uint8))
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert digest._thread is not None
    assert not digest._thread.is_alive()


def test_what_the_thread_raises_is_raised() -> None:
    with Sha256(beside=True) as digest:
        for _ in range(12):
            digest.update(np.zeros((8, 8), np.uint8)[:, ::2])  # not contiguous, which no digest takes
        with pytest.raises(BufferError):
            digest.result()
