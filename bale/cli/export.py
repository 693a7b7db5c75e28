"""Write what other software loads; nothing is quantized again.

The numbers of the archive are carried over, or its decoded values are written; a tensor that has no form in the format
is refused by name, with the setting that would give it one.

Example: bale export model.bale --to compressed-tensors -o model-int4
"""

from __future__ import annotations

from typing import Annotated

import typer

from bale.cli import options
from bale.cli.each import Done, each
from bale.cli.given import Given, choose, given
from bale.cli.render import Printer, file_bytes, many, plain, prose, size, terminal_width
from bale.io.names import own_name

NAME = "export"


def command(
    archive: Annotated[
        Given, typer.Argument(parser=given, metavar="ARCHIVE|FOLDER", help="An archive, or a folder of a model's.")
    ],
    to: Annotated[
        str, typer.Option("--to", metavar="FORMAT", help="safetensors, compressed-tensors, bitsandbytes, peft or gguf.")
    ],
    out: Annotated[
        Given,
        typer.Option(
            "--output",
            "-o",
            parser=given,
            metavar="OUT",
            help="The folder; of one archive a .safetensors file; for gguf the file.",
        ),
    ],
    dense: Annotated[
        list[str] | None,
        typer.Option("--dense", metavar="GLOB", help="Tensors that are written with their decoded values."),
    ] = None,
    lossy_scales: Annotated[
        bool, typer.Option("--lossy-scales", help="Round scales to the dtype that the format has for them.")
    ] = False,
    threads: options.Threads = None,
    force: options.Force = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> int:
    """Write a model in another format."""
    from bale.engine.reading.listing import source_bytes
    from bale.export.exporting import export

    printer = Printer(json, quiet)

    def work(item: Given) -> Done:
        with printer.progress(own_name(item.path), source_bytes(item.path)) as progress:
            done = export(
                item.path,
                to,
                out.path,
                dense=dense or (),
                lossy_scales=lossy_scales,
                threads=threads,
                force=force,
                progress=progress,
            )
        ways = ", ".join(f"{count} {way}" for way, count in done.counts.items())
        line = f"{plain(item.text)} -> {plain(str(done.path))}: {size(done.bytes)}, {many(len(done.schemes), 'tensor')}"
        lines = prose(f"{line}: {ways}", terminal_width())
        return Done(done.to_json(), lines, file_bytes(item.path), done.bytes)

    return each(printer, choose(printer, [archive], lambda path: False), work)
