"""Give checkpoints back from archives; nothing appears before every digest has been checked.

Example: bale decompress model.safetensors.bale --tensor 'encoder.layer.0.*' -o layer0.safetensors
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from bale.cli import options
from bale.cli.compress import places
from bale.cli.render import Printer, file_bytes, plain, size
from bale.errors import UsageError

NAME = "decompress"


def command(
    archive: options.Archives,
    out: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            parser=options.path,
            metavar="OUT",
            help="The checkpoint; - for stdout. [default: without .bale]",
        ),
    ] = None,
    tensor: Annotated[
        list[str] | None,
        typer.Option("--tensor", metavar="GLOB", help="Only these tensors, into a safetensors file named with -o."),
    ] = None,
    base: options.KnownBase = None,
    layers: Annotated[
        int | None,
        typer.Option("--layers", min=1, max=1, metavar="1", help="Of tensors with two layers (int4/exact) the first."),
    ] = None,
    threads: options.Threads = None,
    force: options.Force = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> int:
    """Decompress each archive."""
    from bale import api

    printer = Printer(json, quiet)
    if str(out) == "-":
        if len(archive) > 1 or tensor or json:
            raise UsageError(
                "-o - writes one whole checkpoint to stdout", "leave out --json, --tensor and further archives"
            )
        api.decompress_to(archive[0], sys.stdout.buffer, base=base, layers=layers, threads=threads)
        return 0
    if tensor and len(archive) > 1:
        raise UsageError("--tensor takes one archive at a time")
    targets = places(archive, out)

    def work(path: Path) -> tuple[dict[str, Any], list[str]]:
        with printer.progress(path.name, _source_bytes(path)) as progress:
            done = api.decompress(
                path,
                targets[path],
                tensors=tensor or (),
                base=base,
                layers=layers,
                threads=threads,
                force=force,
                progress=progress,
            )
        document = {
            "path": str(done.path),
            "bytes": done.size,
            "sha256": done.sha256,
            "exact": done.exact,
            "files": [str(file) for file in done.files],
        }
        state = "the tensors asked for" if tensor else "bit for bit" if done.exact else "with the losses of its report"
        return document, [f"{plain(str(path))} -> {plain(str(done.path))}: {size(done.size)}, {state}"]

    return printer.each(archive, work)


def _source_bytes(path: Path) -> int:
    """A rough total for the progress bar: an archive is somewhat smaller than its source."""
    return 3 * file_bytes(path) // 2
