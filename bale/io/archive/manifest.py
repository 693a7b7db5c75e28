"""The manifest: the description of an archive within it. Its JSON is specified in docs/format.md, section 3."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate
from typing import Any

from bale.errors import ArchiveError
from bale.io.checkpoint import Checksum, Unit, View
from bale.notes import Note
from bale.spec import CHUNK_LIMIT, DTYPES, TensorSpec, shared_spec

FORMAT = (1, 2)
"""The newest version that is read. The oldest that has all of an archive's contents is written."""
OLDEST = (1, 1)
_KINDS_OF_1_1 = ("safetensors", "torch", "torch-legacy", "opaque")
_KIND = re.compile(r"[a-z0-9-]+")
_PLAIN_NAME = re.compile(r"(?!\.{1,2}\Z)[^/\0]+")
_PASSES = 2  # over a source to compute its checksums again: of a ZIP file in a ZIP file there are two
PART_NAME = re.compile(r"[a-z0-9_.]+")
DIGEST64 = re.compile(r"[0-9a-f]{16}")
DIGEST128 = re.compile(r"[0-9a-f]{32}")
SHA256 = re.compile(r"[0-9a-f]{64}")
NOTE_KIND = re.compile(r"[a-z0-9-]+")


_KEYS = {"base", "checked_by", "format", "tool", "codecs", "source", "notes", "skeleton", "checksums", "units"}


@dataclass(frozen=True)
class Chunk:
    """Stored bytes of a run of elements: which storage chain coded them, how many there are, their XXH3-64."""

    chain: int
    size: int
    digest: str


@dataclass(frozen=True)
class Part:
    """One stored blob of a unit."""

    name: str
    spec: TensorSpec
    bits: int | None
    storage: tuple[str, ...]
    chunk: int
    chunks: tuple[Chunk, ...]

    @property
    def size(self) -> int:
        """Stored bytes."""
        return sum(chunk.size for chunk in self.chunks)

    @cached_property
    def starts(self) -> tuple[int, ...]:
        """Offset of each chunk within the part."""
        return tuple(accumulate((chunk.size for chunk in self.chunks[:-1]), initial=0))

    @cached_property
    def chains(self) -> tuple[str, ...]:
        """The storage chain of each chunk."""
        return tuple(self.storage[chunk.chain] for chunk in self.chunks)

    @property
    def plain(self) -> bool:
        """Whether the part is stored as it is."""
        return self.storage == ("",)

    @property
    def stored_spec(self) -> TensorSpec:
        """Dtype and shape of its header entry."""
        if self.plain and self.spec.info.portable:
            return self.spec
        return TensorSpec("U8", (self.size,))

    def elements_of(self, index: int) -> int:
        """Number of elements in a chunk."""
        return min(self.chunk, self.spec.elements - index * self.chunk)


@dataclass(frozen=True)
class First:
    """The result of the first layer of a unit alone: digest of its bytes, and its error sums."""

    digest: str
    errors: tuple[float, float, float, float, float]


@dataclass(frozen=True)
class StoredUnit:
    """A unit and how it is stored.

    Attributes
    ----------
    base : str or None
        Digest of the tensor of the base that is its first layer.
    first : First or None
        Of its first layer, where that is lossy and a second one makes it exact.
    worst_row : float or None
        The largest relative error of a row, where the unit is lossy and has rows.
    """

    unit: Unit
    pipeline: str
    rule: str
    digest: str
    parts: tuple[Part, ...]
    same_as: int | None = None
    errors: tuple[float, float, float, float, float] | None = None
    norm2: float | None = None
    notes: tuple[Note, ...] = ()
    base: str | None = None
    first: First | None = None
    worst_row: float | None = None


@dataclass(frozen=True)
class Manifest:
    """The description of an archive and of its source.

    `checked_by` is the name of a file beside the source that has a checksum of each lossy unit, where there are any.
    """

    tool: str
    codecs: Mapping[str, int]
    kind: str
    source_bytes: int
    source_sha256: str
    skeleton_bytes: int
    skeleton_stored: int
    skeleton_digest: str
    units: tuple[StoredUnit, ...]
    notes: tuple[Note, ...] = ()
    checksums: tuple[Checksum, ...] = ()
    base: str | None = None
    checked_by: str | None = None
    read_format: tuple[int, int] | None = field(default=None, compare=False)
    """The version that was read, of an archive that was."""

    @property
    def format(self) -> tuple[int, int]:
        """Major and minor version."""
        return self.read_format or least_format(self.kind)

    def part_names(self) -> Iterator[tuple[str, Part]]:
        """Header name and part, in file order."""
        gaps = 0
        for stored in self.units:
            if stored.unit.views:
                prefix = f"{stored.unit.views[0].name}:"
            else:
                prefix = f":gap.{gaps}."
                gaps += 1
            for part in stored.parts:
                yield prefix + part.name if stored.unit.views else prefix[:-1], part

    @property
    def exact(self) -> bool:
        """Whether the source comes back bit for bit."""
        return all(stored.errors is None for stored in self.units)

    def encode(self) -> bytes:
        """The JSON text."""
        data = {
            "format": list(self.format),
            "tool": self.tool,
            "codecs": dict(self.codecs),
            "source": {"kind": self.kind, "bytes": self.source_bytes, "sha256": self.source_sha256},
            "notes": _notes_json(self.notes),
            "skeleton": {
                "bytes": self.skeleton_bytes,
                "stored": self.skeleton_stored,
                "digest": self.skeleton_digest,
            },
            "checksums": [[c.start, c.length, list(c.fields)] for c in self.checksums],
            "units": [_unit_json(stored) for stored in self.units],
        }
        if self.base is not None:
            data["base"] = self.base
        if self.checked_by is not None:
            data["checked_by"] = self.checked_by
        text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"), sort_keys=True)
        return text.encode("utf-8", "surrogatepass")


def least_format(kind: str) -> tuple[int, int]:
    """The oldest version that has sources of a kind."""
    return OLDEST if kind in _KINDS_OF_1_1 else (1, 2)


def decode_manifest(text: bytes) -> Manifest:
    """Read a manifest and check that it is consistent in itself; raise `ArchiveError` when it is not."""
    try:
        data = json.loads(text.decode("utf-8", "surrogatepass"), parse_constant=_no_constant)
        major, minor = (_integer(number) for number in data["format"])
        if major > FORMAT[0]:
            raise ArchiveError(
                f"the archive has format {major}.{minor}, this bale reads up to {FORMAT[0]}.x", "upgrade bale"
            )
        manifest = _manifest(data, (major, minor))
    except ArchiveError:
        raise
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError, OverflowError) as problem:
        raise ArchiveError(f"the manifest makes no sense ({type(problem).__name__}: {problem})", DAMAGED) from None
    _check_layout(manifest)
    return manifest


DAMAGED = "the archive is damaged; fetch it again"


def _unit_json(stored: StoredUnit) -> dict[str, Any]:
    unit = stored.unit
    data: dict[str, Any] = {
        "start": unit.start,
        "dtype": unit.spec.dtype,
        "shape": list(unit.spec.shape),
        "views": [_view_json(view, unit.spec) for view in unit.views],
        "pipeline": stored.pipeline,
        "rule": stored.rule,
        "digest": stored.digest,
        "parts": [_part_json(part, unit.spec) for part in stored.parts],
    }
    if unit.swapped:
        data["swapped"] = True
    if stored.notes:
        data["notes"] = _notes_json(stored.notes)
    optional = {
        "exact": unit.exact,
        "errors": None if stored.errors is None else list(stored.errors),
        "norm2": stored.norm2,
        "same_as": stored.same_as,
        "base": stored.base,
        "first": None if stored.first is None else [stored.first.digest, list(stored.first.errors)],
        "worst_row": stored.worst_row,
    }
    data.update({key: value for key, value in optional.items() if value is not None})
    return data


def _view_json(view: View, unit: TensorSpec) -> list[Any]:
    if view.spec == unit and view.offset == 0 and view.strides is None:
        return [view.name]
    strides = None if view.strides is None else list(view.strides)
    return [view.name, view.spec.dtype, list(view.spec.shape), view.offset, strides]


def _part_json(part: Part, unit: TensorSpec) -> dict[str, Any]:
    data: dict[str, Any] = {
        "name": part.name,
        "dtype": part.spec.dtype,
        "shape": list(part.spec.shape),
        "storage": list(part.storage),
        "chunk": part.chunk,
        "chunks": [[chunk.chain, chunk.size, chunk.digest] for chunk in part.chunks],
    }
    if part.bits is not None:
        data["bits"] = part.bits
    return data


def _manifest(data: dict[str, Any], version: tuple[int, int]) -> Manifest:
    if version <= FORMAT and not data.keys() <= _KEYS:  # a newer minor version may say more
        raise ValueError("keys that this version does not have")
    source, skeleton, base, beside = data["source"], data["skeleton"], data.get("base"), data.get("checked_by")
    return Manifest(
        tool=_text(data["tool"]),
        codecs={_text(name): _integer(number) for name, number in data["codecs"].items()},
        kind=_match(_KIND, source["kind"]),
        source_bytes=_integer(source["bytes"]),
        source_sha256=_match(SHA256, source["sha256"]),
        skeleton_bytes=_integer(skeleton["bytes"]),
        skeleton_stored=_integer(skeleton["stored"]),
        skeleton_digest=_match(DIGEST64, skeleton["digest"]),
        units=tuple(map(_unit, _drained(data["units"]))),
        notes=tuple(_note(item) for item in data["notes"]),
        checksums=tuple(
            Checksum(_integer(start), _integer(length), tuple(_integer(at) for at in fields))
            for start, length, fields in data["checksums"]
        ),
        base=None if base is None else _text(base),
        checked_by=None if beside is None else _match(_PLAIN_NAME, beside),
        read_format=version,
    )


def _drained(items: list[Any]) -> Iterator[Any]:
    """The items of a list, which is let go of meanwhile: of 100,000 units they take half a gigabyte."""
    items.reverse()
    while items:
        yield items.pop()


def _unit(data: dict[str, Any]) -> StoredUnit:
    spec = _spec(data["dtype"], data["shape"])
    exact = data.get("exact")
    unit = Unit(
        start=_integer(data["start"]),
        spec=spec,
        views=tuple(_view(item, spec) for item in data["views"]),
        exact=None if exact is None else _text(exact),
        swapped=data.get("swapped", False) is True,
    )
    errors = data.get("errors")
    if errors is not None:
        errors = tuple(float(number) for number in errors)
        _check_errors(*errors)
    norm2 = data.get("norm2")
    if norm2 is not None and not 0 <= float(norm2) < math.inf:
        raise ValueError(f"a norm of {norm2}")
    same_as, base, worst_row = data.get("same_as"), data.get("base"), data.get("worst_row")
    if worst_row is not None and not 0 <= float(worst_row) < 1e100:
        raise ValueError(f"an error of {worst_row} in a row")
    first = None
    if data.get("first") is not None:
        digest, sums = data["first"]
        sums = tuple(float(number) for number in sums)
        _check_errors(*sums)
        first = First(_match(DIGEST128, digest), sums)
    return StoredUnit(
        unit=unit,
        pipeline=_text(data["pipeline"]),
        rule=_text(data["rule"]),
        digest=_match(DIGEST128, data["digest"]),
        parts=tuple(_part(item) for item in data["parts"]),
        same_as=None if same_as is None else _integer(same_as),
        errors=errors,
        norm2=None if norm2 is None else float(norm2),
        notes=tuple(_note(item) for item in data.get("notes", ())),
        base=None if base is None else _match(DIGEST128, base),
        first=first,
        worst_row=None if worst_row is None else float(worst_row),
    )


def _note(item: Any) -> Note:
    """A kind and a text; in format 1.0 a text alone."""
    if isinstance(item, str):
        return Note("other", item)
    kind, text = item
    return Note(_match(NOTE_KIND, kind), _text(text))


def _notes_json(notes: tuple[Note, ...]) -> list[list[str]]:
    return [[note.kind, note.text] for note in notes]


def _check_errors(error2: float, norm2: float, decoded2: float, dot: float, largest: float) -> None:
    """Refuse sums that no values have, and such as overflow where they are pooled."""
    if not all(0 <= value < 1e100 for value in (error2, norm2, decoded2, abs(dot), largest)):
        raise ValueError("error sums that no values have")
    if error2 > 1e100 * max(norm2, 1e-200):
        raise ValueError("an error out of all proportion")


def _view(item: list[Any], unit: TensorSpec) -> View:
    if len(item) == 1:
        return View(_text(item[0]), unit)
    name, dtype, shape, offset, strides = item
    view = View(
        _text(name),
        _spec(dtype, shape),
        _integer(offset),
        None if strides is None else tuple(_integer(stride) for stride in strides),
    )
    if strides is not None and len(strides) != len(shape):
        raise ValueError(f"strides of {name!r}")
    if view.spec.info.packed and (strides is not None or offset * view.spec.info.bits % 8):
        raise ValueError(f"{name!r} begins within a byte, or has strides that do")
    if view.reach > unit.nbytes * 8:
        raise ValueError(f"{name!r} reaches out of its unit")
    return view


def _part(data: dict[str, Any]) -> Part:
    bits = data.get("bits")
    part = Part(
        name=_match(PART_NAME, data["name"]),
        spec=_spec(data["dtype"], data["shape"]),
        bits=None if bits is None else _integer(bits),
        storage=tuple(_text(chain) for chain in data["storage"]),
        chunk=_integer(data["chunk"]),
        chunks=tuple(
            Chunk(_integer(chain), _integer(size), _match(DIGEST64, digest)) for chain, size, digest in data["chunks"]
        ),
    )
    if not 1 <= part.chunk <= CHUNK_LIMIT:
        raise ValueError(f"chunks of {part.chunk} elements")
    if len(part.chunks) != -(-part.spec.elements // part.chunk):
        raise ValueError(f"{len(part.chunks)} chunks for {part.spec.elements} elements")
    if len(part.chunks) > 1 and part.chunk * part.spec.info.bits % 8:
        raise ValueError(f"chunks of {part.chunk} elements of {part.spec.dtype} end within a byte")
    if any(chunk.chain >= len(part.storage) for chunk in part.chunks):
        raise ValueError("a chunk of a storage chain that is not named")
    if part.bits is not None and (part.spec.dtype != "U8" or not 1 <= part.bits <= 8):
        raise ValueError(f"codes of {part.bits} bits in {part.spec.dtype}")
    if part.plain and part.size != part.spec.nbytes:
        raise ValueError(f"{part.size} plain bytes for {part.spec}")
    return part


def _check_layout(manifest: Manifest) -> None:
    """Units are disjoint and in the file, and the skeleton is the rest."""
    names = [":skeleton", ":manifest", *(name for name, _ in manifest.part_names())]
    if len(set(names)) != len(names):
        raise ArchiveError("the manifest makes no sense (two parts of one name)", DAMAGED)
    at = covered = 0
    for index, stored in enumerate(manifest.units):
        unit, same_as = stored.unit, stored.same_as
        if unit.start < at or unit.end > manifest.source_bytes:
            raise ArchiveError(f"the manifest makes no sense (unit {index} lies outside its place)", DAMAGED)
        if same_as is not None:
            other = manifest.units[same_as] if same_as < index else None
            fits = other is not None and other.unit.views and other.same_as is None and other.unit.spec == unit.spec
            if stored.parts or not fits:
                raise ArchiveError(f"the manifest makes no sense (unit {index} repeats no unit)", DAMAGED)
        elif len({part.name for part in stored.parts}) != len(stored.parts) or not stored.parts:
            raise ArchiveError(f"the manifest makes no sense (the parts of unit {index})", DAMAGED)
        if stored.base is not None and manifest.base is None:
            raise ArchiveError(f"the manifest makes no sense (unit {index} has a base, the archive none)", DAMAGED)
        at = unit.end
        covered += unit.spec.nbytes
    if manifest.source_bytes - covered != manifest.skeleton_bytes:
        raise ArchiveError("the manifest makes no sense (units and skeleton do not make up the source)", DAMAGED)
    if sum(checksum.length for checksum in manifest.checksums) > _PASSES * manifest.source_bytes:
        raise ArchiveError("the manifest makes no sense (checksums of more than the source)", DAMAGED)
    for checksum in manifest.checksums:
        last = max((at + 4 for at in checksum.fields), default=0)
        if max(last, checksum.start + checksum.length) > manifest.source_bytes:
            raise ArchiveError("the manifest makes no sense (a checksum outside the source)", DAMAGED)


def _spec(dtype: Any, shape: Any) -> TensorSpec:
    if dtype not in DTYPES or not isinstance(shape, list):
        raise ValueError(f"dtype {dtype!r}")
    spec = shared_spec(dtype, tuple(_integer(size) for size in shape))
    if spec.nbytes >= 1 << 62 or len(shape) > 64:
        raise ValueError(f"a tensor of {spec.nbytes} bytes")
    return spec


def _integer(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 1 << 62:
        raise ValueError(f"{value!r} is not a size")
    return value


def _text(value: Any) -> str:
    if type(value) is not str:
        raise ValueError(f"{value!r} is not a text")
    return value


def _match(pattern: re.Pattern[str], value: Any) -> str:
    if not pattern.fullmatch(_text(value)):
        raise ValueError(f"{value!r}")
    return str(value)


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")
