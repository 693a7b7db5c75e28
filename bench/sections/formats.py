"""One model in the formats that people keep weights in: sizes, and whether their libraries load it again."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import bale
from bench.common import ROOT, page, sha256, table, workspace
from bench.models import MINILM, checkpoint
from bench.peers.venvs import call
from bench.section import Run, Section

_MODULE = "bench.peers.formats"

TEXT = (
    "The floating-point tensors of MiniLM, written by the library of each format. *Read as* is what `bale inspect` "
    "says; *lossless* is the archive by the default pipeline in per cent of the source, *max* by "
    "`lossless:effort=max`, both with the same SHA-256 after `decompress`. *int8*: the archive by `-p int8`, and what "
    "the library that wrote the file finds when it loads it again after `decompress`: the largest relative error of a "
    "tensor."
)


def section(run: Run) -> str:
    model = checkpoint(run.models, MINILM)
    rows = []
    with workspace(in_memory=4e9) as work:
        made = json.loads(call(run.formats, _MODULE, "write", work, model).splitlines()[-1])
        for name, about in made.items():
            rows.append(_row(run, name, work / about["file"], about["library"], model, work))
    head = (
        "format",
        "library",
        "read as",
        "bytes",
        "lossless, %",
        "max, %",
        "byte-identical",
        "int8, %",
        "loads again",
    )
    return page(TEXT, table(head, rows, left=3))


def _row(run: Run, name: str, source: Path, library: str, model: Path, work: Path) -> list[str]:
    fast = bale.compress(source, work / f"{source.name}.bale", force=True)
    same = _comes_back(source, work)
    best = bale.compress(source, work / f"{source.name}.bale", pipeline="lossless:effort=max", force=True)
    same &= _comes_back(source, work)
    size = fast.original_bytes
    kinds = ", ".join(sorted({file.kind for file in fast.files}))
    shares = [f"{100 * each.stored_bytes / size:.2f}" for each in (fast, best)]
    is_same = "yes" if same else "**no**"
    return [name, library, kinds, f"{size:,}", *shares, is_same, *_lossy(run, name, source, model, work)]


def _comes_back(source: Path, work: Path) -> bool:
    _restore(work / f"{source.name}.bale", work / "back", source)
    return _digests(work / "back" / source.name) == _digests(source)


def _lossy(run: Run, name: str, source: Path, model: Path, work: Path) -> list[str]:
    archive, back = work / f"{source.name}.bale", work / "back"
    report = bale.compress(source, archive, pipeline="int8", force=True)
    share = f"{100 * report.stored_bytes / report.original_bytes:.2f}"
    if report.exact:
        return ["-", "nothing is lossy"]
    _restore(archive, back, source)
    command = [str(run.formats), "-m", _MODULE, "load", name, str(back / source.name), str(model)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    if done.returncode:
        return [share, f"**no**: {done.stderr.strip().splitlines()[-1][:60]}"]
    return [share, f"error {json.loads(done.stdout.splitlines()[-1])['error']:.3f}"]


def _restore(archive: Path, back: Path, source: Path) -> None:
    back.mkdir(exist_ok=True)
    bale.decompress(archive, back / source.name, force=True)


def _digests(path: Path) -> dict[str, str]:
    if path.is_file():
        return {"": sha256(path)}
    return {str(file.relative_to(path)): sha256(file) for file in sorted(path.rglob("*")) if file.is_file()}


SECTION = Section("formats", "Formats", ("models", "formats"), section)
