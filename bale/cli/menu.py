"""The choices that most people need, with results on a public checkpoint, measured by bench/quality/menu.py."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from bale.cli.render import figure, prose, table

FILE = Path(__file__).with_name("menu.json")
_BEHIND = (
    "1 - cosine: how far its sentence embeddings move, which are what it is for; SNR is of the weights alone. Models "
    "differ: compare yours. Low rank (svd, tucker, tt, cp) is for optimizer moments and differences, and ruins trained "
    "weights; positive+int:zero=float is for second moments. Reproduce: `make bench-menu` in a clone."
)


def lines(width: int | None = None) -> list[str]:
    """The menu for people, in a terminal of this width."""
    menu: dict[str, Any] = json.loads(FILE.read_text(encoding="utf-8"))
    rows = [
        (
            row["pipeline"],
            row["use"],
            f"{row['percent']} %",
            figure(row["bits"], ".2f"),
            figure(row["snr_db"], ".1f"),
            figure(row["divergence"], ".2g"),
        )
        for row in menu["rows"]
    ]
    head = ("-p", "what for", "of the file", "b/w", "SNR dB", "1 - cosine")
    listed = table(head, rows, left=2, width=width, spare=("SNR dB", "b/w"), wrap=True)
    return [
        *prose(f"What to choose, as measured on {menu['checkpoint']}:", width),
        *listed,
        *prose(_BEHIND, width or 118),
    ]
