"""Compare what `bale advise` predicts with what `bale compress` makes: `python scripts/advice_table.py [MODELS]`.

Prints the table of docs/advise.md. Archives are written to a temporary folder, and removed.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import bale
from bale.planning.budget import make_budget

SOURCES = (
    "minilm/model.safetensors",
    "whisper/whisper-base-fp16.safetensors",
    "crepe/full.pth",
    "resemblyzer/pretrained.pt",
    "efficientnet/efficientnet-lite0-57934424.pth",
    "sudachi/model.pth",
)
COLUMNS = ("", "-p lossless:effort=max", "--max-error 0.05", "--bits 4.5", "--bits 2.5")


def main() -> int:
    models = Path(sys.argv[1] if len(sys.argv) > 1 else ".models")
    print("| source | " + " | ".join(f"`{each}`" if each else "lossless" for each in COLUMNS) + " | low rank | s |")
    print("|---" * (len(COLUMNS) + 3) + "|")
    for name in SOURCES:
        if (models / name).exists():
            print(row(models / name), flush=True)
    return 0


def row(source: Path) -> str:
    began = time.process_time()
    advice = bale.advise(source)
    seconds = time.process_time() - began
    predicted = {choice.options: choice for choice in advice.choices}
    cells = []
    with tempfile.TemporaryDirectory() as folder:
        for column in COLUMNS:
            if column not in predicted:
                cells.append("-")
                continue
            size, error = real(source, column, Path(folder) / "archive.bale")
            off = 100 * (predicted[column].size / size - 1)
            both = f" ({predicted[column].error:.3g} / {error:.3g})" if error else ""
            cells.append(f"{off:+.2f} %{both}")
    return f"| {source.parent.name} | " + " | ".join(cells) + f" | {len(advice.low_rank)} | {seconds:.1f} |"


def real(source: Path, options: str, out: Path) -> tuple[int, float]:
    """Bytes and error that `compress` comes to."""
    option, _, value = options.partition(" ")
    if option in ("", "-p"):
        report = bale.compress(source, out, pipeline=value or None, force=True)
    else:
        key = option.lstrip("-").replace("-", "_")
        report = bale.compress(source, out, budget=make_budget(**{key: value}), force=True)
    return out.stat().st_size, report.to_json()["totals"]["relative_error"] or 0.0


if __name__ == "__main__":
    sys.exit(main())
