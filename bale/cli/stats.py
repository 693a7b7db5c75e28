"""Collect statistics of a model's inputs, for compress --stats.

The model runs on lines of text, by transformers and torch (pip install '.[transformers]' in a clone). Nothing is
fetched, and no code from the folder is run.

Example: bale stats model --text lines.txt -o stats.safetensors
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bale.cli import options
from bale.cli.given import to_path
from bale.cli.render import Printer, many, plain
from bale.io.names import own_name

NAME = "stats"


def command(
    model: Annotated[
        Path,
        typer.Argument(
            parser=to_path,
            metavar="MODEL_DIR",
            help="A transformers model: a folder with config, tokenizer and weights.",
        ),
    ],
    text: Annotated[
        Path,
        typer.Option(
            "--text",
            parser=to_path,
            metavar="FILE",
            help="What the model is to see, a text in each line. Required.",
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            parser=to_path,
            metavar="OUT",
            help="The file. [default: MODEL_DIR.stats.safetensors]",
        ),
    ] = None,
    length: Annotated[
        int,
        typer.Option(
            "--length", min=1, metavar="N", help="Tokens of a line at the most. [default: 256]", show_default=False
        ),
    ] = 256,
    lines: Annotated[
        int,
        typer.Option(
            "--lines", min=1, metavar="N", help="Lines that are read at the most. [default: 1000]", show_default=False
        ),
    ] = 1000,
    covariance: Annotated[
        bool, typer.Option("--covariance", help="Mean products of two inputs as well: more gain, slower, large files.")
    ] = False,
    threads: options.Threads = None,
    force: options.Force = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> int:
    """Collect them."""
    from bale.models.collect import collect
    from bale.models.lines import read_lines

    printer = Printer(json, quiet)
    found = read_lines(text, lines)
    with printer.progress(own_name(model), sum(len(line.encode()) for line in found)) as progress:
        done = collect(
            model,
            found,
            out,
            length=length,
            covariance=covariance,
            threads=threads,
            force=force,
            inputs=(text,),
            progress=progress,
        )
    for note in done.notes:
        printer.note(note)
    document = {"output": str(done.path), "tensors": done.tensors, "lines": done.lines, "tokens": done.tokens}
    source = f"{many(done.lines, 'line')}, {many(done.tokens, 'token')}"
    printer.result(document, [f"{plain(str(done.path))}: {many(done.tensors, 'tensor')}, from {source}"])
    return 0
