"""The archive file: parts appended, header written last; read back with every byte accounted for."""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import xxhash
import zstandard

from bale.errors import ArchiveError, OutputError, check_memory
from bale.io.archive.manifest import DAMAGED, FORMAT, Manifest, decode_manifest
from bale.io.safetensors import ENTRY_LIMIT, HEADER_LIMIT, PREAMBLE, entry_bound, header_block, header_text, padded
from bale.io.stand_ins import as_text, stand_in
from bale.io.storage.bytes import ByteSink, ByteSource
from bale.io.storage.files import flat, reading
from bale.spec import Array, TensorSpec

MANIFEST_LIMIT = 1 << 29
MANIFEST_RATIO = 6  # times the bytes of header text and frame; a tensor has its name and digests in these too
PART_LIMIT = ENTRY_LIMIT - 2
"""Parts of all units together, beside skeleton and manifest."""
SKELETON_RATIO = 100  # times its stored bytes; but no safetensors header is too long
_SKELETON_FLOOR = 1 << 27
_MANIFEST_FLOOR = 1 << 20
MAGIC = b'{"__metadata__":{"bale":"'
_VERSION = re.compile(re.escape(MAGIC) + rb'([0-9]{1,6})\.([0-9]{1,6})"')
_TOGETHER = 1 << 18  # bytes that are written at once where parts are shorter
_CLAIM = 64  # bytes behind the length in which a damaged bale still says that it is one
_SHOWN = 512  # bytes by which a file that is none is told
_HEAD = re.compile(_VERSION.pattern + rb',"manifest":"([0-9a-f]{32})"\},')
_TAIL = re.compile(
    rb'":manifest":\{"dtype":"U8","shape":\[[0-9]+\],"data_offsets":\[([0-9]{1,19}),([0-9]{1,19})\]\}\}$'
)


def entry_size(name: str, specs: tuple[TensorSpec, ...], payload: int) -> int:
    """Bytes that the entry of a part takes at most, which is one of the given specs."""
    return entry_bound(name, specs, _offset_bound(payload))


def header_size(entries: Iterable[tuple[str, tuple[TensorSpec, ...]]], payload: int) -> int:
    """Length of the header room for parts that are each of one of the given specs."""
    bound = TensorSpec("U8", (_offset_bound(payload),))
    tail = [(":skeleton", (bound,)), (":manifest", (bound,))]
    return padded(_metadata_room() + sum(entry_size(name, specs, payload) for name, specs in (*entries, *tail)))


def header_room(entries: list[tuple[str, tuple[TensorSpec, ...]]], payload: int) -> int:
    """The same; raises `OutputError` where no reader would take so long a header."""
    room = header_size(entries, payload)
    if room > HEADER_LIMIT or len(entries) > PART_LIMIT:
        raise OutputError(
            f"the archive would need {len(entries)} parts and a header of {room} bytes",
            f"a bale holds at most {PART_LIMIT} parts and {HEADER_LIMIT} bytes of header",
        )
    return room


def _offset_bound(payload: int) -> int:
    return 2 * payload + (1 << 30)  # of any offset: decides digits only


class ArchiveWriter:
    """Appends stored bytes to a sink behind the header's room, and closes it with manifest and header.

    Short ones are put together before they are written: `flush` writes those that wait.
    """

    def __init__(self, sink: ByteSink, room: int) -> None:
        self.sink = sink
        self.position = PREAMBLE + room
        self._room = room
        self._waiting = bytearray()

    def append(self, data: bytes | bytearray | memoryview | Array) -> int:
        """Put stored bytes at the end; returns their offset."""
        at, view = self.position, flat(data)
        size = view.nbytes
        if len(self._waiting) + size > _TOGETHER:
            self.flush()
        if size > _TOGETHER:
            self.sink.write(view, at)
        else:
            self._waiting += view
        self.position += size
        return at

    def flush(self) -> None:
        """Write the bytes that wait, so that they can be read back."""
        self.sink.write(self._waiting, self.position - len(self._waiting))
        self._waiting = bytearray()

    def read_back(self, size: int, offset: int) -> bytes:
        """Stored bytes that were appended and flushed before; any thread may ask."""
        return self.sink.read(size, offset)

    def rewind(self, position: int) -> None:
        """Drop the bytes that were appended from `position` on."""
        self.flush()
        self.sink.cut(position)
        self.position = position

    def finish(self, manifest: Manifest, skeleton: bytes) -> Manifest:
        """Write skeleton, manifest and header; returns the manifest as written. `skeleton` is the bytes as they are."""
        stored = _fold(skeleton, 9)
        if len(skeleton) > _skeleton_limit(stored):
            raise OutputError(
                f"cannot write {self.sink.name}: the source holds {len(skeleton)} bytes beside its tensors, which take "
                f"{len(stored)} in the archive; readers refuse that",
                "save the checkpoint again without them",
            )
        self.append(stored)
        manifest = replace(
            manifest,
            skeleton_bytes=len(skeleton),
            skeleton_stored=len(stored),
            skeleton_digest=xxhash.xxh3_64_hexdigest(stored),
        )
        frame, text = _stored_manifest(manifest)
        self.append(frame)
        self.flush()
        self.sink.write(header_block(text, self._room), 0)
        return manifest


def _stored_manifest(manifest: Manifest) -> tuple[bytes, bytes]:
    """Frame and header text of a manifest, the smallest that readers take: see `MANIFEST_RATIO`."""
    data = manifest.encode()
    for level in (9, -10, -30, -100, -10_000):
        frame = _fold(data, level)
        text = archive_header(manifest, frame)
        if len(data) <= _manifest_limit(text, frame):
            return frame, text
    raise OutputError(f"the archive would need a manifest of {len(data)} bytes", "compress the checkpoint in parts")


def archive_header(manifest: Manifest, frame: bytes) -> bytes:
    """The one header that a manifest and its stored form produce."""
    metadata = {"bale": ".".join(map(str, manifest.format)), "manifest": xxhash.xxh3_128_hexdigest(frame)}
    entries = [(name, part.stored_spec) for name, part in manifest.part_names()]
    entries.append((":skeleton", TensorSpec("U8", (manifest.skeleton_stored,))))
    entries.append((":manifest", TensorSpec("U8", (len(frame),))))
    return header_text(metadata, entries)


def is_archive(path: Path) -> bool:
    """Whether a file says that it is a bale, by its name or its first bytes; it may be a damaged one."""
    if not os.path.isfile(path):  # opening a FIFO would wait for its other end
        return False
    try:
        with open(path, "rb") as file:
            return path.suffix == ".bale" or begins_as_archive(file.read(PREAMBLE + _CLAIM))
    except OSError:
        return False


def begins_as_archive(head: bytes) -> bool:
    """Whether a file that begins so says that it is a bale."""
    return b'"bale":"' in head[PREAMBLE : PREAMBLE + _CLAIM]


@dataclass(frozen=True)
class ArchiveFile:
    """An archive whose header and manifest have been checked; chunks are checked as they are read.

    `digest` is the XXH3-128 of the stored manifest; `offsets` holds for each unit and part where its first chunk
    begins.
    """

    path: Path
    source: ByteSource
    size: int
    digest: str
    manifest: Manifest
    offsets: tuple[tuple[int, ...], ...]
    skeleton_offset: int

    def read_chunk(self, unit: int, part: int, index: int) -> bytes:
        """Stored bytes of one chunk, with the digest checked."""
        chunk = self.manifest.units[unit].parts[part].chunks[index]
        data = self._read(chunk.size, self.offsets[unit][part] + self.manifest.units[unit].parts[part].starts[index])
        if xxhash.xxh3_64_hexdigest(data) != chunk.digest:
            stored = self.manifest.units[unit]
            name = stored.unit.views[0].name if stored.unit.views else "a gap"
            raise ArchiveError(f"{self.path}: chunk {index} of {name!r} does not match its digest", DAMAGED)
        return data

    def skeleton(self) -> bytes:
        """The bytes of the source between the units."""
        manifest = self.manifest
        data = self._read(manifest.skeleton_stored, self.skeleton_offset)
        if xxhash.xxh3_64_hexdigest(data) != manifest.skeleton_digest:
            raise ArchiveError(f"{self.path}: the skeleton does not match its digest", DAMAGED)
        return _unfold(data, manifest.skeleton_bytes, f"{self.path}: the skeleton", _skeleton_limit(data))

    def read_plain(self, buffer: memoryview, offset: int) -> None:
        """Fill a buffer with stored bytes from an absolute offset."""
        self.source.read_into(buffer, offset)

    def _read(self, size: int, offset: int) -> bytes:
        return self.source.read(size, offset)


@contextmanager
def open_archive(path: Path) -> Iterator[ArchiveFile]:
    """Open an archive for reading.

    Raises
    ------
    SourceError
        When there is no such file, or it may not be read.
    ArchiveError
        When it is not a sound bale that this version reads.
    """
    with reading(path) as source:
        yield read_archive(path, source.raising(ArchiveError))


def read_archive(path: Path, source: ByteSource) -> ArchiveFile:
    """Check header, manifest and layout of an open file."""
    size = source.size
    head = source.read(min(size, PREAMBLE + _CLAIM), 0)
    if not head.startswith(MAGIC, PREAMBLE):
        raise _no_bale(source)
    said = _VERSION.match(head, PREAMBLE)
    if said and int(said[1]) > FORMAT[0]:  # all else may be different there
        found = f"{said[1].decode()}.{said[2].decode()}"
        raise ArchiveError(f"{path} has format {found}, newer than this bale", "upgrade bale")
    (room,) = struct.unpack("<Q", head[:PREAMBLE])
    if room > HEADER_LIMIT or PREAMBLE + room > size:
        raise ArchiveError(f"{path}: a header of {room} bytes in a file of {size}", DAMAGED)
    header = source.read(room, PREAMBLE)
    text = header.rstrip(b" ")
    start, tail = _HEAD.match(text), _TAIL.search(text)
    if not start or not tail or text.count(b'"data_offsets"') > ENTRY_LIMIT:
        raise ArchiveError(f"{path}: the header is not that of a bale", DAMAGED)
    payload = PREAMBLE + room
    begin, end = int(tail[1]), int(tail[2])
    if not begin <= end or payload + end != size:
        raise ArchiveError(f"{path}: the file has {size} bytes, its header says {payload + end}", DAMAGED)
    frame = source.read(end - begin, payload + begin)
    if xxhash.xxh3_128_hexdigest(frame) != start[3].decode():
        raise ArchiveError(f"{path}: the manifest does not match its digest", DAMAGED)
    try:
        manifest = decode_manifest(_unfold(frame, None, "the manifest", _manifest_limit(text, frame)))
    except ArchiveError as problem:
        raise ArchiveError(f"{path}: {problem.message}", problem.hint) from None
    if archive_header(manifest, frame) != text:
        raise ArchiveError(f"{path}: the header is not the one that the manifest produces", DAMAGED)
    offsets, skeleton_offset = _offsets(manifest, payload)
    return ArchiveFile(path, source, size, start[3].decode(), manifest, offsets, skeleton_offset)


def manifest_digest(source: ByteSource) -> str:
    """XXH3-128 of the stored manifest, from the header of an open archive; `ArchiveError` when it has none."""
    size = min(source.size, PREAMBLE + _metadata_room() + _CLAIM)
    found = _HEAD.match(source.read(size, 0), PREAMBLE)
    if found is None:
        raise _no_bale(source)
    return found[3].decode()


def _no_bale(source: ByteSource) -> ArchiveError:
    """The error for a file that begins as no bale does."""
    head = source.read(min(source.size, _SHOWN), 0)
    wrong = stand_in(head) or (as_text(head) if source.name.endswith(".bale") else None)
    if wrong is None:
        return ArchiveError(f"{source.name} is not a bale", "a checkpoint is made into one by `bale compress`")
    return ArchiveError(f"{source.name} is not a bale: it {wrong.what}", wrong.hint)


def _offsets(manifest: Manifest, at: int) -> tuple[tuple[tuple[int, ...], ...], int]:
    offsets = []
    for stored in manifest.units:
        starts = []
        for part in stored.parts:
            starts.append(at)
            at += part.size
        offsets.append(tuple(starts))
    return tuple(offsets), at


def _manifest_limit(text: bytes, frame: bytes) -> int:
    return min(MANIFEST_LIMIT, max(_MANIFEST_FLOOR, MANIFEST_RATIO * (len(text) + len(frame))))


def _skeleton_limit(stored: bytes) -> int:
    return max(_SKELETON_FLOOR, SKELETON_RATIO * len(stored))


def _fold(data: bytes, level: int) -> bytes:
    """One zstd frame with its content size."""
    try:
        return zstandard.ZstdCompressor(level=level).compress(data)
    except zstandard.ZstdError as problem:
        check_memory(problem)
        raise


def _unfold(frame: bytes, size: int | None, what: str, limit: int) -> bytes:
    """Decompress one zstd frame whose content size is stated and allowed."""
    try:
        stated = zstandard.frame_content_size(frame)
        if stated < 0 or (size is not None and stated != size) or stated > limit:
            raise ArchiveError(f"{what} claims {stated} bytes", DAMAGED)
        data = zstandard.ZstdDecompressor().decompress(frame, max_output_size=stated, allow_extra_data=False)
    except zstandard.ZstdError as problem:
        check_memory(problem)
        raise ArchiveError(f"{what} cannot be decompressed ({problem})", DAMAGED) from None
    return data


def _metadata_room() -> int:
    return len(header_text({"bale": "999999.999999", "manifest": "0" * 32}, ()))
