"""The superblock, from which the root group is found."""

from __future__ import annotations

import struct

from bale.io.faults import Malformed, Unsupported
from bale.io.sources.hdf5.blocks import Blocks

SIGNATURE = b"\x89HDF\r\n\x1a\n"
_ROOT = {0: (24, 64), 1: (28, 68), 2: (12, 36), 3: (12, 36)}
"""By version: where the base address stands, which the end of the file follows later; and that of the root group."""
_LENGTHS = {0: 13, 1: 13, 2: 9, 3: 9}  # where the widths of addresses and lengths stand


def find_root(blocks: Blocks) -> int:
    """Address of the root group's object header."""
    head = blocks.begin(0, 128)
    version = head[8] if len(head) > 8 else 0
    if version not in _ROOT:
        raise Unsupported(f"an HDF5 file with a superblock of version {version}")
    base_at, root_at = _ROOT[version]
    if len(head) < root_at + 8:
        raise Malformed(f"it has only {len(head)} bytes, less than a superblock")
    widths = head[_LENGTHS[version] : _LENGTHS[version] + 2]
    if widths != b"\x08\x08":
        raise Unsupported(f"an HDF5 file with addresses of {widths[0]} bytes and lengths of {widths[1]}")
    base, _, end = struct.unpack_from("<QQQ", head, base_at)
    if base:
        raise Unsupported(f"an HDF5 file whose addresses begin at byte {base}")
    if end > blocks.size:
        raise Malformed(f"it has only {blocks.size} of the {end} bytes that its superblock announces")
    blocks.taken.add(0, root_at + 8)
    root: int = struct.unpack_from("<Q", head, root_at)[0]
    return root
