"""The lossless codec against ZipNN: whole tensors and chunks of them, in turns."""

from __future__ import annotations

from pathlib import Path

from bench.common import Limit, page, table
from bench.models import CREPE, MINILM, WHISPER, checkpoint
from bench.peers import venvs
from bench.section import Run, Section

SPEEDS = {
    "synthetic BF16": (Limit(1.8, False), Limit(1.35, False)),
    "synthetic F32": (Limit(3, False), Limit(1.5, False)),
}
"""Least ratios of speed, compressing and decompressing."""

MORE_THAN_ZIPNN = 0.06  # points
TEXT = (
    "bale's default codec, without an archive and its digests, against {zipnn}: one "
    "thread each, in one process, in turns on the same tensors. MB/s are per second of CPU time, medians of the "
    "rounds; ratios are medians of the ratios within a round. No code is compiled at run time. The synthetic sets "
    f"are Gaussian matrices with a log-normal scale for each row. *Size* is held to ZipNN's plus {MORE_THAN_ZIPNN} "
    "points."
)
HEAD = ("data", "bale, %", "ZipNN, %", "compress, MB/s", "ZipNN", "ratio", "decompress, MB/s", "ZipNN", "ratio")


def section(run: Run) -> str:
    files = [checkpoint(run.models, name) for name in (MINILM, WHISPER, CREPE)]
    rows = [row for arguments in ([], files) for row in _rows(run, arguments)]
    text = TEXT.format(zipnn=venvs.versions(run.lossless, ["zipnn"]))
    return page(text, table((*HEAD, "limits"), rows))


def _rows(run: Run, arguments: list[Path]) -> list[list[str]]:
    printed = venvs.call(run.lossless, "bench.peers.zipnn", "--markdown", f"--rounds={run.rounds(5)}", *arguments)
    rows = [[cell.strip() for cell in line.strip("| ").split("|")] for line in printed.splitlines()[2:]]
    for row in rows:
        allowed = Limit(round(float(row[2]) + MORE_THAN_ZIPNN, 2))
        limits = [f"size {allowed.cell(float(row[1]))}"]
        if row[0] in SPEEDS:
            compress, decompress = SPEEDS[row[0]]
            limits.append(f"compress {compress.cell(float(row[5]))}")
            limits.append(f"decompress {decompress.cell(float(row[8]))}")
        row.append("; ".join(limits))
    return rows


SECTION = Section("codec", "The lossless codec against ZipNN", ("models", "lossless"), section)
