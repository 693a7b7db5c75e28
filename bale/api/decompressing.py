"""`decompress`: an archive becomes the checkpoint again."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from bale.api.inputs import PathLike, is_first, open_archives, readable_base
from bale.api.results import Decompressed
from bale.engine.extract import extract_tensors
from bale.engine.folder import restore_folder
from bale.engine.guards import guard_bases
from bale.engine.restore import Restored, restore_file, stream_file
from bale.engine.run import Progress, Run
from bale.errors import UsageError
from bale.io.storage.commit import check_target


def decompress(
    archive: PathLike,
    out: PathLike | None = None,
    *,
    tensors: Sequence[str] = (),
    base: PathLike | None = None,
    layers: int | None = None,
    threads: int | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> Decompressed:
    """Give a checkpoint back; it appears only after every digest has been checked.

    Parameters
    ----------
    archive : path
        An archive, or a folder of them.
    out : path or None
        The target; None: the archive's name without ``.bale``.
    tensors : sequence of str
        Name patterns (`fnmatch`, or ``re:``): only these are decoded, into a safetensors file, which `out` must name.
    base : path or None
        The base that the archive holds differences to; None: the one of its name beside the archive.
    layers : int or None
        1: of tensors with a second layer (``int4/exact``) only the first, lossy one.

    Raises
    ------
    ArchiveError, OutputError, UsageError
        See `bale.errors`; nothing is left behind.
    """
    archive = Path(archive)
    if tensors and out is None:
        raise UsageError("--tensor writes a file of its own", "name it with -o, like -o out.safetensors")
    target = Path(out) if out is not None else default_checkpoint(archive)
    first, base_path = is_first(layers), readable_base(base)
    guard_bases(archive, target, base_path, whole=not tensors)
    with Run(threads, progress=progress) as run:
        if tensors:
            check_target(target, force, (archive,))
            with open_archives(archive, threads, base_path, first) as opened:
                size, exact = extract_tensors(opened, tensors, target, force=force)
            return Decompressed(target, (target,), size, None, exact)
        if os.path.isdir(archive):
            files = restore_folder(archive, target, run, base=base_path, first=first, force=force)
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
    base_path = readable_base(base)
    with Run(threads) as run:
        return _decompressed(stream_file(path, stream, run, base=base_path, first=is_first(layers)))


def default_checkpoint(archive: Path) -> Path:
    """The path where `decompress` puts the checkpoint of an archive."""
    if archive.suffix != ".bale" or not archive.stem:
        with open_archives(archive, 1):  # a file that is no archive is worse than one without a name
            pass
        raise UsageError(f"{archive} does not end in .bale, so the target has no name", "name it with -o")
    return archive.with_suffix("")


def _decompressed(done: Restored) -> Decompressed:
    return Decompressed(done.path, (done.path,), done.size, done.sha256, done.exact)
