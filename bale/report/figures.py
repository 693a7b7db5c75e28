"""Numbers as JSON holds them."""

from __future__ import annotations

import math


def finite_or_none(value: float | None) -> float | None:
    """A finite number, or None."""
    return value if value is not None and math.isfinite(value) else None


def ratio(numerator: float, denominator: float) -> float | None:
    """A quotient, or None where there is nothing to divide by."""
    return numerator / denominator if denominator else None
