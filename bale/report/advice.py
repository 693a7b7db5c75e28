"""What `advise` found in a source, what each choice would make of it, and which command to use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bale.notes import Note
from bale.report.figures import finite_or_none, ratio


@dataclass(frozen=True)
class Group:
    """Tensors of one kind, or of one dtype, and their bytes."""

    name: str
    tensors: int
    size: int

    def to_json(self) -> dict[str, Any]:
        """A row of ``kinds`` or ``dtypes``."""
        return {"name": self.name, "tensors": self.tensors, "bytes": self.size}


@dataclass(frozen=True)
class Finding:
    """Something that tensors have in common.

    Attributes
    ----------
    kind : str
        ``duplicates``, ``exact-cast``, ``free-low-bits`` or ``quantized``.
    value : str
        What they repeat, the dtype that holds them, the number of bits, or the layout.
    tensors, size : int
        How many they are, and their bytes.
    example : str
        One of their names.
    """

    kind: str
    value: str
    tensors: int
    size: int
    example: str

    def to_json(self) -> dict[str, Any]:
        """A row of ``findings``."""
        return {
            "kind": self.kind,
            "value": self.value,
            "tensors": self.tensors,
            "bytes": self.size,
            "example": self.example,
        }


@dataclass(frozen=True)
class LowRank:
    """A tensor where factors of a low rank, and the rest, take fewer bits than the values: by so many bits a value."""

    name: str
    file: str
    bits: float
    rank: int
    rule: str

    def to_json(self) -> dict[str, Any]:
        """A row of ``low_rank``."""
        return {"name": self.name, "file": self.file, "bits": round(self.bits, 3), "rank": self.rank, "rule": self.rule}


@dataclass(frozen=True)
class Choice:
    """What options of `compress` would make of the source, about.

    Attributes
    ----------
    options : str
        Of `compress`; none is lossless.
    size : int
        Bytes of all that is stored.
    error : float
        Relative error of all that is lossy together; 0 where nothing is.
    worst : float
        Relative error of the tensor that loses most.
    compress, decompress : float or None
        Seconds with the threads of this run; None where that was not measured.
    """

    options: str
    size: int
    error: float = 0.0
    compress: float | None = None
    decompress: float | None = None
    worst: float = 0.0

    def to_json(self, original: int) -> dict[str, Any]:
        """A row of ``choices``."""
        return {
            "options": self.options,
            "predicted_bytes": self.size,
            "share": ratio(self.size, original),
            "relative_error": finite_or_none(self.error),
            "worst_relative_error": finite_or_none(self.worst),
            "compress_seconds": _seconds(self.compress),
            "decompress_seconds": _seconds(self.decompress),
        }


@dataclass(frozen=True)
class Sent:
    """A choice, or the source as it is, sent: seconds of each step; `options` is None for the source as it is."""

    options: str | None
    size: int
    compress: float
    send: float
    decompress: float

    @property
    def total(self) -> float:
        """Seconds end to end, one step after the other."""
        return self.compress + self.send + self.decompress

    def to_json(self) -> dict[str, Any]:
        """A row of ``transfer``."""
        return {
            "options": self.options,
            "bytes": self.size,
            "compress_seconds": _seconds(self.compress),
            "send_seconds": _seconds(self.send),
            "decompress_seconds": _seconds(self.decompress),
            "total_seconds": _seconds(self.total),
        }


@dataclass(frozen=True)
class Step:
    """What is advised: options of `compress`, or None for not to compress; the reason, and the risk in a sentence."""

    options: str | None
    why: str
    risk: str


@dataclass(frozen=True)
class Advice:
    """The result of `advise`.

    Attributes
    ----------
    name, kind, size
        Of the source.
    purpose : str
        ``storage``, ``transfer`` or ``inference``.
    low_rank : sequence of LowRank
        Empty where it pays nowhere.
    bandwidth : float or None
        Bytes a second, of a transfer.
    layers : mapping
        Bytes of the first layer of ``int4/exact`` alone (``first``) and of both (``both``), of a transfer.
    notes : sequence of Note
        On how the source was read.
    """

    name: str
    kind: str
    size: int
    purpose: str
    kinds: Sequence[Group]
    dtypes: Sequence[Group]
    findings: Sequence[Finding]
    low_rank: Sequence[LowRank]
    choices: Sequence[Choice]
    steps: Sequence[Step]
    threads: int = 1
    bandwidth: float | None = None
    transfer: Sequence[Sent] = ()
    layers: Mapping[str, int] = field(default_factory=dict)
    notes: Sequence[Note] = ()

    def to_json(self) -> dict[str, Any]:
        """The document of ``--json``; docs/advise.md explains its keys."""
        return {
            "source": {"name": self.name, "kind": self.kind, "bytes": self.size},
            "for": self.purpose,
            "threads": self.threads,
            "kinds": [each.to_json() for each in self.kinds],
            "dtypes": [each.to_json() for each in self.dtypes],
            "findings": [each.to_json() for each in self.findings],
            "low_rank": [each.to_json() for each in self.low_rank],
            "choices": [each.to_json(self.size) for each in self.choices],
            "bandwidth": self.bandwidth,
            "transfer": [each.to_json() for each in self.transfer],
            "layers": dict(self.layers),
            "notes": [note.text for note in self.notes],
            "advice": [{"options": each.options, "why": each.why, "risk": each.risk} for each in self.steps],
        }


def _seconds(value: float | None) -> float | None:
    return None if value is None else round(value, 6)
