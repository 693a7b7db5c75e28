from __future__ import annotations

import shutil

import pytest

from bale.compressors.kernels import native


@pytest.fixture(autouse=True)
def built() -> None:
    """The loops are there, unless nothing is that could have built them."""
    if not native.available() and not any(map(shutil.which, ("cc", "gcc", "clang"))):
        pytest.skip("there is no C compiler")
    assert native.available(), "build them: make setup"
