"""Whole processes on a large file, against zstd: `python scripts/bench/process.py [--rounds N] [--gigabytes G]`."""

from __future__ import annotations

import json
import shutil
import struct
import sys
from pathlib import Path
from typing import BinaryIO

from common import (
    BALE,
    MEMORY,
    Limit,
    median_cost,
    median_ratio,
    page,
    parser,
    run_process,
    table,
    take_turns,
    workspace,
)

SIDE = 4096


def section(gigabytes: float = 1.0, rounds: int = 5) -> str:
    zstd = shutil.which("zstd")
    if zstd is None:
        print("zstd is not installed, so there is nothing to compare with: apt-get install zstd", file=sys.stderr)
    with workspace(in_memory=5e9 * gigabytes) as work:
        source, archive, frame = (work / name for name in ("model.safetensors", "model.bale", "model.zst"))
        write_synthetic(source, gigabytes)
        quiet = ("-T", "2", "-q", "-f")
        commands = {
            "bale compress": (BALE, "compress", source, "-o", archive, *quiet),
            "bale compress --no-verify": (BALE, "compress", source, "-o", archive, "--no-verify", *quiet),
        }
        if zstd:
            commands["zstd -3 -T2"] = (zstd, "-3", "-T2", "-q", "-f", source, "-o", frame)
        commands["bale decompress"] = (BALE, "decompress", archive, "-o", work / "back", *quiet)
        if zstd:
            commands["zstd -d"] = (zstd, "-d", "-q", "-f", frame, "-o", work / "back")
        costs = take_turns({name: lambda c=command: run_process(c) for name, command in commands.items()}, rounds)
        before = source.stat().st_size
        sizes = {"bale": archive.stat().st_size, "zstd": frame.stat().st_size if zstd else 0}
        in_memory = work.parent == MEMORY
    limits = {
        "bale compress": (Limit(1.5), Limit(1.3)),
        "bale compress --no-verify": (Limit(1.0), Limit(0.85)),
    }
    rows = []
    for name, found in costs.items():
        cost = median_cost(found)
        size = sizes[name.split()[0]]
        peer = "zstd -d" if name.endswith("-d") or "decompress" in name else "zstd -3 -T2"
        row = [f"`{name}`", f"{cost.wall:.2f}", f"{cost.cpu:.2f}", f"{100 * size / before:.2f}"]
        if zstd and name != peer:
            ratio = median_ratio(found, costs[peer])
            wall, cpu = limits.get(name, (None, None))
            row += [
                f"{ratio.wall:.2f}",
                f"{ratio.cpu:.2f}",
                f"wall {wall.cell(ratio.wall)}; CPU {cpu.cell(ratio.cpu)}" if wall and cpu else "-",
            ]
        else:
            row += ["-", "-", "-"]
        rows.append(row)
    place = "a file system in memory" if in_memory else "a disk, as there is no room in memory"
    head = ("process", "wall, s", "CPU, s", "size, %", "wall / zstd", "CPU / zstd", "limits")
    text = (
        f"A synthetic checkpoint of {before / 1e9:.2f} GB in bf16 on {place}: matrices of {SIDE} x {SIDE}, Gaussian "
        "with a scale for each row (log-normal, sigma 0.35), which is near to what language models hold. Two "
        f"threads. The commands take turns; times are medians of {rounds} rounds, ratios are medians of the ratios "
        "within a round. bale's times include the SHA-256 of the source, digests of everything, and, unless "
        "`--no-verify` is given, reading back and decoding the whole archive, and its SHA-256; zstd does none of that."
    )
    return page(text, table(head, rows))


def write_synthetic(path: Path, gigabytes: float, first: int = SIDE) -> None:
    """Write a bf16 safetensors file shaped like the weights of a language model.

    Its matrices have `SIDE` rows, but the first one `first`, and the last one what is left.
    """
    import ml_dtypes
    import numpy as np

    total = max(1, round(gigabytes * 1e9 / (2 * SIDE)))
    first = min(first, total)
    heights = [first, *(min(SIDE, total - start) for start in range(first, total, SIDE))]
    header, at = {}, 0
    for number, height in enumerate(heights):
        end = at + 2 * SIDE * height
        header[f"model.layers.{number}.weight"] = {
            "dtype": "BF16",
            "shape": [height, SIDE],
            "data_offsets": [at, end],
        }
        at = end
    generator = np.random.default_rng(1)
    with path.open("wb") as out:
        write_header(out, header)
        for height in heights:
            for start in range(0, height, SIDE):
                part = min(SIDE, height - start)
                scales = np.exp(generator.normal(-3.5, 0.35, (part, 1)).astype(np.float32))
                matrix = generator.standard_normal((part, SIDE), np.float32) * scales
                out.write(matrix.astype(ml_dtypes.bfloat16).tobytes())


def write_header(out: BinaryIO, header: dict[str, object]) -> None:
    """Begin a safetensors file."""
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    out.write(struct.pack("<Q", len(text)) + text)


if __name__ == "__main__":
    made = parser(__doc__, rounds=5)
    made.add_argument("--gigabytes", type=float, default=1.0, help="size of the file (%(default)s)")
    options = made.parse_args()
    print(section(options.gigabytes, options.rounds))
