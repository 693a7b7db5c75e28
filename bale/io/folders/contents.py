"""The contents of a source folder: weights, files that are copied, and files that are neither."""

from __future__ import annotations

import codecs
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from bale.errors import SourceError, UsageError
from bale.io.archive.archive import begins_as_archive
from bale.io.checkpoint import Checkpoint
from bale.io.folders.by_products import pass_over
from bale.io.folders.file_list import Avoidable, list_files
from bale.io.folders.indexes import is_index_of_weights
from bale.io.folders.selection import ALL, Selection
from bale.io.folders.shards import absent, check_complete, check_followed, contradictions, incomplete_sets, read_indexes
from bale.io.sources.open import is_unknown, read_checkpoint
from bale.io.sources.tensorflow.data import TENSORFLOW, index_of, with_index
from bale.io.stand_ins import LFS, UNKNOWN, StandIn, Text, as_text, stand_in
from bale.io.storage.bytes import ByteSource
from bale.io.storage.files import reading
from bale.io.weight_names import (
    NEEDED_SUFFIXES,
    OTHER_SUFFIXES,
    SUFFIXES,
    TENSORFLOW_DATA,
    is_weights,
    numbered,
    same_model,
    set_of,
)
from bale.notes import Note, many, size

_HEAD = 4096  # bytes that are looked at
_WORTH_CODING = 1 << 20
"""Bytes of a file without a reader from which on it is coded, as weights by suffix are, unless it is a text."""


@dataclass(frozen=True)
class Contents:
    """The files of a folder.

    Attributes
    ----------
    checkpoints : dict
        What is coded, by name: weights, and large files that no reader recognizes.
    side : dict
        Bytes of the files that are copied as they are.
    stand_ins : dict
        Those of them that lie in the place of weights.
    folders : tuple of str
        Folders in it that hold nothing.
    """

    checkpoints: dict[str, Checkpoint]
    side: dict[str, int]
    stand_ins: dict[str, StandIn]
    notes: tuple[Note, ...]
    folders: tuple[str, ...] = ()


def examine(folder: Path, selection: Selection = ALL) -> Contents:
    """Read the structure of all files of a folder that are wanted, and check that they fit each other.

    Raises
    ------
    SourceError
        When weights are broken, or some of a set are missing or not fetched.
    UsageError
        When a pattern matches nothing, unless that is allowed.
    """
    listed = list_files(folder, selection)
    names, passed = pass_over(folder, listed.names)
    indexes, notes = read_indexes(folder, names)
    shards = {shard for index in indexes for shard in index.files}
    unmatched = selection.unmatched(chain(listed.names, listed.left_out, listed.no_files, shards))
    notes = [*_left_out(selection, listed.left_out, unmatched), *passed, *notes]
    notes += _no_files(folder, listed.no_files, shards)

    found = _Found({}, {}, {}, [], set(), notes)
    for name in names:
        found.add(folder, name, name in shards)
    for name in found.checkpoints:
        if f"{name}.bale" in found.side:
            message = f"{folder} has both {name} and {name}.bale, its archive's name"
            raise Avoidable(message, "move one of them away", f"{name}.bale")

    there = set(names)
    fetched = there.difference(found.stand_ins)
    bound: set[str] = set()
    for index in indexes:
        if index.problem is not None:
            note = check_followed(folder, index, index.problem, fetched)
            notes += [note] if index.name not in found.stand_ins else []  # which has one
            continue
        if index.files.isdisjoint(fetched):
            if index.files.isdisjoint(there) and index.files.isdisjoint(listed.left_out):
                notes.append(absent(index))
            continue
        bound |= index.files
        unwanted = {shard for shard in index.files if not selection.takes(shard)}
        check_complete(folder, index, there, unwanted)
        if unwanted:
            text = f"{index.name} names {many(len(unwanted), 'shard')} left out by {selection.options}"
            notes.append(Note("left-out", text))
        notes += contradictions(index, found.checkpoints)
    notes += incomplete_sets((name for name in found.checkpoints if name not in bound), listed.left_out)
    notes += _stand_ins(folder, found, bound, shards)
    found.bind()
    notes += _archives(found.archives)
    return Contents(found.checkpoints, found.side, found.stand_ins, tuple(notes), listed.empty)


def not_fetched(folder: Path, name: str, what: StandIn) -> Avoidable:
    """The error for weights in whose place something else lies."""
    return Avoidable(f"{folder / name} {what.words}", what.hint, name)


@dataclass(frozen=True)
class _Found:
    checkpoints: dict[str, Checkpoint]
    side: dict[str, int]
    stand_ins: dict[str, StandIn]
    archives: list[str]
    unknown: set[str]
    notes: list[Note]

    def add(self, folder: Path, name: str, named: bool) -> None:
        """Look at one file; `named` is one that an index names."""
        path = folder / name
        try:
            with reading(path, SourceError) as source:
                head = source.read(min(source.size, _HEAD), 0)
                is_named = named or is_weights(name, SUFFIXES + OTHER_SUFFIXES)
                what = stand_in(head) or (as_text(head) if is_named and is_unknown(path, head) else None)
                if what is not None and (what is LFS or is_named):
                    self.stand_ins[name] = what
                elif begins_as_archive(head):
                    self.archives.append(name)
                elif head:
                    if is_named and is_unknown(path, head) and not is_weights(name, OTHER_SUFFIXES):
                        self.unknown.add(name)
                    checkpoint = self._read(path, name, source, named)
                    if checkpoint is not None and _is_coded(checkpoint, head):
                        self.checkpoints[name] = checkpoint
                        return
                self.side[name] = source.size
        except SourceError as problem:
            raise Avoidable(problem.message, problem.hint, name) from None

    def bind(self) -> None:
        """Let data of TensorFlow be lossy whose index is restored beside it."""
        for name, checkpoint in self.checkpoints.items():
            index = index_of(name) if checkpoint.kind == TENSORFLOW else ""
            beside = self.checkpoints.get(index)
            if index in self.side or (beside is not None and beside.kind == "opaque"):
                self.checkpoints[name] = with_index(checkpoint)

    def _read(self, path: Path, name: str, source: ByteSource, named: bool) -> Checkpoint | None:
        """The structure of a file; None for a broken one that is not called like weights, of which a note tells."""
        try:
            return read_checkpoint(path, source)
        except SourceError as problem:
            if named or is_weights(name) or TENSORFLOW_DATA.fullmatch(name):
                raise
            self.notes.append(Note("broken", f"{name}{problem.message.removeprefix(str(path))}: it is copied as it is"))
            return None


def _is_coded(checkpoint: Checkpoint, head: bytes) -> bool:
    is_called = is_weights(checkpoint.path.name, SUFFIXES + OTHER_SUFFIXES) and not _is_any(checkpoint.path.name)
    return checkpoint.kind != "opaque" or ((checkpoint.size > _WORTH_CODING or is_called) and not _is_text(head))


def _is_any(name: str) -> bool:
    """Whether a name is one that all kinds of files have."""
    return name.lower().endswith(".bin")


def _is_text(head: bytes) -> bool:
    try:
        return "\0" not in codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        return False


def _left_out(selection: Selection, left_out: Mapping[str, int], unmatched: list[str]) -> Iterator[Note]:
    for pattern in unmatched:
        if not selection.allow_unmatched:
            hint = "it is for whole paths within the folder, like '*.bin' or 'onnx/*'"
            raise UsageError(f"{pattern} matches no file", hint)
        yield Note("pattern-unused", f"{pattern} matches no file")
    if left_out:
        whole = size(sum(left_out.values()))
        yield Note("left-out", f"{many(len(left_out), 'file')}, {whole}, left out by {selection.options}")


def _stand_ins(folder: Path, found: _Found, bound: Collection[str], shards: Collection[str]) -> Iterator[Note]:
    """Notes on what lies in the place of weights that are there in another format; an error for any other.

    Also one for what no reader knows among the shards of a set. A text that is no shard may be meant: a note is enough.
    """
    weights = [name for name, checkpoint in found.checkpoints.items() if checkpoint.kind != "opaque"]
    sets = {set_of(name) for name in weights if numbered(name)}
    models = {same_model(name) for name in weights}
    others = {**dict.fromkeys(sorted(found.unknown), UNKNOWN), **found.stand_ins} if found.checkpoints else {}
    for name, what in others.items():
        is_needed = name in bound or set_of(name) in sets
        is_there = same_model(name) in models or not (is_weights(name, NEEDED_SUFFIXES) or name in shards)
        is_meant = isinstance(what, Text) and name not in shards
        if is_needed or not (is_there or is_meant or what is UNKNOWN):
            raise not_fetched(folder, name, what)
        if what is not UNKNOWN:
            yield Note("stand-in", f"{name} {what.words}: it is copied as it is")


def _no_files(folder: Path, problems: Mapping[str, Avoidable], shards: Collection[str]) -> Iterator[Note]:
    """A note on links that lead nowhere, pipes and sockets; the error of one that stands for weights or their index."""
    for name, problem in problems.items():
        if name in shards or is_weights(name, SUFFIXES + OTHER_SUFFIXES) or is_index_of_weights(name):
            raise problem
    if problems:
        first, problem = next(iter(problems.items()))
        text = f"{first}{problem.message.removeprefix(str(folder / first))}"
        if len(problems) > 1:
            text = f"{len(problems)} links or pipes are no files, such as {text}"
        yield Note("no-file", f"{text}: left out")


def _archives(names: list[str]) -> Iterator[Note]:
    if names:
        which = f"{names[0]} is" if len(names) == 1 else f"{len(names)} files, such as {names[0]}, are"
        yield Note("archive", f"{which} compressed already, and copied")
