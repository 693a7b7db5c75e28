"""Whole processes on one file: bale's verbs by pipeline, and peers beside them, as costs that can be compared."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from bale.engine.reading.open import open_tensors
from bench.common import BALE, ROOT, Cost, median_cost, run_process, take_turns
from bench.synthetic import write_synthetic

VERBS = ("compress", "compress --no-verify", "decompress", "verify", "compare", "plan")
TURNS = (VERBS[:2], VERBS[2:3], VERBS[3:])
"""Verbs that take turns with one another; what is restored must have been written."""

THREADS = 2
LOSSLESS = "lossless"
ROWS = 64  # of the matrices of files of many
Key = tuple[str, str]
"""A verb and a pipeline, or a verb and a peer."""


@dataclass(frozen=True)
class File:
    """A checkpoint, with room for what is made of it.

    Attributes
    ----------
    path, folder : Path
        The file, and where archives go.
    weights, size : int
        Elements and bytes of the file.
    dtype : str
        Of its tensors.
    """

    path: Path
    folder: Path
    weights: int
    size: int
    dtype: str

    @staticmethod
    def of(path: Path, folder: Path) -> File:
        with open_tensors(path) as opened:
            weights = sum(spec.elements for spec in opened.specs.values())
            (dtype, *_) = [spec.dtype for spec in opened.specs.values() if spec.is_float]
        return File(path, folder, weights, path.stat().st_size, dtype)

    def archive(self, name: str) -> Path:
        """What a pipeline or a peer makes of the file."""
        return self.folder / ("".join(letter if letter.isalnum() else "-" for letter in name) + ".out")

    def command(self, verb: str, pipeline: str) -> tuple[str | Path, ...]:
        """How bale does it."""
        archive, quiet, given = self.archive(pipeline), ("-T", str(THREADS), "-q"), ("-p", pipeline)
        commands: dict[str, tuple[str | Path, ...]] = {
            "compress": (BALE, "compress", self.path, "-o", archive, *given, "-f", *quiet),
            "compress --no-verify": (BALE, "compress", self.path, "-o", archive, *given, "--no-verify", "-f", *quiet),
            "decompress": (BALE, "decompress", archive, "-o", self.folder / "back", "-f", *quiet),
            "verify": (BALE, "verify", archive, *quiet),
            "compare": (BALE, "compare", self.path, archive, *quiet),
            "plan": (BALE, "plan", self.path, *given, *quiet),
        }
        return commands[verb]


@dataclass
class Peer:
    """A peer of bench/peers/whole.py on a file, or on a part of it.

    What was measured on a part is scaled to the whole file, but for the seconds beyond the work: those of imports.

    Attributes
    ----------
    python : Path
        Of the virtual environment in which it is installed.
    source, out : Path
        What it reads and writes.
    options : tuple of str
        Further words of its command.
    share : float
        How much of the file was taken, once it ran.
    coding : list of Cost
        Coding alone, of all runs, scaled to the whole file.
    """

    method: str
    python: Path
    source: Path
    out: Path
    weights: int
    options: tuple[str, ...] = ()
    share: float = 1.0
    taken: int = 0
    coding: list[Cost] = field(default_factory=list)

    def run(self) -> Cost:
        times = self.out.with_suffix(".json")
        words: tuple[str | Path, ...] = (self.method, self.source, self.out, times, *self.options)
        cost = run_process((self.python, "-m", "bench.peers.whole", *words), PYTHONPATH=str(ROOT), TQDM_DISABLE="1")
        found: dict[str, Any] = json.loads(times.read_text(encoding="utf-8"))
        self.share = found["weights"] / self.weights if found["weights"] else 1.0
        self.taken = found["bytes"]
        more = 1 / self.share - 1
        self.coding.append(Cost(found["coding"]["wall"] / self.share, found["coding"]["cpu"] / self.share))
        work = found["work"]
        return Cost(cost.wall + more * work["wall"], cost.cpu + more * work["cpu"], cost.peak)


@dataclass
class Measured:
    """Costs on a file, a list a contestant with an entry a round; contestants of the same verb ran in turns."""

    file: File
    costs: dict[Key, list[Cost]]
    peers: Mapping[Key, Peer]
    sizes: dict[str, int]

    def size(self, name: str) -> float:
        """Per cent of what was coded."""
        taken = [peer.taken for (_, each), peer in self.peers.items() if each == name]
        return 100 * self.sizes[name] / (taken[0] if taken else self.file.size)

    def rate(self, cost: Cost) -> str:
        """GB of source a second of wall time, as a cell."""
        return f"{self.file.size / 1e9 / cost.wall:.3f}"

    def per_weights(self, cost: Cost) -> Cost:
        """Seconds for 100 million weights."""
        scale = 1e8 / self.file.weights
        return Cost(cost.wall * scale, cost.cpu * scale, cost.peak)

    def cpu_ratio(self, ours: Key, theirs: Key, alone: bool = False) -> float:
        """The median of the ratios within a round; to a peer's coding alone if asked for."""
        costs = self.costs[ours]
        others = self.peers[theirs].coding if alone else self.costs[theirs]
        if len(others) != len(costs):
            return median_cost(costs).cpu / median_cost(others).cpu
        return median(a.cpu / b.cpu for a, b in zip(costs, others, strict=True))

    def wall_ratio(self, ours: Key, theirs: Key) -> float:
        return median(a.wall / b.wall for a, b in zip(self.costs[ours], self.costs[theirs], strict=True))


def measured(
    file: File,
    pipelines: Sequence[str],
    rounds: Mapping[str, int],
    peers: Mapping[Key, Peer] | None = None,
    programs: Mapping[Key, tuple[str | Path, ...]] | None = None,
    seldom: Sequence[Key] = (),
) -> Measured:
    """Each pipeline's verbs, peers and other programs, those of a group of verbs in turns.

    Rounds are told by the first verb of a group, 0 for leaving it out; what is `seldom` runs once. The first round
    counts: a small file went through every pipeline before.
    """
    peers, programs = peers or {}, programs or {}
    costs: dict[Key, list[Cost]] = {}
    for verbs in TURNS:
        if count := rounds.get(verbs[0], 0):
            turns: dict[Key, Callable[[], Cost]] = {}
            rare: dict[Key, Callable[[], Cost]] = {}
            for verb in verbs:
                commands = {(verb, name): file.command(verb, name) for name in pipelines}
                commands |= {key: command for key, command in programs.items() if key[0] == verb}
                for key, command in commands.items():
                    (rare if key in seldom else turns)[key] = partial(run_process, command)
                for key, peer in peers.items():
                    if key[0] == verb:
                        (rare if key in seldom else turns)[key] = peer.run
            costs |= take_turns(turns, count, uncounted=0)
            costs |= take_turns(rare, 1, uncounted=0)
    names = dict.fromkeys(name for verb, name in costs if verb == "compress")
    return Measured(file, costs, peers, {name: file.archive(name).stat().st_size for name in names})


def warm(pipelines: Sequence[str], folder: Path) -> None:
    """Run all that is measured on a small file, so that bytecode and libraries are in the page cache."""
    write_synthetic(folder / "small", 1e-4)
    small = File.of(folder / "small", folder)
    for pipeline in pipelines:
        for verb in ("compress", "decompress"):
            run_process(small.command(verb, pipeline))


def told(what: str) -> None:
    print(what, "measured", file=sys.stderr, flush=True)
