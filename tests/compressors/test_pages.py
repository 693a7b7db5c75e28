"""Memory that is given back piece by piece."""

import sys

import pytest

from bale.compressors.pages import Pages


def test_what_is_not_given_back_stays():
    pages = Pages(10 << 12)
    pages.array[:] = 7
    pages.free(5000, 9 * 4096 + 1)
    assert (pages.array[:8192] == 7).all()
    assert (pages.array[9 * 4096 :] == 7).all()
    pages.free(100, 200)
    assert (pages.array[:8192] == 7).all()
    assert Pages(0).array.size == 0


@pytest.mark.skipif(sys.platform != "linux", reason="the call is Linux's")
def test_what_is_given_back_is_gone():
    pages = Pages(10 << 12)
    pages.array[:] = 7
    pages.free(5000, 9 * 4096 + 1)
    assert not pages.array[8192 : 9 * 4096].any()
