"""Stores the files of a source folder, one by one."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from importlib.metadata import version
from pathlib import Path

from bale.engine.folder.files import copy_file, is_file_of, is_inside, mark_config, sha256_of
from bale.engine.inputs import Inputs, Options
from bale.engine.reading.listing import SourceFolder
from bale.engine.resolved import ResolvedFile
from bale.engine.rows import file_row
from bale.engine.run import Run
from bale.engine.writing.archive import compress_file
from bale.errors import OutputError
from bale.io.archive.archive import open_archive
from bale.io.folders.marked import CONFIG
from bale.io.folders.record import COPY, Entry, Record
from bale.io.storage.commit import sync_folder
from bale.io.storage.files import reason, room_hint
from bale.io.storage.leftovers import remove_leftovers
from bale.report.files import FileRow


@dataclass
class FolderWriter:
    """Stores the files of a source folder, one by one, or finds that they are stored."""

    source: SourceFolder
    resolved: Mapping[str, ResolvedFile]
    out: Path
    run: Run
    inputs: Inputs
    options: Options
    folders: set[Path] = field(default_factory=set)

    def store(self, name: str, earlier: Entry | None) -> tuple[Entry, FileRow | None]:
        """Store a file; returns its entry, which is `earlier` if nothing has changed, and the row of a weights file."""
        if earlier is not None and self.is_current(name, earlier):
            self.run.progress(name, earlier.source_bytes)
            return earlier, self.row(name, earlier)
        self._make_folder((self.out / name).parent)
        if self._is_marked(name):
            source = self.source.path / name
            stored_bytes, stored_sha256 = mark_config(source, self.out / name)
            size = self.source.side[name]
            self.run.progress(name, size)
            return Entry(COPY, name, size, sha256_of(source), stored_bytes, stored_sha256, self._choices(name)), None
        if name not in self.source.checkpoints:
            size, sha256 = copy_file(
                self.source.path / name, self.out / name, None, force=True, verify=self.options.verify
            )
            self.run.progress(name, size)
            return Entry(COPY, name, size, sha256, size, sha256), None
        checkpoint, stored = self.source.checkpoints[name], f"{name}.bale"
        done = compress_file(
            self.resolved[name],
            self.out / stored,
            self.run,
            self.inputs,
            replace(self.options, force=True),
            one_of_many=True,
        )
        entry = Entry(
            checkpoint.kind,
            stored,
            checkpoint.size,
            done.manifest.source_sha256,
            done.size,
            done.sha256 or sha256_of(self.out / stored),
            self._choices(name),
        )
        return entry, done.row(name, stored)

    def other(self, found: Record, names: Sequence[str]) -> str | None:
        """The reason why the folder that is there is not the one that would be made; None if it is."""
        entries, wanted = found.entries, set(names)
        for name in names:
            if name not in entries:
                return f"it has no {name}"
            if not self.is_current(name, entries[name]):
                return f"its {name} is not what would be made: of other bytes or other choices, or damaged"
        if found.folders != self.source.folders:
            return "it is of other empty folders"
        extra = next((name for name in entries if name not in wanted), None)
        return None if extra is None else f"it has {extra}, which the source has not"

    def other_choices(self, found: Record) -> str | None:
        """An archive that is there and was made with other choices than those of now, if there is one."""
        for name in self.source.checkpoints:
            entry = found.entries.get(name)
            if entry is None or entry.choices in ("", self._choices(name)):  # none if it is to be made again
                continue
            if (self.out / entry.stored).is_file():
                return entry.stored
        return None

    def is_current(self, name: str, entry: Entry) -> bool:
        """Whether the stored form is there, is of the file as it is now, and is the one that would be made of it."""
        return (
            (entry.kind != COPY) == (name in self.source.checkpoints)
            and entry.choices == self._choices(name)
            and entry.is_marked == self._is_marked(name)
            and is_file_of(self.out / entry.stored, entry.stored_bytes, entry.stored_sha256)
            and is_file_of(self.source.path / name, entry.source_bytes, entry.source_sha256)
            and (entry.kind == COPY or self._has_same_units(name, entry))
        )

    def _has_same_units(self, name: str, entry: Entry) -> bool:
        """Whether an archive has the tensors of the file as it is read now: another file beside it may say which."""
        with open_archive(self.out / entry.stored) as archive:
            return tuple(each.unit for each in archive.manifest.units) == self.source.checkpoints[name].units

    def row(self, name: str, entry: Entry) -> FileRow | None:
        """The row of a weights file that has been stored before."""
        if entry.kind == COPY:
            return None
        with open_archive(self.out / entry.stored) as archive:
            return file_row(
                archive.manifest, name, entry.stored, archive.size, entry.stored_sha256, digest=archive.digest
            )

    def sync(self, stored_bytes: int) -> None:
        """Bring the names of all files, which have this many bytes together, to the disk."""
        try:
            for folder in self.folders:
                sync_folder(folder)
        except OSError as problem:
            hint = room_hint(problem, stored_bytes)
            raise OutputError(f"cannot write {self.out}: {reason(problem)}", hint) from None

    def _is_marked(self, name: str) -> bool:
        return name == CONFIG and self.options.for_transformers

    def _choices(self, name: str) -> str:
        """Digest of everything that determines the stored form of a file, except the file."""
        if name not in self.source.checkpoints:
            return "transformers" if self._is_marked(name) else ""
        lines = [*self._common, *(f"{each.pipeline} {each.rule}" for each in self.resolved[name].plan.decisions)]
        return hashlib.sha256("\n".join(lines).encode("utf-8", "surrogatepass")).hexdigest()

    @cached_property
    def _common(self) -> list[str]:
        """The choices that all files have."""
        base, statistics = self.inputs.base, self.inputs.statistics
        lines = [version("bale"), f"verify {self.options.verify}"]
        if base is not None:
            lines.append(f"base {base.path.resolve()} {base.stamp}")
        if statistics is not None:
            lines.append(f"stats {statistics.sha256}")
        return lines

    def _make_folder(self, folder: Path) -> None:
        """Make a folder of the target; one that leads out of it by a link is refused."""
        if folder in self.folders:
            return
        if not is_inside(folder, self.out):
            raise OutputError(f"{folder} leads out of {self.out}", "remove the link, or choose another place with -o")
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as problem:
            hint = room_hint(problem, 4096)  # a folder takes a block
            raise OutputError(f"cannot make the folder {folder}: {reason(problem)}", hint) from None
        if folder != self.out:
            remove_leftovers(folder)
        self.folders.add(folder)
