"""Lines on a folder, to stand below the sums of all its files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bale.cli.render import many, percent, size

Figures = Mapping[str, Any]


def beside_totals(totals: Figures, copied: Figures | None, stored: str = "stored_bytes") -> list[str]:
    """A line on the weights alone, where they differ from the whole, and one on the files that are copied.

    Parameters
    ----------
    totals : mapping
        Those of a report, a plan, or a source that is inspected, which has no stored bytes.
    copied : mapping or None
        The object that stands under ``copied``; None where the source is a file.
    stored : str
        The key of the stored bytes.
    """
    weights, lines = totals["weights"], []
    keys = [key for key in ("original_bytes", stored) if key in totals]
    if size(weights["original_bytes"]) != size(totals["original_bytes"]):
        sizes = " -> ".join(size(weights[key]) for key in keys)
        share = f" ({percent(weights[stored], weights['original_bytes'])})" if stored in totals else ""
        lines.append(f"weights: {sizes}{share}")
    if copied is not None and copied["files"]:
        largest, they = copied["largest"], "it is" if copied["files"] == 1 else "they are"
        named = largest if copied["files"] == 1 else f"largest {largest}, {size(copied['largest_bytes'])}"
        other = many(copied["files"], "other file")
        marked = f", but that {copied['marked']} names bale" if copied["marked"] else ""
        lines.append(f"{other}, {size(copied['bytes'])}, copied as {they} ({named}){marked}")
    return lines
