"""How the cost of whole processes grows with the size of a file and with its tensors."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path

from bench.common import Cost, Limit, median_cost, page, run_process, table, take_turns, workspace
from bench.programs.measuring import LOSSLESS, ROWS, File, Key, told
from bench.section import Run
from bench.synthetic import write_many, write_synthetic

GROWING = (LOSSLESS, "int8")
SIZES = (0.1, 1.0, 4.0)
COUNTS = (100, 1_000, 10_000, 100_000)
LARGEST_SIZE, LARGEST_COUNT = 1.0, 10_000  # unless large files are asked for
GROWTH = Limit(1.2)

GROWTH_TEXT = (
    "**Growth**: CPU seconds per GB (and GB a second of wall time) by size of a bf16 file, and CPU seconds per "
    "1,000 tensors, with GB a second again, by number of matrices of 64 x 64 to 64 x 128. Medians of 3 rounds, of one "
    "run from 1 GB and from 10,000 tensors on. *Growth* is the most that one of the four costs grows from the row "
    "before, held to {growth:g}."
)


def growth(run: Run) -> str:
    return page(GROWTH_TEXT.format(growth=GROWTH.value), growth_of_size(run), growth_of_count(run))


def growth_of_size(run: Run) -> str:
    sizes = (0.005, 0.01) if run.quick else SIZES if run.large else [size for size in SIZES if size <= LARGEST_SIZE]
    found: dict[str, tuple[float, float, dict[Key, Cost]]] = {}
    for size in sizes:
        with workspace(in_memory=4 * size * 1e9) as work:
            write_synthetic(work / "m.safetensors", size)
            costs = growing(work, rounds=run.rounds(3) if size < 1 else 1)
        found[f"{size:g} GB"] = (size, size, costs)
        told(f"{size:g} GB")
    return growth_table("file", "CPU s/GB", found)


def growth_of_count(run: Run) -> str:
    counts = (10, 20) if run.quick else COUNTS if run.large else [each for each in COUNTS if each <= LARGEST_COUNT]
    found: dict[str, tuple[float, float, dict[Key, Cost]]] = {}
    for count in counts:
        with workspace(in_memory=6e4 * count + 1e8) as work:
            write_many(work / "m.safetensors", count, ROWS)
            gigabytes = (work / "m.safetensors").stat().st_size / 1e9
            costs = growing(work, rounds=run.rounds(3) if count < LARGEST_COUNT else 1)
        found[f"{count:,}"] = (count / 1000, gigabytes, costs)
        told(f"{count:,} tensors")
    return growth_table("tensors", "CPU s/1,000", found)


def growing(work: Path, rounds: int) -> dict[Key, Cost]:
    """Compressing and decompressing a file."""
    file = File.of(work / "m.safetensors", work)
    turns = {
        (verb, pipeline): partial(run_process, file.command(verb, pipeline))
        for pipeline in GROWING
        for verb in ("compress", "decompress")
    }
    return {key: median_cost(costs) for key, costs in take_turns(turns, rounds, uncounted=0).items()}


def growth_table(what: str, unit: str, found: Mapping[str, tuple[float, float, Mapping[Key, Cost]]]) -> str:
    """A row for each file: seconds per unit, and how they grew from the row before."""
    rows = []
    before: dict[Key, float] = {}
    for title, (units, gigabytes, costs) in found.items():
        each = {key: cost.cpu / units for key, cost in costs.items()}
        row = [title, *(f"{each[key]:.2f} ({gigabytes / cost.wall:.3f})" for key, cost in costs.items())]
        if before:
            growth = max(each[key] / before[key] for key in each)
            row += [f"{growth:.2f}", GROWTH.cell(growth)]
        else:
            row += ["-", "-"]
        rows.append(row)
        before = each
    heads = [f"`{verb}`, {pipeline}" for pipeline in GROWING for verb in ("compress", "decompress")]
    return table((f"{what}: {unit} (GB/s)", *heads, "growth", "limit"), rows)
