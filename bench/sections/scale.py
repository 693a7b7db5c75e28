"""Cost by size of the file, number of tensors and largest tensor.

Without --large it takes files of up to 1 GB; with it 4 GB, and 3 GB with a tensor of 1 GB, which need 15 GB of room.
The plot goes to docs/scale.svg, unless the files are small ones.
"""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

from bench.common import BALE, Cost, Limit, median_cost, page, run_process, table, take_turns, workspace
from bench.plot import log_plot
from bench.section import Run, Section
from bench.synthetic import SIDE, write_many, write_synthetic

PLOT = "scale.svg"
MEGABYTES = (1, 16, 256, 1000, 4000)
COUNTS = (10, 100, 1_000, 10_000, 100_000)
COMPRESS, DECOMPRESS = "compress --no-verify", "decompress"
VERBS = (COMPRESS, "compress", DECOMPRESS)
LARGE, LONGEST = 3.0, 1.0  # GB: a file, and the longest tensor in it
PIPELINES = ("lossless", "lossless:effort=max", "int4")
START_UP = 0.5  # seconds that the whole process may take with a small file
GROWTH = 200e6  # bytes that memory may grow by, and so many more a thread
GROWTH_A_THREAD = 16e6
FLAT = 1.2

SIZES_TEXT = (
    "bf16 matrices as of language models, in files of several sizes; on a file system in memory up to 1 GB, on a disk "
    "above. Two threads. Seconds are per GB of source, medians of 3 rounds, above 1 GB of one run; the first sizes are "
    "start-up: *whole run* is the wall time of `bale compress`, held to {start} s for the smallest. *MB* is the peak "
    "of the process. The CPU time per GB of the largest file is held to {flat} times that of 256 MB."
)
COUNTS_TEXT = (
    "Files of many tensors, each with 64 to 2,048 elements of bf16. *Bytes a tensor* is what the archive holds beyond "
    "the tensors' own coded bytes: names, shapes and digests. Medians of 3 rounds, from "
    "10,000 tensors on of one run."
)
LARGE_TEXT = (
    "A file of {large:g} GB with one tensor of {longest:g} GB. *Beyond a small file* is the peak of compressing and "
    "verifying, and of decompressing, less that of a file of 100 kB with the same pipeline; it is held to 200 MB and "
    "16 MB a thread."
)


def section(run: Run) -> str:
    large, quick = run.large, run.quick
    """The section; the plot is written beside it."""
    sizes = {size: by_size(size) for size in MEGABYTES if size <= (16 if quick else 4000 if large else 1000)}
    counts = {count: by_count(count) for count in COUNTS if count <= (1_000 if quick else 100_000)}
    ticks = {float(size): f"{size} MB" if size < 1000 else f"{size // 1000} GB" for size in sizes}
    lines = {f"bale {verb}": [(size, found[verb].wall) for size, found in sizes.items()] for verb in VERBS}
    plot = log_plot("Wall time per GB, two threads", "file", "seconds per GB", lines, ticks)
    (run.plots / PLOT).write_text(plot, encoding="utf-8")
    seconds = [f"{verb}, {what}" for verb in VERBS for what in ("wall s/GB", "CPU s/GB", "MB")]
    parts = [
        page(SIZES_TEXT.format(flat=FLAT, start=START_UP), "![wall time per GB by size of the file](scale.svg)"),
        table(
            ("file", "whole run, s", *seconds, "limit"), [size_row(size, found, sizes) for size, found in sizes.items()]
        ),
        page(
            COUNTS_TEXT,
            table(
                ("tensors", "bytes a tensor", *(f"{verb}, {what}" for verb in VERBS for what in ("wall s", "MB"))),
                [count_row(count, *found) for count, found in counts.items()],
            ),
        ),
    ]
    if large or quick:
        scale = 0.01 if quick else 1.0
        head = ("pipeline", "threads", "compress, s", "decompress, s", "beyond a small file, MB", "limit")
        text = LARGE_TEXT.format(large=LARGE * scale, longest=LONGEST * scale)
        parts.append(page(text, table(head, largest(scale))))
    return "\n\n".join(parts)


def by_size(megabytes: int) -> dict[str, Cost]:
    """Each verb's cost, in seconds per GB."""
    with workspace(in_memory=3.5e6 * megabytes + 5e8 if megabytes <= 1000 else 0) as work:
        write_synthetic(work / "m", megabytes / 1000)
        found = measured(work, rounds=3 if megabytes < 4000 else 0)
    scale = 1000 / megabytes
    return {verb: Cost(cost.wall * scale, cost.cpu * scale, cost.peak) for verb, cost in found.items()}


def by_count(count: int) -> tuple[float, dict[str, Cost]]:
    """Bytes of the archive beyond coded tensors, for each of them, and each verb's cost."""
    with workspace(in_memory=2e9) as work:
        write_many(work / "m", count)
        found = measured(work, rounds=3 if count < 10_000 else 0)
        report = json.loads((work / "m.bale.report.json").read_text(encoding="utf-8"))
    return report["totals"]["overhead_bytes"] / count, found


def measured(work: Path, rounds: int) -> dict[str, Cost]:
    """Medians of each verb on `m`, taking turns; of one run each with no rounds."""
    archive, quiet = work / "m.bale", ("-T", "2", "-q", "-f")
    commands: dict[str, tuple[str | Path, ...]] = {
        verb: (BALE, *verb.split(), work / "m", "-o", archive, *quiet) for verb in VERBS if verb != DECOMPRESS
    }
    commands[DECOMPRESS] = (BALE, DECOMPRESS, archive, "-o", work / "back", *quiet)
    contestants = {verb: partial(run_process, command) for verb, command in commands.items()}
    if not rounds:
        return {verb: work() for verb, work in contestants.items()}
    return {verb: median_cost(costs) for verb, costs in take_turns(contestants, rounds).items()}


def largest(scale: float) -> list[list[str]]:
    """Rows of a file with one tensor that is a third of it."""
    with workspace() as work:
        write_synthetic(work / "small", 1e-4)
        write_synthetic(work / "m", LARGE * scale, first=round(LONGEST * scale * 1e9 / (2 * SIDE)))
        return [large_row(work, pipeline, threads) for pipeline in PIPELINES for threads in (1, 2)]


def large_row(work: Path, pipeline: str, threads: int) -> list[str]:
    found: dict[str, list[Cost]] = {}
    for name in ("small", "m"):
        archive, back = work / f"{name}.bale", work / "back"
        quiet = ("-T", str(threads), "-q", "-f")
        found[name] = [
            run_process((BALE, "compress", work / name, "-o", archive, "-p", pipeline, *quiet)),
            run_process((BALE, "decompress", archive, "-o", back, *quiet)),
        ]
        archive.unlink()
        back.unlink()
    growth = [large.peak - small.peak for large, small in zip(found["m"], found["small"], strict=True)]
    limit = Limit((GROWTH + GROWTH_A_THREAD * threads) / 1e6)
    return [
        f"`{pipeline}`",
        str(threads),
        *(f"{cost.wall:.1f}" for cost in found["m"]),
        " / ".join(f"{each / 1e6:.0f}" for each in growth),
        limit.cell(max(growth) / 1e6),
    ]


def size_row(megabytes: int, found: dict[str, Cost], sizes: dict[int, dict[str, Cost]]) -> list[str]:
    whole = found["compress"].wall * megabytes / 1000
    cells = [f"{megabytes:,} MB", f"{whole:.2f}"]
    for verb in VERBS:
        cost = found[verb]
        cells += [f"{cost.wall:.2f}", f"{cost.cpu:.2f}", f"{cost.peak / 1e6:.0f}"]
    if megabytes == min(sizes):
        return [*cells, Limit(START_UP).cell(whole)]
    if megabytes != max(sizes) or 256 not in sizes:
        return [*cells, "-"]
    ratio = max(found[verb].cpu / sizes[256][verb].cpu for verb in VERBS)
    return [*cells, Limit(FLAT).cell(ratio)]


def count_row(count: int, overhead: float, found: dict[str, Cost]) -> list[str]:
    cells = [f"{count:,}", f"{overhead:.0f}"]
    for verb in VERBS:
        cells += [f"{found[verb].wall:.2f}", f"{found[verb].peak / 1e6:.0f}"]
    return cells


SECTION = Section("scale", "Scale", (), section)
