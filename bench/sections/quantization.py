"""Bits and errors of lossy pipelines on MiniLM's encoder."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from pathlib import Path
from statistics import fmean

import bale
from bale.io.archive.archive import open_archive
from bench.common import Limit, page, table, workspace
from bench.models import MINILM, checkpoint
from bench.section import Run, Section

PATTERN = "encoder.layer.*.weight"


@dataclass(frozen=True)
class Goal:
    """Limits of a pipeline: bits a weight before entropy coding and as stored, and mean SNR in dB."""

    before: Limit | None = None
    stored: Limit | None = None
    snr: Limit | None = None


PIPELINES = {
    "int8": Goal(stored=Limit(7.3), snr=Limit(40, at_most=False)),
    "int:symmetric=true": Goal(stored=Limit(7.2)),
    "int:bits=6,group=64": Goal(),
    "int4": Goal(before=Limit(4.35), stored=Limit(3.88), snr=Limit(20.3, at_most=False)),
    "int:bits=4,group=128,symmetric=true": Goal(stored=Limit(3.4)),
    "int:bits=4,group=64,scale=fp8": Goal(),
    "int:bits=4,group=64,zero=float": Goal(),
    "int:bits=4,group=64,clip=mse": Goal(),
    "int:bits=4,group=32": Goal(),
    "int:bits=3,group=64": Goal(),
    "nf4": Goal(before=Limit(4.13), snr=Limit(20.3, at_most=False)),
    "nvfp4": Goal(snr=Limit(20.3, at_most=False)),
    "mxfp4": Goal(snr=Limit(18.4, at_most=False)),
    "mxfp6": Goal(),
    "mxfp8": Goal(),
    "fp8": Goal(),
    "codebook": Goal(),
    "codebook:bits=2": Goal(),
    "log:mu=255": Goal(),
    "log:bits=4,group=64": Goal(),
    "svd:ratio=0.5": Goal(),
    "svd:ratio=0.5+int8": Goal(),
}


TEXT = (
    f"The matrices of MiniLM's encoder: the tensors `{PATTERN}` with two dimensions, 36 of them, fp32. *Before* is "
    "arithmetic: all elements of all parts times their bits, scales and zero points included, before entropy coding. "
    "*Stored* is what the archive takes for these tensors by its own report, scales and zero points included. The "
    "SNR is the mean over the tensors; the relative error is over all of them together. These are errors of weights, "
    "which do not tell how well a model works. The low-rank rows show what low rank costs on trained weights."
)


def section(run: Run) -> str:
    source = checkpoint(run.models, MINILM)
    rows = [_row(source, pipeline, goal) for pipeline, goal in PIPELINES.items()]
    head = ("pipeline", "b/w before", "b/w stored", "mean SNR, dB", "relative error", "limits")
    return page(TEXT, table(head, rows))


def _row(source: Path, pipeline: str, goal: Goal) -> list[str]:
    with workspace() as work:
        recipe, archive = work / "recipe.toml", work / "model.bale"
        recipe.write_text(f'[[rule]]\nname = "{PATTERN}"\nmin_ndim = 2\npipeline = "{pipeline}"\n', encoding="utf-8")
        report = bale.compress(source, archive, recipe=recipe).to_json()
        tensors = {row["name"]: row for row in report["tensors"] if row["pipeline"] == pipeline}
        weights = sum(8 * row["stored_bytes"] / row["bits_per_weight"] for row in tensors.values())
        with open_archive(archive) as opened:
            units = [unit for unit in opened.manifest.units if unit.pipeline == pipeline]
        parts = [part for unit in units for part in unit.parts]
        before = sum(part.spec.elements * (part.bits or part.spec.info.bits) for part in parts) / weights
    stored = 8 * sum(row["stored_bytes"] for row in tensors.values()) / weights
    snr = fmean(row["snr_db"] for row in tensors.values())
    sums = [unit.errors for unit in units if unit.errors]
    error = sqrt(sum(each[0] for each in sums) / sum(each[1] for each in sums))
    limits = (("before", before, goal.before), ("stored", stored, goal.stored), ("SNR", snr, goal.snr))
    return [
        f"`{pipeline}`",
        f"{before:.3f}",
        f"{stored:.3f}",
        f"{snr:.2f}",
        f"{error:.4f}",
        "; ".join(f"{name} {limit.cell(value)}" for name, value, limit in limits if limit) or "-",
    ]


SECTION = Section("quantization", "Quantization", ("models",), section)
