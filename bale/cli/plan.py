"""Show what compress would do, tensor by tensor, with predicted sizes; writes nothing.

Sizes are predicted from a sample of at most a million elements a tensor.

Example: bale plan model.safetensors -p trellis:bits=4

Pipelines are written codec[:key=value,...], with stages joined by +; A/B codes with B what A leaves over. Rules name
tensors by a pattern on the whole name: GLOB, whose * crosses dots, or re: and a regular expression. The first match
wins: --rule in order, then the recipe (see bale compress --help), then -p; what nothing names stays lossless.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bale.cli import options
from bale.cli.render import (
    Printer,
    file_bytes,
    percent,
    plain,
    prose,
    size,
    sized_cells,
    sized_table,
    tell,
    terminal_width,
)

NAME = "plan"


def command(
    source: Annotated[
        Path, typer.Argument(parser=options.path, metavar="SOURCE", help="A checkpoint, or a folder of weights.")
    ],
    pipeline: options.Pipeline = None,
    recipe: options.Recipe = None,
    rule: options.Rule = None,
    base: options.Base = None,
    stats: options.Stats = None,
    allow_unmatched: options.AllowUnmatched = False,
    threads: options.Threads = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> int:
    """Plan one source."""
    from bale import api

    printer = Printer(json, quiet)
    with printer.progress(source.name, file_bytes(source)) as progress:
        made = api.plan(
            source,
            pipeline=pipeline,
            rules=rule or (),
            recipe=recipe,
            base=base,
            stats=stats,
            allow_unmatched=allow_unmatched,
            threads=threads,
            progress=progress,
        )
    document = made.to_json()
    width = terminal_width()
    head = ("tensor", "dtype", "shape", "pipeline", "bytes", "predicted", "b/w")
    totals = document["totals"]
    before, after = totals["original_bytes"], totals["predicted_bytes"]
    lines = sized_table(head, document["tensors"], lambda row: sized_cells(row, "predicted_bytes"), width)
    lines += prose(f"{plain(source.name)}: {size(before)} -> about {size(after)} ({percent(after, before)})", width)
    printer.result(document, [*lines, *tell(printer, document, width)])
    return 0
