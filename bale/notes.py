"""Typed notes: remarks for the user, each of a kind. Code decides by the kind and never reads the words."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import ceil


@dataclass(frozen=True)
class Note:
    """A remark on a tensor, a file or a whole run.

    Parameters
    ----------
    kind : str
        A key of `KINDS`; archives of other versions may have others.
    text : str
        One line for people.
    """

    kind: str
    text: str

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class Kind:
    """Meaning of a kind, and the words that sum up several tensors with it; without words each stands for itself.

    `left` marks tensors that ``-p`` leaves lossless: their sum names the reason, the bytes and the largest.
    """

    meaning: str
    summary: str = ""
    left: bool = False


KINDS = {
    # tensors that -p leaves lossless
    "optimizer-state": Kind("optimizer state, by its name", left=True),
    "second-moment": Kind("optimizer state that is never negative and whose roots are divided by", left=True),
    "quantized": Kind("scales, zero points and tables of a checkpoint that is quantized already", left=True),
    "buffer": Kind("masks, running statistics, counters, ids and precomputed tables, by their names", left=True),
    "never-negative": Kind(
        "no value is negative, as in second moments, variances, scales and masks, and rarely in weights", left=True
    ),
    "dtype": Kind("not floating point", "not floating point", left=True),
    "small": Kind(
        "fewer dimensions or elements than without a rule",
        "fewer than 2 dimensions or 4,096 elements",
        left=True,
    ),
    "overlap": Kind(
        "tensors that share a part of their memory, are stored big-endian, or hold codes of a quantizer",
        "always lossless",
    ),
    # tensors for which a choice was made that did not suit them
    "refused": Kind("the codec cannot take the tensor", "chosen to be lossy and kept lossless"),
    "non-finite": Kind("NaN, infinity, or values beyond float32: never lossy", "kept lossless"),
    "grows": Kind("exact coding is no larger", "kept lossless, which is no larger"),
    "no-reference": Kind("the base has no tensor of this name and shape", "stored without the base"),
    "reference-unused": Kind("the base is of no use for the tensor", "stored without the base"),
    "paired": Kind(
        "the tensor of the base has another name, another number of rows, or is one of several",
        "matched with the base by content, rows or file",
    ),
    "dense": Kind("already dense: stored as it is"),
    "payload": Kind("payload that no tensor covers"),
    # harm that loss has done
    "vanished": Kind(
        "positive values, none of them negative, that come back as zero or below", "with values that vanished"
    ),
    "zeroed": Kind("more than half of the values that are not zero come back as zero", "with most values zeroed"),
    "rows-lost": Kind("more than a tenth of the rows have an error above 0.9", "with rows that are lost"),
    "zeros-moved": Kind(
        "many zeros, or whole rows of them, come back as other values", "whose zeros are zeros no more"
    ),
    "large-error": Kind("a relative error above 0.5", "with an error above 0.5"),
    "baseline-better": Kind("a quantizer would keep more in as many bytes", "that a quantizer would keep better"),
    "baseline": Kind("a quantizer would keep less in as many bytes, or was not compared"),
    # files
    "opaque": Kind("a file that no reader follows, coded as bytes"),
    "dangerous": Kind("a pickle names what can run code; bale never runs it"),
    "unknown-name": Kind("a pickle names what bale does not know"),
    "undescribed": Kind("tensors that are kept as bytes without a name"),
    "external": Kind("tensors whose data lie in another file than their model's"),
    "renewed": Kind("another file of a folder gets other checksums of lossy tensors when it is restored"),
    "nameless": Kind("the file that has the names of tensors does not lie beside them"),
    "unnamed": Kind("more than 1 % of a file, and 8 kB, lies in no tensor"),
    # folders
    "left-out": Kind("files, or shards of an index, that `--include` or `--exclude` leaves out"),
    "not-own": Kind("files in a compressed folder that is written over, which are not of it and stay"),
    "no-file": Kind("links that lead nowhere, pipes and sockets in a folder, which are left out"),
    "pattern-unused": Kind("an `--include` or `--exclude` that matches no file"),
    "by-product": Kind("archives and reports that lie beside their sources, and are passed over"),
    "archive": Kind("archives in the source, which are copied as they are"),
    "stand-in": Kind("an empty file, a Git LFS pointer, a web page or another text in the place of weights"),
    "broken": Kind("a file of a folder that begins as a format that it is not, and is not called like weights"),
    "index": Kind("an index of shards says what is not so"),
    "index-unused": Kind("an index of shards that are not here, or of none"),
    "shards-missing": Kind("some of a numbered set of shards are not here"),
    "same-tensors": Kind("a file holds the same tensors as another one"),
    # the run
    "rule-unused": Kind("a rule that matches nothing, or is wholly shadowed"),
    "few-bits": Kind("a plan has tensors below 1.5 bits a weight"),
    "unlike": Kind("query, key and value of one layer are coded by different codecs"),
    "unspent": Kind("more than a hundredth of a size is left unused"),
    "untouched": Kind("-p touches no tensor"),
    "preset": Kind("a file has the name of the preset that is used"),
    "statistics": Kind("statistics that are of no use"),
    "report-again": Kind("the archive was there already, and only its report was made"),
    "stale-report": Kind("the report beside an archive is of another one"),
    "no-gain": Kind("the archive is larger than its source"),
    "other": Kind("a remark of an archive of format 1.0, which has no kinds"),
}


_FEW = 3  # notes of one kind on files that stand each for itself

DENSE = Note("dense", "already dense: stored as it is")


@dataclass(frozen=True)
class Noted:
    """A tensor with notes, as far as summing up needs it.

    `error` is its relative error, None where there is none.
    """

    name: str
    nbytes: int
    error: float | None
    notes: tuple[Note, ...]


def summed_up(tensors: Iterable[Noted]) -> tuple[Note, ...]:
    """One note for each kind that tensors have: how many there are, and the worst of them.

    Parameters
    ----------
    tensors : iterable of Noted
        Each stored tensor once.
    """
    groups: dict[str, list[tuple[Noted, Note]]] = {}
    for tensor in tensors:
        for note in tensor.notes:
            kind = KINDS.get(note.kind)
            if kind is not None and (kind.left or kind.summary):
                groups.setdefault(note.kind, []).append((tensor, note))
    order = list(KINDS)
    return tuple(
        Note(kind, _left(kind, group) if KINDS[kind].left else _sum_up(kind, group))
        for kind, group in sorted(groups.items(), key=lambda item: order.index(item[0]))
    )


def notes_of_files(notes: Iterable[tuple[str, Note]], named: bool) -> tuple[Note, ...]:
    """Notes on files, each with the name of its file before it if that is wanted; many of a kind are one note."""
    groups: dict[str, list[tuple[str, Note]]] = {}
    for file, note in notes:
        groups.setdefault(note.kind, []).append((file, note))
    found: list[Note] = []
    for kind, group in groups.items():
        if named and len(group) > _FEW:
            name, note = group[0]
            found.append(Note(kind, f"{many(len(group), 'remark')} on files, such as {name}: {note.text}"))
        else:
            found += [Note(kind, f"{name}: {note.text}") if named else note for name, note in group]
    return tuple(found)


def _left(kind: str, group: list[tuple[Noted, Note]]) -> str:
    whole = size(sum(tensor.nbytes for tensor, _ in group))
    largest, note = max(group, key=lambda pair: pair[0].nbytes)
    example = f"such as {largest.name}" if len(group) > 1 else largest.name
    reason = KINDS[kind].summary or note.text
    return f"left lossless: {many(len(group), 'tensor')} ({whole}): {reason} ({example})"


def _sum_up(kind: str, group: list[tuple[Noted, Note]]) -> str:
    worst, note = max(group, key=lambda pair: (pair[0].error or 0.0, pair[0].nbytes))
    which = "" if len(group) == 1 else "the worst is " if worst.error else "such as "
    return f"{many(len(group), 'tensor')} {KINDS[kind].summary}: {which}{worst.name} ({note.text})"


def size(count: float) -> str:
    """Bytes for people."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.2f} TB"


def enough(count: float) -> str:
    """Bytes for people, rounded up."""
    if count < 1000:
        return size(ceil(count))
    tenth = 100
    while count >= 10000 * tenth:
        tenth *= 1000
    return size(tenth * ceil(count / tenth))


def many(count: int, noun: str) -> str:
    """A number of things, in words."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
