"""What the benches share: taking turns, medians, limits and Markdown tables."""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TypeVar

ROOT = Path(__file__).resolve().parents[1]
PYTHON = Path(sys.executable)
BALE = PYTHON.with_name("bale")
MEMORY = Path("/dev/shm")
Name = TypeVar("Name")


# The peak that the system tells of a process begins with its parent's, so a small process starts what is measured.
LAUNCHER = """
import os, sys, time
begun = time.perf_counter()
silence = [(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)]
child = os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ, file_actions=silence)
_, status, usage = os.wait4(child, 0)
wall = time.perf_counter() - begun
print(os.waitstatus_to_exitcode(status), wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss)
"""
UNIT = 1 if sys.platform == "darwin" else 1024  # bytes in which the peak is told


@dataclass(frozen=True)
class Cost:
    """What one run of a process took: seconds, and bytes of memory at its peak."""

    wall: float
    cpu: float
    peak: float = 0


@dataclass(frozen=True)
class Limit:
    """A figure to reach; `cell` says whether a measured value does."""

    value: float
    at_most: bool = True

    def cell(self, found: float) -> str:
        met = found <= self.value if self.at_most else found >= self.value
        return f"{'≤' if self.at_most else '≥'} {self.value:g}: {'reached' if met else 'not reached'}"


def run_process(command: Sequence[str | Path], **given: str) -> Cost:
    """Run a command to its end, with more in its environment; its output is thrown away, its failure ends the bench.

    Python caches its bytecode in it, as it does unless the environment forbids it.
    """
    words = list(map(str, command))
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"} | given
    launcher = [str(PYTHON), "-I", "-S", "-c", LAUNCHER]
    done = subprocess.run([*launcher, *words], env=environment, capture_output=True, text=True, errors="replace")
    code, wall, cpu, peak = done.stdout.split() if not done.returncode else (done.returncode, 0, 0, 0)
    if int(code):
        sys.exit(f"{' '.join(words)} ended with {code}: {done.stderr.strip()}")
    return Cost(float(wall), float(cpu), UNIT * float(peak))


def take_turns(
    contestants: Mapping[Name, Callable[[], Cost]], rounds: int, uncounted: int = 1
) -> dict[Name, list[Cost]]:
    """Run each contestant once in every round, so that all meet the same machine; first rounds are not counted."""
    costs: dict[Name, list[Cost]] = {name: [] for name in contestants}
    for number in range(rounds + uncounted):
        for name, work in contestants.items():
            cost = work()
            if number >= uncounted:
                costs[name].append(cost)
    return costs


def median_cost(costs: Sequence[Cost]) -> Cost:
    return Cost(*(median(getattr(cost, key) for cost in costs) for key in ("wall", "cpu", "peak")))


def median_ratio(ours: Sequence[Cost], theirs: Sequence[Cost]) -> Cost:
    """Medians of the ratios within each round."""
    return Cost(
        median(a.wall / b.wall for a, b in zip(ours, theirs, strict=True)),
        median(a.cpu / b.cpu for a, b in zip(ours, theirs, strict=True)),
    )


def table(head: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> str:
    """A Markdown table, its first `left` columns to the left."""
    rule = ["---" if column < left else "--:" for column in range(len(head))]
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, rule, *rows))


def paragraph(text: str) -> str:
    """A text in lines."""
    return textwrap.fill(text, 120, break_long_words=False, break_on_hyphens=False)


def page(text: str, *tables: str) -> str:
    """A section: a paragraph, then tables."""
    return "\n\n".join((paragraph(text), *tables))


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def workspace(in_memory: float = 0) -> Iterator[Path]:
    """A folder for a while; on a file system in memory when asked for, if there is one with so many bytes free."""
    roomy = in_memory and os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free > in_memory
    place = MEMORY if roomy else None
    with tempfile.TemporaryDirectory(prefix="bale-bench-", dir=place) as folder:
        yield Path(folder)


def parser(doc: str | None, *, models: bool = False, rounds: int | None = None) -> argparse.ArgumentParser:
    """The options that benches have in common."""
    made = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    if models:
        made.add_argument("--models", type=Path, default=ROOT / ".models", help="folder of scripts/fetch_models.py")
    if rounds:
        made.add_argument("--rounds", type=int, default=rounds, help="measurements of each (%(default)s)")
    return made
