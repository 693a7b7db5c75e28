"""`decompress`: an archive becomes the checkpoint again."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO

from bale.api.inputs import PathLike, is_first, open_archives, readable
from bale.api.results import Decompressed
from bale.engine.extract import check_suffix, check_whole, extract_tensors
from bale.engine.folder.files import is_file_of
from bale.engine.folder.restoring import restore_folder
from bale.engine.guards import guard_bases
from bale.engine.reading.listing import complete_record
from bale.engine.restore import Restored, restore_file, stream_file
from bale.engine.run import Progress, Run
from bale.engine.targets import default_checkpoint, made_folder, with_name
from bale.errors import OutputError, UsageError
from bale.io.archive.archive import open_archive
from bale.io.storage.commit import check_target
from bale.io.storage.tree import Occupied


def decompress(
    archive: PathLike,
    out: PathLike | None = None,
    *,
    into: PathLike | None = None,
    tensors: Sequence[str] = (),
    base: PathLike | None = None,
    layers: int | None = None,
    threads: int | None = None,
    force: bool = False,
    skip_existing: bool = False,
    progress: Progress | None = None,
) -> Decompressed:
    """Give a checkpoint back; it appears only after every digest has been checked.

    Parameters
    ----------
    archive : path
        An archive, or a folder of them.
    out : path or None
        The target; None: the archive's name without ``.bale``.
    into : path or None
        In place of `out`: the folder that the target goes into, under the archive's name without ``.bale``; it is made
        if it is missing.
    tensors : sequence of str
        Name patterns (`fnmatch`, or ``re:``): only these are decoded, into a safetensors file, which `out` must name.
    base : path or None
        The base that the archive holds differences to; None: the one of its name beside the archive.
    layers : int or None
        1: of tensors with a second layer (``int4/exact``) only the first, lossy one.
    skip_existing : bool
        Whether a checkpoint that is there with every bit is left as it is: the result then has `skipped`.

    Raises
    ------
    ArchiveError, OutputError, UsageError
        See `bale.errors`; nothing is left behind.
    """
    archive = Path(archive)
    if tensors and into is not None:
        hint = f"name a file in it, like -o {Path(into) / 'out.safetensors'}"
        raise UsageError(f"--tensor writes one file, and {into} is a folder", hint)
    if tensors and out is None:
        raise UsageError("--tensor writes a file of its own", "name it with -o, like -o out.safetensors")
    if tensors and skip_existing:
        raise UsageError("--skip-existing knows whole checkpoints only", "leave out --skip-existing, or --tensor")
    target = Path(out) if out is not None else _target(archive, None if into is None else Path(into))
    first, base_path = is_first(layers), readable(base)
    if skip_existing and not first and (there := _restored_already(archive, target)) is not None:
        return there
    if not tensors:
        check_whole(archive, target)
    guard_bases(archive, target, base_path, whole=not tensors)
    with ExitStack() as stack:
        if into is not None:
            stack.enter_context(made_folder(target.parent))
        run = stack.enter_context(Run(threads, progress=progress))
        if tensors:
            check_suffix(target)
            check_target(target, force, (archive,))
            with open_archives(archive, threads, base_path, first, run) as opened:
                size, exact = extract_tensors(opened, tensors, target, run, force=force)
            return Decompressed(target, (target,), size, None, exact)
        if os.path.isdir(archive):
            try:
                files = restore_folder(archive, target, run, base=base_path, first=first, force=force)
            except Occupied as problem:
                if out is None:
                    raise
                into_it = f"end it in / (-o {out}/) to have the folder in it"
                raise OutputError(problem.message, f"{into_it}, or {problem.hint}") from None
            size = sum(path.stat().st_size for path in files)
            with open_archives(archive, threads, first=first) as opened:
                exact = opened.exact
            return Decompressed(target, tuple(files), size, None, exact)
        return _decompressed(restore_file(archive, target, run, base=base_path, first=first, force=force))


def decompress_to(
    archive: PathLike,
    stream: BinaryIO,
    *,
    base: PathLike | None = None,
    layers: int | None = None,
    threads: int | None = None,
) -> Decompressed:
    """Write the checkpoint of an archive to a binary stream; the parameters are those of `decompress`."""
    path = Path(archive)
    if os.path.isdir(path):
        raise UsageError(f"{path} is a folder, and cannot be written to a stream", "name a folder with -o")
    base_path = readable(base)
    with Run(threads) as run:
        return _decompressed(stream_file(path, stream, run, base=base_path, first=is_first(layers)))


def _target(archive: Path, into: Path | None) -> Path:
    """The path of the checkpoint where none was named, by the name of the archive."""
    named = with_name(archive)
    if into is not None and named.name and named.name != ".bale":
        return into / named.name.removesuffix(".bale")
    try:
        return default_checkpoint(archive)
    except UsageError:
        with open_archives(archive, 1):  # a file that is no archive is worse than one without a name
            pass
        raise


def _restored_already(archive: Path, target: Path) -> Decompressed | None:
    """The checkpoint of an archive, where it is there with every bit; None where it is not, or cannot be told."""
    if not os.path.lexists(target):
        return None
    if not os.path.isdir(archive):
        with open_archive(archive) as opened:
            manifest = opened.manifest
        if not manifest.exact or not is_file_of(target, manifest.source_bytes, manifest.source_sha256):
            return None
        return Decompressed(target, (target,), manifest.source_bytes, manifest.source_sha256, True, skipped=True)
    with open_archives(archive, 1) as several:
        if not several.exact:
            return None
    record = complete_record(archive)
    entries = record.entries
    if not all(is_file_of(target / name, each.source_bytes, each.source_sha256) for name, each in entries.items()):
        return None
    if not all(os.path.isdir(target / name) for name in record.folders):
        return None
    files = tuple(target / name for name in entries)
    return Decompressed(target, files, sum(each.source_bytes for each in entries.values()), None, True, skipped=True)


def _decompressed(done: Restored) -> Decompressed:
    return Decompressed(done.path, (done.path,), done.size, done.sha256, done.exact)
