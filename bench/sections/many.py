"""CPU time of all that reads tensor by tensor, over files of many of them."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from bench.common import BALE, PYTHON, Cost, Limit, median_cost, page, run_process, table, take_turns, workspace
from bench.section import Run, Section
from bench.synthetic import write_many

COUNTS = (10_000, 100_000)
VERIFY, IMPORT = "verify", "import bale.torch"
LOOKING = ("compare", "decompress --tensor '*'", "load_state_dict")
MOST = 2.0  # times the CPU time of `verify`
LINEAR = 1.2  # times the CPU time a tensor of the smallest count

TEXT = (
    "Files of many tensors, each with 64 to 2,048 elements of bf16, and their lossless archives: CPU seconds of whole "
    "processes, which take turns, with files on a file system in memory; medians of 3 rounds, of 100,000 tensors of "
    "one run. `compare` reads the file and the archive. `load_state_dict` of the archive includes the import of torch; "
    "*less the import* it is the seconds beyond those of `python -c 'import bale.torch'`. *Of verify* is the most that "
    "`compare`, `--tensor` and `load_state_dict` less the import take of the seconds of `verify`, held to {most:g}; "
    "*with the import* it is that of `load_state_dict` as a whole. *Growth* is the most that one of the four takes for "
    "a tensor, in times of that in the first row, held to {linear:g}."
)


def section(run: Run) -> str:
    counts = {count: by_count(count, rounds=3 if count < 100_000 else 0) for count in COUNTS[: 1 if run.quick else 2]}
    head = ("tensors", VERIFY, *(f"`{each}`" for each in LOOKING), "less the import", "of verify", "with the import")
    rows = [row(count, found, counts) for count, found in counts.items()]
    text = TEXT.format(most=MOST, linear=LINEAR)
    return page(text, table((*head, "limit", "growth", "limit of growth"), rows))


def by_count(count: int, rounds: int) -> dict[str, Cost]:
    """The cost of each way to look at a file of so many tensors; of one run each with no rounds."""
    with workspace(in_memory=2e9) as work:
        write_many(work / "m.safetensors", count)
        source, archive = work / "m.safetensors", work / "m.bale"
        quiet = ("-T", "2", "-q")
        run_process((BALE, "compress", source, "-o", archive, *quiet))
        load = f"import bale.torch; bale.torch.load_state_dict({str(archive)!r})"
        commands: dict[str, tuple[str | Path, ...]] = {
            VERIFY: (BALE, "verify", archive, *quiet),
            LOOKING[0]: (BALE, "compare", source, archive, *quiet),
            LOOKING[1]: (BALE, "decompress", archive, "--tensor", "*", "-o", work / "out.safetensors", "-f", *quiet),
            LOOKING[2]: (PYTHON, "-c", load),
            IMPORT: (PYTHON, "-c", "import bale.torch"),
        }
        contestants = {name: partial(run_process, command) for name, command in commands.items()}
        if not rounds:
            return {name: run() for name, run in contestants.items()}
        return {name: median_cost(costs) for name, costs in take_turns(contestants, rounds).items()}


def row(count: int, found: dict[str, Cost], counts: dict[int, dict[str, Cost]]) -> list[str]:
    """The row of a file."""
    verify, whole = found[VERIFY].cpu, found[LOOKING[2]].cpu
    share = max(cpu for name, cpu in seconds(found).items() if name != VERIFY) / verify
    least = min(counts)
    first = seconds(counts[least])
    growth = max(cpu / first[name] for name, cpu in seconds(found).items()) * least / count
    cells = [
        f"{count:,}",
        *(f"{found[name].cpu:.2f}" for name in (VERIFY, *LOOKING)),
        f"{seconds(found)[LOOKING[2]]:.2f}",
    ]
    cells += [f"{share:.2f}", f"{whole / verify:.2f}", Limit(MOST).cell(share)]
    return [*cells, *(("-", "-") if count == least else (f"{growth:.2f}", Limit(LINEAR).cell(growth)))]


def seconds(found: dict[str, Cost]) -> dict[str, float]:
    """CPU seconds that are compared: those of loading are less the import."""
    compared = {name: found[name].cpu for name in (VERIFY, *LOOKING)}
    return {**compared, LOOKING[2]: compared[LOOKING[2]] - found[IMPORT].cpu}


SECTION = Section("many", "Many tensors", (), section)
