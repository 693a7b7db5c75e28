"""Torch files in a ZIP: the pickle parsed and never executed, the storages at their offsets."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from bale.io.checkpoint import Checkpoint
from bale.io.faults import Unsupported
from bale.io.sources.storages import Storage, make_units
from bale.io.sources.torch.pickle_globals import global_notes
from bale.io.sources.torch.pickle_reader import Parsed, PickleError, read_pickle
from bale.io.sources.torch.tensors import find_tensors, storage_dtypes
from bale.io.sources.torch.unnamed import of_pickle, of_storages
from bale.io.sources.unnamed import unnamed_notes
from bale.io.sources.zip_file import Member, ZipArchive
from bale.io.storage.bytes import ByteSource
from bale.notes import size as size_text

_PICKLE = "/data.pkl"
_RECORDS = ("version", "byteorder", ".format_version", ".storage_alignment", ".data/serialization_id")
"""Small members that torch writes beside the pickle and the storages."""


def is_torch_zip(names: Collection[str]) -> bool:
    """Whether a ZIP file with these members is one by `torch.save`."""
    return any(name.endswith(_PICKLE) and name.count("/") == 1 for name in names)


def read_torch_zip(path: Path, source: ByteSource, archive: ZipArchive) -> Checkpoint:
    """Read a file by `torch.save`; raise `Malformed` for a damaged one, `Unsupported` for what is not followed."""
    members = archive.members
    prefix = _prefix(members)
    _check_head(archive.first, source.size)
    folder, pickle, order = f"{prefix}/data/", prefix + _PICKLE, f"{prefix}/byteorder"
    payloads = {name.removeprefix(folder): member for name, member in members.items() if name.startswith(folder)}
    for member in (*payloads.values(), members[pickle], *([members[order]] if order in members else [])):
        member.check_plain()
    swapped = _is_big_endian(archive, members.get(order))
    parsed = _parse(archive, members[pickle])
    found, storages = find_tensors(parsed.value), _storages(parsed, payloads)
    units = make_units(storages, found.tensors, swapped)
    checksums = tuple(filter(None, map(archive.checksum, payloads.values())))
    known = {pickle, *(f"{prefix}/{record}" for record in _RECORDS)}
    others = [member for name, member in members.items() if name not in known and not name.startswith(folder)]
    unnamed = [
        *of_storages(storages, found),
        *of_pickle(parsed.value, members[pickle].info.file_size, source.size, found),
        *archive.unnamed(others),
    ]
    notes = (*global_notes(parsed.globals), *found.notes, *unnamed_notes(source.size, unnamed))
    return Checkpoint(path, "torch", source.size, units, notes, checksums)


def _check_head(first: int, size: int) -> None:
    """Raise `Unsupported` where the directory does not know of what the file begins with."""
    if first:
        raise Unsupported(
            f"{size_text(first)} of {size_text(size)} lie before the first member of its ZIP directory, as in .distcp "
            "files, which are several torch files behind one another"
        )


def _prefix(names: Collection[str]) -> str:
    """Name of the folder that a torch file keeps everything in."""
    found = {name.removesuffix(_PICKLE) for name in names if name.endswith(_PICKLE) and name.count("/") == 1}
    if len(found) != 1:
        raise Unsupported("a ZIP file without the data.pkl that torch writes")
    prefix = found.pop()
    if any(name == f"{prefix}/constants.pkl" or name.startswith(f"{prefix}/code/") for name in names):
        raise Unsupported("TorchScript, which is not followed")
    return prefix


def _is_big_endian(archive: ZipArchive, member: Member | None) -> bool:
    order = b"little" if member is None else archive.read(min(member.info.file_size, 8), member.start)
    if order not in (b"little", b"big"):
        raise Unsupported("a torch file of unknown byte order")
    return order == b"big"


def _parse(archive: ZipArchive, member: Member) -> Parsed:
    try:
        return read_pickle(lambda size, at: archive.read(size, member.start + at), 0, member.info.file_size)
    except PickleError as problem:
        raise Unsupported(f"a torch file that cannot be followed: {problem}") from None


def _storages(parsed: Parsed, payloads: dict[str, Member]) -> dict[str, Storage]:
    """Storages by key: those that the pickle names, and payload that it does not."""
    dtypes = {key: dtype or "U8" for key, dtype in storage_dtypes(parsed.persistents).items()}
    missing = {key: Storage(0, 0, dtype) for key, dtype in dtypes.items()}
    present = {
        key: Storage(member.start, member.info.file_size, dtypes.get(key, "U8")) for key, member in payloads.items()
    }
    return missing | present
