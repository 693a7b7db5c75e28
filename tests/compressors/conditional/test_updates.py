"""How large updates are, by rows and columns."""

import numpy as np

from bale.compressors.conditional.numbers import Numbers
from bale.compressors.conditional.updates import Updates, choose_updates, merged
from bale.compressors.contexts.axes import Axis, axes_of
from bale.compressors.entropy import rans
from bale.compressors.kernels.differences import add_sizes, size_tokens

F32 = Numbers.of("F32", 32)


def sums_of(axis, most=1 << 20, skip=0):
    """Sums along an axis of the differences 1 to 24 to the known word 1.0."""
    sums, counts = np.zeros(axis.size), np.zeros(axis.size, np.int64)
    known = np.full(24, 0x3F800000, np.uint32)
    spacings = np.full(256, 2.0)
    sizes = np.arange(1, 25, dtype=np.uint32)
    add_sizes(sizes, known, F32.sign - 1, 23, spacings, axis.inner, axis.at, most, skip, sums, counts)
    return sums.tolist(), counts.tolist()


def test_sums_by_hand():
    assert sums_of(Axis(6, 0, 4)) == ([42, 114, 186, 258], [6] * 4)
    assert sums_of(Axis(6, 3, 5)) == ([12, 78, 150, 222, 138], [3, 6, 6, 6, 3])
    assert sums_of(Axis(1, 0, 4)) == ([132, 144, 156, 168], [6] * 4)
    assert sums_of(Axis(1, 1, 4))[1] == [6] * 4
    assert sums_of(Axis(6, 0, 4), most=2) == ([6, 30, 54, 78], [2] * 4)
    assert sums_of(Axis(1, 0, 4), skip=2) == ([28, 32, 36, 40], [2] * 4)
    assert sums_of(Axis(2, 0, 3), skip=1) == ([60, 76, 92], [4] * 3)


def test_rows_that_moved_differently_are_told_apart():
    rng = np.random.default_rng(1)
    base = rng.standard_normal((128, 256)).astype(np.float32)
    rows = np.where(rng.random((128, 1)) < 0.5, 1e-3, 0).astype(np.float32)
    now = base + rows * rng.standard_normal(base.shape).astype(np.float32)
    known, words = base.reshape(-1).view(np.uint32), now.reshape(-1).view(np.uint32)
    sizes, negative = F32.differences(words, known)
    tokens = np.empty(words.size, np.uint8)
    size_tokens(sizes, negative, tokens)
    updates = choose_updates(sizes, tokens, known, F32, axes_of(base.shape, 0, base.size))
    assert [axis.size for axis, _ in updates.axes] == [128]
    values = updates.axes[0][1]
    assert values[rows[:, 0] == 0].max() <= values[rows[:, 0] > 0].min() - 8
    contexts = updates.of(known, F32)
    assert contexts.max() < updates.contexts <= 64


def test_contexts_that_tell_nothing_are_merged():
    tokens = np.random.default_rng(2).integers(0, 4, 1000)
    contexts = (np.arange(1000) % 4).astype(np.uint8)
    counts = np.zeros((4, rans.TOKENS), np.uint32)
    np.add.at(counts, (contexts, tokens), 1)
    updates, found, table = merged(Updates((), 0, 3, 0), contexts, counts)
    assert updates == Updates()
    assert found.tolist() == [0]
    assert int(table.sum()) == 1000


def test_contexts_that_tell_much_are_kept():
    contexts = (np.arange(1000) % 4).astype(np.uint8)
    counts = np.zeros((4, rans.TOKENS), np.uint32)
    np.add.at(counts, (contexts, contexts), 1)
    updates, found, _ = merged(Updates((), 0, 3, 0), contexts, counts)
    assert updates.contexts == 4
    assert (found == contexts).all()
