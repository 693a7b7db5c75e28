from bale.compressors.contexts.axes import Axis, axes_of


def test_axes_are_seen_as_a_chunk_meets_them():
    assert axes_of((100, 64), 0, 6400) == [Axis(1, 0, 64), Axis(64, 0, 100)]
    assert axes_of((1000, 64), 130, 6400) == [Axis(1, 2, 64), Axis(64, 2, 101)]  # rows are counted from the first met
    assert axes_of((8, 1, 32, 16), 0, 4096) == [Axis(1, 0, 16), Axis(16, 0, 32), Axis(512, 0, 8)]
    assert axes_of((7,), 0, 7) == axes_of((), 0, 1) == axes_of((0, 4), 0, 0) == []
