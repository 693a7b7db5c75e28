"""Sizes, shares and bandwidths as people write them: 500MB, 1.5GiB, 62%, 100Mbit."""

from __future__ import annotations

import re
from math import isfinite

from bale.errors import UsageError

_UNITS = {"": 1, "B": 1}
_UNITS |= {f"{letter}B": 1000**power for power, letter in enumerate(("k", "M", "G", "T"), 1)}
_UNITS |= {f"{letter}iB": 1024**power for power, letter in enumerate(("K", "M", "G", "T"), 1)}
_NAMES = {name.upper(): factor for name, factor in _UNITS.items()}
_RATES = {f"{name[:-1]}BIT": factor / 8 for name, factor in _NAMES.items() if name.endswith("B")}
_RATES |= {name: factor for name, factor in _NAMES.items() if name}
_NUMBER = re.compile(r"\s*([0-9]+(?:\.[0-9]*)?|\.[0-9]+)\s*([A-Za-z%]*)\s*")


def parse_number(text: str, option: str, low: float, high: float) -> float:
    """A number in a range. Raises `UsageError`."""
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not (isfinite(value) and low <= value <= high):
        raise UsageError(f"{option} {text}: not a number from {low:g} to {high:g}")
    return value


def parse_bytes(text: str, option: str, whole: int) -> int:
    """Bytes: a number with or without a unit (MB is 10^6, MiB 2^20), or per cent of a whole, rounded down.

    Raises
    ------
    UsageError
        For anything else, and for nothing at all.
    """
    found = _NUMBER.fullmatch(text)
    unit = found[2] if found else None
    factor = whole / 100 if unit == "%" else _NAMES.get((unit or "").upper())
    if found is None or factor is None:
        raise UsageError(f"{option} {text}: not a size", "for example 500MB, 1.5GiB or 62%")
    size = int(float(found[1]) * factor)
    if size < 1:
        raise UsageError(f"{option} {text}: that is nothing", "for example 500MB, 1.5GiB or 62%")
    return size


def parse_bandwidth(text: str, option: str) -> float:
    """Bytes a second: bits with a unit like Mbit (10^6), or bytes with one like MB; either may end in /s.

    Raises
    ------
    UsageError
        For anything else, a number without a unit too, and for nothing at all.
    """
    found = _NUMBER.fullmatch(re.sub(r"/s\s*$", "", text))
    unit = found[2].upper() if found else ""
    factor = _RATES.get(unit)
    if found is None or factor is None:
        raise UsageError(f"{option} {text}: not a bandwidth", "for example 100Mbit, 1Gbit or 12MB (bytes a second)")
    rate = float(found[1]) * factor
    if not (isfinite(rate) and rate >= 1):
        raise UsageError(f"{option} {text}: that is nothing", "for example 100Mbit, 1Gbit or 12MB (bytes a second)")
    return rate
