"""Give checkpoints back from archives; nothing appears before every digest has been checked.

Example: bale decompress model.safetensors.bale --tensor 'encoder.layer.0.*' -o layer0.safetensors
"""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from bale.cli import options
from bale.cli.each import Done, each
from bale.cli.given import Given, choose, given_or_stdout, places
from bale.cli.render import Printer, file_bytes, plain, prose, size, terminal_width
from bale.errors import UsageError
from bale.io.names import own_name

NAME = "decompress"


def command(
    archive: options.Archives,
    out: Annotated[
        Given | None,
        typer.Option(
            "--output",
            "-o",
            parser=given_or_stdout,
            metavar="OUT",
            help="The checkpoint, or the folder that it goes into: a name that ends in /, or one that is there (which, "
            "of a single folder of archives, is the checkpoint itself); - for stdout. [default: without .bale]",
        ),
    ] = None,
    tensor: Annotated[
        list[str] | None,
        typer.Option(
            "--tensor",
            metavar="GLOB",
            help="Only these tensors, into a safetensors file named with -o; of one tensor a .npy file.",
        ),
    ] = None,
    base: options.KnownBase = None,
    layers: Annotated[
        int | None,
        typer.Option("--layers", min=1, max=1, metavar="1", help="Of tensors with two layers (int4/exact) the first."),
    ] = None,
    skip_existing: Annotated[
        bool,
        typer.Option("--skip-existing", help="Pass over archives whose checkpoint is there already, by its digest."),
    ] = False,
    threads: options.Threads = None,
    force: options.Force = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> int:
    """Decompress each archive."""
    from bale import api
    from bale.api.inputs import readable
    from bale.engine.reading.listing import source_bytes
    from bale.io.folders.by_products import is_no_archive

    printer = Printer(json, quiet)
    if out is not None and out.text == "-":
        if len(archive) > 1 or tensor or json or skip_existing:
            what = "leave out --json, --tensor, --skip-existing and further archives"
            raise UsageError("-o - writes one whole checkpoint to stdout", what)
        api.decompress_to(archive[0].path, sys.stdout.buffer, base=base, layers=layers, threads=threads)
        return 0
    if tensor and len(archive) > 1:
        raise UsageError("--tensor takes one archive at a time")
    chosen = choose(printer, archive, is_no_archive)
    place = places(chosen, out, lambda path, to: os.path.isdir(path) and not to.text.endswith(os.sep))
    readable(base)

    def work(item: Given) -> Done:
        with printer.progress(own_name(item.path), source_bytes(item.path)) as progress:
            done = api.decompress(
                item.path,
                place[item].out,
                into=place[item].into,
                tensors=tensor or (),
                base=base,
                layers=layers,
                threads=threads,
                force=force,
                skip_existing=skip_existing,
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
        said = "there already, " if done.skipped else ""
        line = f"{plain(item.text)} -> {plain(str(done.path))}: {said}{size(done.size)}, {state}"
        lines = prose(line, terminal_width())
        return Done(document, lines, file_bytes(item.path), done.size, done.skipped)

    return each(printer, chosen, work)
