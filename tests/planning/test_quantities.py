"""Sizes, shares and bandwidths as people write them."""

from __future__ import annotations

import pytest

from bale.errors import UsageError
from bale.planning.quantities import parse_bandwidth, parse_bytes, parse_number


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("1000", 1000),
        ("1000B", 1000),
        ("500MB", 500_000_000),
        ("500mb", 500_000_000),
        ("1.5GiB", 3 << 29),
        ("1.5 GiB", 3 << 29),
        ("2kB", 2000),
        ("2KiB", 2048),
        ("62%", 620),
        (".5%", 5),
        ("1TB", 10**12),
    ],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_bytes(text, "--max-size", 1000) == size


@pytest.mark.parametrize("text", ["", "MB", "-5MB", "5 apples", "1e3", "0", "0%", "1,5MB", "5MBit", "nan", "0.4B"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(UsageError, match="--max-size"):
        parse_bytes(text, "--max-size", 1000)


def test_numbers() -> None:
    assert parse_number("4.25", "--bits", 0.1, 20) == 4.25
    for text in ("", "x", "nan", "inf", "0", "21", "4,25"):
        with pytest.raises(UsageError, match=r"--bits .*not a number from 0.1 to 20"):
            parse_number(text, "--bits", 0.1, 20)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("100Mbit", 12.5e6),
        ("100 mbit/s", 12.5e6),
        ("1Gbit", 125e6),
        ("1Gibit", 2**30 / 8),
        ("12MB", 12e6),
        ("1.5GiB/s", 1.5 * 2**30),
        ("800bit", 100),
        ("64kB", 64000),
    ],
)
def test_bandwidths(text: str, expected: float) -> None:
    assert parse_bandwidth(text, "--bandwidth") == expected


@pytest.mark.parametrize(
    "text", ["", "fast", "100", "-1MB", "1e3MB", "62%", "0Mbit", "1Mbps", "9" * 400 + "MB", "0.1bit"]
)
def test_what_is_no_bandwidth(text: str) -> None:
    with pytest.raises(UsageError, match="--bandwidth") as caught:
        parse_bandwidth(text, "--bandwidth")
    assert "for example 100Mbit" in caught.value.hint
