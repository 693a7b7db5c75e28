"""Show what compress would do, tensor by tensor, with predicted sizes; writes nothing but --save.

Sizes, errors and times are predicted from a sample of at most a million elements a tensor, encoded as compress would.

Example: bale plan model.safetensors -p trellis:bits=4

Pipelines are written codec[:key=value,...], with stages joined by +; A/B codes with B what A leaves over. Rules name
tensors by a pattern on the whole name: GLOB, whose * crosses dots, or re: and a regular expression. The first match
wins: --rule in order, then the recipe (see bale compress --help), then -p; what nothing names stays lossless.
"""

from __future__ import annotations

from pathlib import Path
from shlex import quote
from typing import Annotated, Any

import typer

from bale.cli import options
from bale.cli.folders import beside_totals
from bale.cli.given import shown, to_path
from bale.cli.render import (
    Printer,
    figure,
    file_bytes,
    percent,
    plain,
    prose,
    show_notes,
    size,
    sized_cells,
    sized_table,
    terminal_width,
    with_files,
)
from bale.io.names import own_name

NAME = "plan"


def command(
    source: Annotated[
        Path, typer.Argument(parser=to_path, metavar="SOURCE", help="A checkpoint, or a folder of weights.")
    ],
    pipeline: options.Pipeline = None,
    recipe: options.Recipe = None,
    rule: options.Rule = None,
    base: options.Base = None,
    rename: options.Rename = None,
    stats: options.Stats = None,
    include: options.Include = None,
    exclude: options.Exclude = None,
    allow_unmatched: options.AllowUnmatched = False,
    save: Annotated[
        Path | None,
        typer.Option("--save", parser=to_path, metavar="FILE.toml", help="Write all choices, for bale compress -r."),
    ] = None,
    threads: options.Threads = None,
    force: options.Force = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> int:
    """Plan one source."""
    from bale import api

    printer = Printer(json, quiet)
    with printer.progress(own_name(source), file_bytes(source)) as progress:
        made = api.plan(
            source,
            pipeline=pipeline,
            rules=rule or (),
            recipe=recipe,
            base=base,
            rename=rename or (),
            stats=stats,
            include=include or (),
            exclude=exclude or (),
            allow_unmatched=allow_unmatched,
            save=save,
            threads=threads,
            force=force,
            progress=progress,
        )
    document = made.to_json()
    width = terminal_width()
    head = ("tensor", "dtype", "shape", "pipeline", "bytes", "predicted", "b/w", "error")
    totals = document["totals"]
    before, after = totals["original_bytes"], totals["predicted_bytes"]
    named = with_files(document)
    lines = sized_table(head, named["tensors"], _cells, width)
    lines += prose(f"{plain(shown(source))}: {size(before)} -> about {size(after)} ({percent(after, before)})", width)
    for text in beside_totals(totals, document.get("copied"), "predicted_bytes"):
        lines += prose(plain(text), width)
    if totals["relative_error"] != 0:
        snr = "" if totals["snr_db"] is None else f", SNR {totals['snr_db']:.1f} dB"
        error = figure(totals["relative_error"], ".3g")
        lines += prose(f"error of the lossy tensors: about {error} relative{snr}", width)
    if save is not None:
        inputs = (("base", base), ("stats", stats))
        given = "".join(f" --{name} {quote(str(each))}" for name, each in inputs if each is not None)
        given += "".join(f" --rename {quote(each)}" for each in rename or ())
        lines += prose(plain(f"saved: bale compress {quote(str(source))} -r {quote(str(save))}{given}"), width)
    printer.result(document, [*lines, *show_notes(printer, named, width)])
    return 0


def _cells(row: dict[str, Any]) -> list[str]:
    error = "" if row["relative_error"] == 0 else figure(row["relative_error"], ".2g")
    return [*sized_cells(row, "predicted_bytes"), error]
