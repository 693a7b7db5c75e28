"""A pickle in a ZIP file and the storages that it refers to, which are members of a folder of the same name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from bale.io.checkpoint import Checksum
from bale.io.faults import TooMuch, Unsupported
from bale.io.sources.pickle.reader import Global, Parsed, PickleError, PickleTooLarge, read_pickle
from bale.io.sources.pickle.unnamed import of_pickle
from bale.io.sources.storages import Storage, Tensor, make_units, merged
from bale.io.sources.torch.tensors import find_tensors, is_leaf, storage_dtypes
from bale.io.sources.torch.unnamed import of_storages
from bale.io.sources.unnamed import Unnamed
from bale.io.sources.zip_file import Member, ZipArchive
from bale.notes import Note
from bale.spec import Unit

RECORDS = ("version", "byteorder", ".format_version", ".storage_alignment", ".data/serialization_id")
"""Small members that torch writes beside the pickle and the storages."""


@dataclass(frozen=True)
class Pickled:
    """The tensors of one pickle.

    Attributes
    ----------
    pickle : str
        Name of the member that is the pickle.
    payloads : dict
        Members that are storages, by name.
    swapped : bool
        Whether elements are big-endian.
    arrays : tuple of Unit
        Arrays in the pickle itself.
    """

    pickle: str
    payloads: Mapping[str, Member]
    swapped: bool
    storages: Mapping[str, Storage]
    tensors: tuple[Tensor, ...]
    arrays: tuple[Unit, ...]
    globals: tuple[Global, ...]
    notes: tuple[Note, ...]
    unnamed: tuple[Unnamed, ...]

    def units(self) -> tuple[Unit, ...]:
        """Units of all storages and arrays, by ascending offset."""
        return merged(make_units(self.storages, self.tensors, self.swapped), self.arrays)

    def checksums(self, archive: ZipArchive) -> tuple[Checksum, ...]:
        """Of all members that hold units."""
        pickle = [archive.members[self.pickle]] if self.arrays else []
        return tuple(filter(None, map(archive.checksum, (*self.payloads.values(), *pickle))))


def read_pickled(archive: ZipArchive, prefix: str, name: str, whole: int) -> Pickled:
    """Read the pickle ``prefix/name.pkl``, with storages in ``prefix/name/``, of a file of `whole` bytes.

    Raises `Unsupported` where one of them is compressed, or the pickle cannot be followed.
    """
    members, folder = archive.members, f"{prefix}/{name}/"
    pickle, order = members[f"{prefix}/{name}.pkl"], members.get(f"{prefix}/byteorder")
    payloads = {name: member for name, member in members.items() if name.startswith(folder)}
    for member in (*payloads.values(), pickle, *([order] if order else [])):
        member.check_plain()
    swapped = is_big_endian(archive, order)
    parsed = _parse(archive, pickle)
    found = find_tensors(parsed.value)
    storages = _storages(parsed, {key.removeprefix(folder): member for key, member in payloads.items()})
    in_pickle = pickle.size - found.arrays.nbytes
    unnamed = (*of_storages(storages, found), *of_pickle(parsed.value, is_leaf, in_pickle, whole, found.names))
    return Pickled(
        f"{prefix}/{name}.pkl",
        payloads,
        swapped,
        storages,
        tuple(found.tensors),
        tuple(found.arrays.units()),
        parsed.globals,
        tuple(found.notes),
        unnamed,
    )


def is_big_endian(archive: ZipArchive, member: Member | None) -> bool:
    """Whether the member that torch names the byte order in says so; without one it is little-endian."""
    order = b"little" if member is None else archive.read(min(member.size, 8), member.start)
    if order not in (b"little", b"big"):
        raise Unsupported("a torch file of unknown byte order")
    return order == b"big"


def _parse(archive: ZipArchive, member: Member) -> Parsed:
    try:
        return read_pickle(archive.read, member.start, member.end)
    except PickleTooLarge as problem:
        raise TooMuch(f"a torch file that is not followed: {problem}") from None
    except PickleError as problem:
        raise Unsupported(f"a torch file that cannot be followed: {problem}") from None


def _storages(parsed: Parsed, payloads: dict[str, Member]) -> dict[str, Storage]:
    """Storages by key: those that the pickle names, and payload that it does not."""
    dtypes = storage_dtypes(parsed.persistents)
    found = {key: _storage(payloads.get(key), dtype or "U8") for key, dtype in dtypes.items()}
    return found | {key: _storage(member, "U8") for key, member in payloads.items() if key not in dtypes}


def _storage(member: Member | None, dtype: str) -> Storage:
    return Storage(0, 0, dtype) if member is None else Storage(member.start, member.size, dtype)
