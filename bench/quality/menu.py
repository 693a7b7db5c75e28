"""Measure the choices that `bale codecs` begins with, and write them down: `python -m bench.quality.menu`.

Sizes and errors are those of the report of `bale compress MODEL -p PIPELINE`; the divergence is 1 - cosine of MiniLM's
embeddings, asked as for docs/quality.md. Runs in a venv with torch and transformers, as `make bench-quality` does.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

import bale
from bench.common import ROOT, parser, workspace
from bench.quality.models import MiniLM

MENU = ROOT / "bale" / "cli" / "menu.json"


def main() -> None:
    options = parser(__doc__, models=True).parse_args()
    menu = json.loads(MENU.read_text(encoding="utf-8"))
    model = MiniLM(options.models)
    for row in menu["rows"]:
        row |= measured(model, row["pipeline"])
        print(row, file=sys.stderr, flush=True)
    MENU.write_text(written(menu), encoding="utf-8")


def measured(model: MiniLM, pipeline: str) -> dict[str, Any]:
    with workspace() as work:
        archive: Path = work / "menu.bale"
        totals = bale.compress(model.path, archive, pipeline=pipeline).to_json()["totals"]
        with bale.open(archive) as tensors:
            weights = {name: np.asarray(tensors[name]) for name in model.tensors}
        snr = totals["snr_db"]
        return {
            "percent": round(100 / totals["ratio"], 1),
            "bits": round(totals["bits_per_weight"], 2),
            "snr_db": None if snr is None else round(snr, 1),
            "divergence": None if snr is None else float(f"{model.score(weights).divergence:.2g}"),
        }


def written(menu: dict[str, Any]) -> str:
    """JSON with a line for each choice."""
    rows = ",\n".join("  " + json.dumps(row) for row in menu["rows"])
    return f'{{\n "checkpoint": {json.dumps(menu["checkpoint"])},\n "rows": [\n{rows}\n ]\n}}\n'


if __name__ == "__main__":
    main()
