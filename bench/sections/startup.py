"""How soon the program answers."""

from __future__ import annotations

import subprocess
from functools import partial

from bench.common import (
    BALE,
    PYTHON,
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
from bench.synthetic import write_synthetic

FLOOR = "python -c 'import typer, rich.console'"
COMPRESS = "bale compress small"
SMALL = 1e-4  # GB
HEAVY = ("numpy", "scipy", "torch", "numba")


def section(run: Run) -> str:
    rounds = run.rounds(15)
    with workspace() as work:
        write_synthetic(work / "small", SMALL)
        commands = {
            FLOOR: (PYTHON, "-c", "import typer, rich.console"),
            "bale --help": (BALE, "--help"),
            "bale --version": (BALE, "--version"),
            COMPRESS: (BALE, "compress", work / "small", "-f", "-q"),
        }
        costs = take_turns({name: partial(run_process, command) for name, command in commands.items()}, rounds)
        imported = {name: _imported(list(map(str, command[1:]))) for name, command in commands.items() if name != FLOOR}
    rows = []
    for name, found in costs.items():
        cost, ratio = median_cost(found), median_ratio(found, costs[FLOOR])
        row = [f"`{name}`", f"{1000 * cost.wall:.0f}", f"{1000 * cost.cpu:.0f}"]
        if name != FLOOR:
            limit = f"{Limit(0.5).cell(cost.wall)} (s)" if name == COMPRESS else Limit(2).cell(ratio.wall)
            row += [f"{ratio.wall:.2f}", limit, ", ".join(imported[name]) or "none"]
        else:
            row += ["-", "-", "-"]
        rows.append(row)
    head = ("process", "wall, ms", "CPU, ms", "wall / first row", "limit", f"of {', '.join(HEAVY)} imported")
    text = (
        "The commands take turns with a bare import of the two libraries that print; times are medians of "
        f"{rounds} rounds, with files in the page cache. The small file has {1e6 * SMALL:.0f} kB in bf16; it is "
        "compressed, read back and verified."
    )
    return page(text, table(head, rows))


def _imported(arguments: list[str]) -> list[str]:
    """Which of the heavy libraries a run of bale imports."""
    code = (
        "import sys, contextlib, io\n"
        "from bale.cli.app import run\n"
        "with contextlib.redirect_stdout(io.StringIO()):\n"
        f"    run({arguments!r})\n"
        f"print(*(name for name in {HEAVY!r} if name in sys.modules))\n"
    )
    return subprocess.run([PYTHON, "-c", code], capture_output=True, text=True, check=True).stdout.split()


SECTION = Section("startup", "Start-up", (), section)
