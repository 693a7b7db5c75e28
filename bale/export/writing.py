"""Writing exported tensors, file by file, as one folder that appears whole or not at all."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from bale.engine.folder.files import copy_file, is_file_of
from bale.engine.run import Run
from bale.errors import ArchiveError, UsageError
from bale.export.target import Piece
from bale.io.archive.manifest import DAMAGED
from bale.io.safetensors import PREAMBLE, header_block, header_text, padded
from bale.io.storage.commit import Target, write_file
from bale.io.storage.tree import TreeTarget

INDEX = "model.safetensors.index.json"


def write_weights(path: Path, pieces: Sequence[Piece], run: Run, force: bool, one_of_many: bool) -> tuple[int, str]:
    """Write one safetensors file, tensor by tensor; returns its size and SHA-256."""
    for piece in pieces:
        if not piece.spec.info.portable:
            raise UsageError(f"{piece.name} is {piece.spec.dtype}, which a safetensors file cannot hold")
    text = header_text({"format": "pt"}, [(piece.name, piece.spec) for piece in pieces])
    room = padded(len(text))
    with Target(path, None, force, one_of_many=one_of_many) as target:
        at = PREAMBLE + room
        target.reserve(at + sum(piece.spec.nbytes for piece in pieces))
        target.write(header_block(text, room), 0)
        for piece in pieces:
            start = at
            for block in piece.make():
                target.write(block, at)
                at += block.nbytes
            if at - start != piece.spec.nbytes:
                raise ArchiveError(f"the parts of {piece.name} are not of its size", DAMAGED)
            run.progress(piece.name, piece.spec.nbytes)
        sha256 = target.sha256(at)
        target.commit()
    return at, sha256


def write_folder(
    out: Path,
    files: Mapping[str, Sequence[Piece]],
    beside: Mapping[str, Sequence[Piece]],
    texts: Mapping[str, str],
    copies: Mapping[str, Path],
    run: Run,
    force: bool,
    work: Mapping[str, object],
) -> int:
    """Write weights, an index where there are several files of them, what is beside; returns the bytes of all."""
    weights = sum(piece.spec.nbytes for pieces in files.values() for piece in pieces)
    if len(files) > 1:
        where = {piece.name: name for name, pieces in sorted(files.items()) for piece in pieces}
        index = {"metadata": {"total_size": weights}, "weight_map": where}
        texts = {**texts, INDEX: json.dumps(index, indent=2) + "\n"}
    makers: dict[str, Callable[[Path], tuple[int, str]]] = {}
    for name, pieces in (*files.items(), *beside.items()):
        makers[name] = lambda path, pieces=pieces: write_weights(path, pieces, run, False, True)  # type: ignore[misc]
    for name, text in texts.items():
        makers[name] = lambda path, text=text: _write_text(path, text)  # type: ignore[misc]
    for name, source in copies.items():
        makers[name] = lambda path, source=source: copy_file(source, path, None)  # type: ignore[misc]
    weights += sum(piece.spec.nbytes for pieces in beside.values() for piece in pieces)
    size = weights + sum(map(len, texts.values())) + sum(path.stat().st_size for path in copies.values())
    with TreeTarget(out, work, list(makers), size, is_file_of, force) as tree:
        for name, make in makers.items():
            if name not in tree.finished:
                tree.add(name, *make(tree.place(name)))
        tree.commit()
        return sum(each for each, _ in tree.finished.values())


def _write_text(path: Path, text: str) -> tuple[int, str]:
    data = text.encode()
    write_file(path, data)
    return len(data), hashlib.sha256(data).hexdigest()
