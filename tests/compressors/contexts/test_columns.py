"""Columns of bytes put together into classes."""

import numpy as np

from bale.compressors.contexts.columns import class_columns


def counts_of(columns):
    return np.array([np.bincount(column, minlength=256) for column in columns]).astype(np.uint32)


def test_columns_that_are_alike_are_one_class():
    rng = np.random.default_rng(0)
    narrow, wide = rng.integers(100, 104, (6, 5000)), rng.integers(0, 256, (6, 5000))
    columns = [narrow[0], wide[0], wide[1], narrow[1], *wide[2:], *narrow[2:]]
    counts = counts_of(columns)
    classes, merged = class_columns(counts)
    assert classes.tolist() == [0, 1, 1, 0, 1, 1, 1, 1, 0, 0, 0, 0]
    assert merged.sum() == counts.sum()
    for number in range(2):
        assert (merged[number] == counts[classes == number].sum(axis=0)).all()


def test_one_column_is_one_class():
    classes, merged = class_columns(counts_of([[7, 7, 9]]))
    assert classes.tolist() == [0]
    assert merged[0, [7, 9]].tolist() == [2, 1]


def test_there_are_at_most_64_classes():
    columns = [np.full(5000, number) for number in range(256)]
    classes, merged = class_columns(counts_of(columns))
    assert len(merged) == 64
    assert set(classes.tolist()) == set(range(64))
