"""Running models from archives: memory and CPU of loading, and linear modules whose weights stay compressed."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from statistics import median
from typing import Any

from bench.common import BALE, PYTHON, ROOT, Limit, page, run_process, table, workspace
from bench.section import Run, Section
from bench.synthetic import write_synthetic

PIPELINES = {"lossless": "lossless", "int8": "int8", "int4": "int:bits=4,group=64", "trellis": "trellis:bits=4"}
PEAKS = {"lossless": 1.02, "int8": 1.08, "int4": 1.08, "trellis": 1.08}
GIGABYTE = 30 * 4096 * 4096 * 2 / 1e9  # of whole matrices
BATCHES = (1, 4, 16, 64)
FASTER = {"int4": 4.0, "int8": 2.0, "svd, half": 1.5}
SHARE = 0.85
"""Of what torch's own operation gains, where that is less than the goal."""


def section(run: Run) -> str:
    size, small, rounds = (GIGABYTE / 32, GIGABYTE / 128, 1) if run.quick else (GIGABYTE, GIGABYTE / 128, 2)
    with workspace() as work:
        rows = _loading(work, size, small, rounds)
    times = _python("bench.programs.multiplying", "5" if run.quick else "41", *map(str, BATCHES))
    text = (
        f"{size:.2g} GB of synthetic bf16 weights into a model on the meta device, each way in a process of its own "
        f"that has loaded a small file before; medians of {rounds}. *Peak* is memory beyond what the process had, in "
        "times of the dense weights; *held* what the model keeps. Below: one weight of 5632 x 2048 and a batch of "
        "tokens, all in BF16; medians of modules that take turns. *Of one token* is dense over kept, whose limit is "
        "the goal, or 0.85 of what torch's operation gains by itself."
    )
    head = ("archive", "way", "CPU, s", "peak", "held", "limit of the peak")
    return page(text, table(head, rows, 2), _multiplying(times))


def _loading(work: Path, size: float, small: float, rounds: int) -> list[list[str]]:
    files = {"large": size, "small": small}
    for name, gigabytes in files.items():
        write_synthetic(work / f"{name}.safetensors", gigabytes)
    rows = [_row(work, "safetensors", "safetensors", ".safetensors", rounds)]
    for name, pipeline in PIPELINES.items():
        for file in files:
            source, out = work / f"{file}.safetensors", work / f"{file}.bale"
            run_process((BALE, "compress", source, "-p", pipeline, "-o", out, "-f", "-q", "--no-verify"))
        ways = ["load_into", "load_state_dict"] + (["load_into, kept"] if name.startswith("int") else [])
        rows += [_row(work, name, way, ".bale", rounds) for way in ways]
    return rows


def _row(work: Path, name: str, way: str, suffix: str, rounds: int) -> list[str]:
    paths = [str(work / f"{file}{suffix}") for file in ("small", "large")]
    found = [_python("bench.programs.loading", way, *paths) for _ in range(rounds)]
    weights = (work / "large.safetensors").stat().st_size
    cpu, peak, held = (median(each[key] for each in found) for key in ("cpu", "peak", "held"))
    limit = Limit(PEAKS[name]).cell(peak / weights) if way == "load_into" else "-"
    return [name, f"`{way}`", f"{cpu:.1f}", f"{peak / weights:.3f}", f"{held / weights:.3f}", limit]


def _multiplying(times: dict[str, dict[str, float]]) -> str:
    head = (
        "weight",
        *(f"{batch} tokens, ms" if batch > 1 else "1 token, ms" for batch in BATCHES),
        "of one token",
        "limit",
    )
    rows = []
    for name, taken in times.items():
        gain = times["dense"]["1"] / taken["1"]
        least = FASTER.get(name)
        operation = times.get(f"{name}, the operation")
        if least is not None and operation is not None:
            least = min(least, SHARE * times["dense"]["1"] / operation["1"])
        limit = "-" if least is None else Limit(round(least, 2), at_most=False).cell(gain)
        rows.append([name, *(f"{taken[str(batch)]:.2f}" for batch in BATCHES), f"{gain:.2f}", limit])
    return table(head, rows)


def _python(module: str, *arguments: str) -> Any:
    """What one of our programs prints; it runs in a small process' child, so that peaks are its own."""
    done = subprocess.run([str(PYTHON), "-m", module, *arguments], capture_output=True, text=True, check=True, cwd=ROOT)
    return json.loads(done.stdout)


SECTION = Section("running", "Running models", (), section)
