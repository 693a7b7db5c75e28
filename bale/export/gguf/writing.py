"""Writing a GGUF file: the header of the source with other types and offsets, and the data, tensor by tensor."""

from __future__ import annotations

import struct
from collections import Counter

from bale.engine.reading.decode import Decoder
from bale.engine.restore import head
from bale.errors import ArchiveError, UsageError
from bale.export.target import Carried, Order, Piece
from bale.io.archive.archive import open_archive
from bale.io.archive.manifest import DAMAGED
from bale.io.faults import Malformed, Unsupported, printable
from bale.io.sources.gguf.header import Entry, Header, read_header
from bale.io.sources.gguf.types import TYPES
from bale.io.storage.bytes import ByteSink
from bale.io.storage.commit import Target

_NUMBERS = {kind.name: number for number, kind in TYPES.items()}
_FILE_TYPES = {"Q4_0": 2, "Q4_1": 3, "Q8_0": 7}
"""Values of ``general.file_type`` for files that are mostly of a type."""


def write_gguf(order: Order) -> int:
    """Write it under the name that was asked for, tensor by tensor; returns its size.

    All keys are the source's, but for ``general.file_type``, where it is there. Tensors lie in the order of the
    directory, as llama.cpp wants them.
    """
    with Target(order.out, None, order.force, (order.model.path,)) as target:
        header = _copy_header(order, target)
        if order.carried and header.keys.file_type_at is not None:
            target.write(struct.pack("<I", _file_type(order)), header.keys.file_type_at)
        end = header.data
        for entry in header.entries:
            number = _number(entry, order.carried.get(entry.name))
            target.write(struct.pack("<IQ", number, end - header.data), entry.at)
            end = header.aligned(end + order.pieces[entry.name].spec.nbytes)
        target.reserve(end)
        at = header.data
        for entry in header.entries:
            piece = order.pieces[entry.name]
            at = header.aligned(_write(piece, at, target))
            order.run.progress(piece.name, piece.spec.nbytes)
        target.cut(end)
        target.commit()
    return end


def _number(entry: Entry, carried: Carried | None) -> int:
    """That of the type that a tensor gets."""
    assert entry.kind is not None
    return _NUMBERS[entry.kind.name if carried is None else carried.settings["type"]]


def _write(piece: Piece, at: int, target: ByteSink) -> int:
    """Write a tensor; returns where it ends."""
    end = at + piece.spec.nbytes
    for block in piece.make():
        target.write(block, at)
        at += block.nbytes
    if at != end:
        raise ArchiveError(f"the parts of {piece.name} are not of its size", DAMAGED)
    return at


def _copy_header(order: Order, target: ByteSink) -> Header:
    """Write the source's header as it is, and read it; raises for what no tensor can be exchanged in."""
    at = 0
    with open_archive(order.model.paths[0]) as archive:
        for data in head(Decoder(archive, order.run)):
            target.write(data, at)
            at += data.nbytes
    try:
        header = read_header(target)
    except (Malformed, Unsupported) as problem:
        raise ArchiveError(f"{order.model.path} is no archive of a GGUF file: {problem}", DAMAGED) from None
    unknown = [printable(entry.name) for entry in header.entries if entry.kind is None]
    if unknown or header.order == ">":
        what = f"tensors of types that are not known here ({unknown[0]})" if unknown else "big-endian numbers"
        raise UsageError(f"{order.model.path} has {what}", "`bale decompress` gives the file as it is")
    if {entry.name for entry in header.entries} != order.pieces.keys():
        raise ArchiveError(f"{order.model.path} has other tensors than the header of its source", DAMAGED)
    target.cut(header.end)
    return header


def _file_type(order: Order) -> int:
    """That of the type that most weights have become."""
    sizes: Counter[str] = Counter()
    for tensor in order.model.tensors:
        if tensor.name in order.carried:
            sizes[order.carried[tensor.name].settings["type"]] += tensor.spec.elements
    return _FILE_TYPES[sizes.most_common(1)[0][0]]
