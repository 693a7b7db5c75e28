"""Whole processes on a large file, against zstd."""

from __future__ import annotations

import shutil
import sys
from functools import partial

from bench.common import (
    BALE,
    MEMORY,
    Limit,
    median_cost,
    median_ratio,
    page,
    run_process,
    table,
    take_turns,
    workspace,
)
from bench.section import Run, Section
from bench.synthetic import SIDE, write_synthetic


def section(run: Run) -> str:
    gigabytes, rounds = 0.01 if run.quick else 1.0, run.rounds(5)
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
        costs = take_turns({name: partial(run_process, command) for name, command in commands.items()}, rounds)
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


SECTION = Section("process", "Whole processes against zstd", ("zstd",), section)
