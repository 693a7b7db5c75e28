"""Tensors are cut into groups."""

import numpy as np
import pytest

from bale.compressors.quantizers import groups
from bale.compressors.quantizers.groups import Groups
from bale.spec import TensorSpec


def numbers(cut, size, edges=()):
    """The number of the group of each element, met in blocks."""
    found = np.full(size, -1)
    for start, stop in zip([0, *edges], [*edges, size], strict=True):
        for piece in cut.slices(start, stop - start):
            piece.of(found[start:stop])[:] = piece.spread(np.arange(piece.groups.start, piece.groups.stop))
    return found


@pytest.mark.parametrize(
    ("group", "height", "expected"),
    [
        ("row", 1, [0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2]),
        ("row", 2, [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1]),
        ("column", 1, [0, 1, 2, 3, 4, 0, 1, 2, 3, 4, 0, 1, 2, 3, 4]),
        ("tensor", 1, [0] * 15),
        (4, 1, [0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3]),
        (2, 2, [0, 0, 1, 1, 2, 0, 0, 1, 1, 2, 3, 3, 4, 4, 5]),
        (9, 9, [0] * 15),
    ],
)
def test_by_hand(group, height, expected):
    cut = Groups.of(TensorSpec("F32", (3, 5)), group, height)
    assert cut.count == max(expected) + 1
    assert numbers(cut, 15).tolist() == expected
    for edge in range(16):
        assert numbers(cut, 15, (edge,)).tolist() == expected
    assert numbers(cut, 15, tuple(range(1, 15))).tolist() == expected


def test_reducing_follows_the_runs():
    x = np.random.default_rng(0).normal(size=(7, 30)).astype(np.float32).reshape(-1)
    for group, height in (("row", 1), ("column", 1), (7, 3), (11, 1)):
        cut = Groups.of(TensorSpec("F32", (7, 30)), group, height)
        least = np.full(cut.count, np.inf, np.float32)
        for piece in cut.slices(0, x.size):
            np.minimum(least[piece.groups], piece.reduce(np.minimum, piece.of(x)), out=least[piece.groups])
        of = numbers(cut, x.size)
        assert least.tolist() == [x[of == group].min() for group in range(cut.count)]


@pytest.mark.parametrize("shape", [(), (1,), (9,), (1, 9)])
def test_vectors_are_one_row(shape):
    for group in ("row", "column", "tensor"):
        assert Groups.of(TensorSpec("F32", shape), group).count == 1


def test_blocks(monkeypatch):
    monkeypatch.setattr(groups, "LONGEST_IN_A_BLOCK", 20)
    spec = TensorSpec("F32", (3, 20))
    for group, height, multiple, whole in (
        ("row", 1, 20, True),
        ("row", 2, 1, False),
        ("column", 1, 20, False),
        ("tensor", 1, 1, False),
        (8, 1, 8, True),
        (8, 2, 20, False),
    ):
        cut = Groups.of(spec, group, height)
        assert (cut.multiple, cut.whole) == (multiple, whole)
