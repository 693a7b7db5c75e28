"""ZIP files whose members are files of weights: .npz of NumPy, and any others that store such files as they are.

Members that are not compressed are read by the readers of their own formats; their CRC-32 are computed again where
values change. Compressed members (as `numpy.savez_compressed` writes) are no tensors.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from bale.io.checkpoint import Checkpoint
from bale.io.faults import Unsupported, printable
from bale.io.sources.nested import Inside, Part, read_parts
from bale.io.sources.unnamed import Unnamed, listed, unnamed_notes
from bale.io.sources.zip_file import Member, ZipArchive
from bale.io.storage.bytes import ByteSource


def read_zip_members(path: Path, source: ByteSource, archive: ZipArchive, inside: Inside) -> Checkpoint:
    """Read the members of a ZIP file; raise `Unsupported` where none has tensors that can be read."""
    members = archive.members
    plain = {name: member for name, member in members.items() if member.is_plain}
    packed = [member for name, member in members.items() if name not in plain]
    parts = [Part(name, member.start, member.size) for name, member in plain.items()]
    found = read_parts(path, source, parts, inside)
    is_npz = all(name.endswith(".npy") for name in members)
    if not found.units:
        raise Unsupported(_reason(is_npz, plain, packed), found.warnings)
    others = {part.name for part in found.others}
    renewed = [archive.checksum(member) for name, member in plain.items() if name not in others]
    unnamed = [
        Unnamed(sum(member.entry.packed for member in packed), f"compressed members{_listed(packed)}"),
        *archive.unnamed(plain[name] for name in others),
    ]
    return Checkpoint(
        path,
        "npz" if is_npz else "zip",
        source.size,
        found.units,
        (*found.notes, *unnamed_notes(source.size, unnamed)),
        (*found.checksums, *filter(None, renewed)),  # those within members first: they are within the others' ranges
    )


def _reason(is_npz: bool, plain: Collection[str], packed: list[Member]) -> str:
    what = "an npz file" if is_npz else "a ZIP file"
    if packed and not plain:
        how = ", as numpy.savez_compressed writes it" if is_npz else ""
        return f"{what} whose members are all compressed{how}"
    return f"{what} in whose members no reader finds tensors{_listed(packed, ' beside compressed ones')}"


def _listed(members: list[Member], before: str = "") -> str:
    names = listed([printable(member.entry.name) for member in members])
    return before + names if members else ""
