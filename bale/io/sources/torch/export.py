"""Archives of torch.export (`.pt2`, `torch.export.save` since torch 2.9): weights as members, described by JSON.

Members ``data/weights/weight_0`` are storages; `data/weights/NAME_weights_config.json` says which parameters and
buffers lie in them, and where; the same of `data/constants`. Elements are in the byte order that the archive names.
Kept as they are: the program, weights that are pickled, sample inputs, compiled code. Archives of earlier versions hold
files of `torch.save`, and are read as ZIP files of files.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from bale.io.checkpoint import Checkpoint
from bale.io.faults import TooMuch, Unsupported, printable
from bale.io.sources.storages import Names, Storage, Tensor, make_units
from bale.io.sources.torch.pickled import is_big_endian
from bale.io.sources.unnamed import unnamed_notes
from bale.io.sources.zip_file import Member, ZipArchive
from bale.io.storage.bytes import ByteSource
from bale.spec import DTYPES

_CONFIG = re.compile(r"(?P<folder>[^/]*/data/(?P<kind>weights|constants)/)(?P<model>[^/]*)_(?P=kind)_config\.json")
_CONFIG_LIMIT = 1 << 24  # bytes of all configs: room for 40 000 tensors, of about 400 bytes each
_VALUES = 1 << 21  # values of a config: a tensor has some 20 to 40
_SIZE_LIMIT, _RANK_LIMIT = 1 << 62, 64
_DTYPES = {
    1: "U8",
    2: "I8",
    3: "I16",
    4: "I32",
    5: "I64",
    6: "F16",
    7: "F32",
    8: "F64",
    10: "C64",
    11: "C128",
    12: "BOOL",
    13: "BF16",
    28: "U16",
    29: "F8_E4M3",
    30: "F8_E5M2",
    31: "F8_E4M3FNUZ",
    32: "F8_E5M2FNUZ",
    33: "F8_E8M0",
    34: "U32",
    35: "U64",
}
"""By their numbers in torch.export's schema."""
_STRIDED = 7
_KNOWN = ("archive_format", "archive_version", "byteorder", ".data/version", ".data/serialization_id")


def is_export(names: Collection[str]) -> bool:
    """Whether a ZIP file with these members is one that describes its weights."""
    return any(_CONFIG.fullmatch(name) for name in names)


def read_export(path: Path, source: ByteSource, archive: ZipArchive) -> Checkpoint:
    """Read a file by `torch.export.save`; raise `Malformed` for tensors that reach out of their members."""
    members = archive.members
    configs = {name: found for name in members if (found := _CONFIG.fullmatch(name))}
    described = sum(members[config].size for config in configs)
    if described > _CONFIG_LIMIT:
        raise TooMuch(f"descriptions of weights of {described} bytes")
    prefix = next(iter(configs)).partition("/")[0]
    models = {found["model"] for found in configs.values()}
    tensors, names = list[Tensor](), Names()
    for config, found in configs.items():
        model = f"{found['model']}/" if len(models) > 1 else ""
        for name, entry in _entries(archive, members[config]):
            tensor = _tensor(name, entry, found["folder"], members)
            if tensor is not None:
                tensors.append(Tensor(names.unique(model + name), *tensor))
    payloads = {tensor.storage: members[tensor.storage] for tensor in tensors}
    if described_by := payloads.keys() & {*configs, f"{prefix}/byteorder"}:
        raise Unsupported(
            f"an archive of torch.export with weights in {printable(min(described_by))}, which says what they are"
        )
    storages = {name: Storage(member.start, member.size) for name, member in payloads.items()}
    units = make_units(storages, tensors, is_big_endian(archive, members.get(f"{prefix}/byteorder")))
    checksums = tuple(filter(None, map(archive.checksum, payloads.values())))
    known = {*payloads, *configs, *(f"{prefix}/{record}" for record in _KNOWN)}
    unnamed = archive.unnamed(member for name, member in members.items() if name not in known)
    return Checkpoint(path, "torch-export", source.size, units, unnamed_notes(source.size, unnamed), checksums)


def _entries(archive: ZipArchive, member: Member) -> Iterator[tuple[str, Any]]:
    """Names of tensors, and what is said of each."""
    member.check_plain()
    text = archive.read(member.size, member.start)
    if sum(map(text.count, (b"{", b"[", b","))) > _VALUES:
        raise TooMuch("a description of weights with more values than any has")
    try:
        config = json.loads(text)["config"]
        yield from config.items()
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise Unsupported("an archive of torch.export whose description of weights is not followed") from None


def _tensor(
    name: str, entry: Any, folder: str, members: Mapping[str, Member]
) -> tuple[str, str, int, tuple[int, ...], tuple[int, ...]] | None:
    """Storage, dtype, offset, shape and strides of a tensor; None for one that is pickled, or not followed."""
    try:
        meta, storage = entry["tensor_meta"], folder + entry["path_name"]
        if entry["use_pickle"] or meta["layout"] != _STRIDED or not members[storage].is_plain:
            return None
        dtype, offset = _DTYPES.get(meta["dtype"]), meta["storage_offset"]["as_int"]
        shape = tuple(size["as_int"] for size in meta["sizes"])
        strides = tuple(stride["as_int"] for stride in meta["strides"])
    except (TypeError, KeyError):
        return None
    numbers = (offset, *shape, *strides)
    if dtype is None or len(shape) != len(strides) or len(shape) > _RANK_LIMIT:
        return None
    if not all(type(number) is int and 0 <= number < _SIZE_LIMIT for number in numbers):
        return None
    if math.prod(shape) * DTYPES[dtype].bits >= _SIZE_LIMIT:
        return None
    return storage, dtype, offset, shape, strides
