"""A folder with one file of every kind: how many of its bytes are coded as tensors, as words, and as mere copies."""

from __future__ import annotations

import json
from collections.abc import Mapping

from safetensors.numpy import save_file

import bale
from bale.engine.reading.listing import SourceFolder, open_folder
from bench.common import page, table, workspace
from bench.models import MINILM, checkpoint
from bench.peers.formats import of_floats
from bench.peers.venvs import call
from bench.section import Run, Section

_LAYER = "encoder.layer.0."
TEXT = (
    "The first layer of MiniLM in every kind of file that the bench writes, in one folder that is compressed as one. "
    "*Tensors*: bytes that a reader finds tensors in; *words*: bytes that no reader follows, coded chunk by chunk as "
    "the floats that they turn out to be; *rest*: what lies around tensors; *copied*: files that are copied as they "
    "are. *Lossless* is what is stored by the default pipeline, *lossy* the bytes that `-p int8` makes lossy. All are "
    "in per cent of the source."
)
_HEAD = ("kind", "read as", "bytes", "tensors, %", "words, %", "rest, %", "copied, %", "lossless, %", "lossy, %")


def section(run: Run) -> str:
    with workspace(in_memory=1e9) as work:
        tensors = of_floats(checkpoint(run.models, MINILM))
        chosen = {name: value for name, value in tensors.items() if _LAYER in name} or tensors
        save_file(chosen, work / "layer.safetensors")
        folder = work / "kinds"
        folder.mkdir()
        made = json.loads(call(run.formats, "bench.peers.kinds", folder, work / "layer.safetensors").splitlines()[-1])
        found = open_folder(folder)
        fast = bale.compress(folder, work / "small")
        lossy = bale.compress(folder, work / "small", pipeline="int8", force=True)
        stored = {file.source: file.archive_bytes for file in fast.files}
        touched = {file.source: sum(row.held_bytes for row in file.rows if not row.exact) for file in lossy.files}
        rows = [_row(name, place, found, stored, touched) for name, place in made.items()]
        rows.append(_row("all", "", found, stored, touched))
    return page(TEXT, table(_HEAD, rows, left=2))


def _row(
    name: str, place: str, folder: SourceFolder, stored: Mapping[str, int], touched: Mapping[str, int]
) -> list[str]:
    files = {file: each for file, each in folder.checkpoints.items() if file.startswith(place)}
    copied = sum(size for file, size in folder.side.items() if file.startswith(place))
    tensors = words = 0
    for each in files.values():
        for unit in each.units:
            if each.kind != "opaque" and unit.views:
                tensors += unit.spec.nbytes
            else:
                words += unit.spec.nbytes
    whole = copied + sum(each.size for each in files.values())
    rest = whole - copied - tensors - words
    less = copied + sum(stored[file] for file in files)
    shares = [
        f"{100 * each / whole:.2f}"
        for each in (tensors, words, rest, copied, less, sum(touched[file] for file in files))
    ]
    kinds = ", ".join(sorted({each.kind for each in files.values()})) if place else ""
    return [name, kinds, f"{whole:,}", *shares]


SECTION = Section("kinds", "A folder of all kinds", ("models", "formats"), section)
