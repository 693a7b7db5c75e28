"""How many cases of a test run by default."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest


def few(cases: Iterable[Any], count: int) -> list[Any]:
    """The first cases for the default run, and the others for `make soak` alone; a tuple is several parameters."""
    whole = list(cases)
    others = (
        pytest.param(*(case if isinstance(case, tuple) else (case,)), marks=pytest.mark.soak) for case in whole[count:]
    )
    return [*whole[:count], *others]
