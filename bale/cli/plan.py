"""Show what compress would do, tensor by tensor, with predicted sizes; writes nothing but --save.

Sizes, errors and times are predicted from a sample of at most a million elements a tensor, encoded as compress would.

Example: bale plan model.safetensors -p trellis:bits=4

Pipelines are written codec[:key=value,...], with stages joined by +; A/B codes with B what A leaves over. Rules name
tensors by a pattern on the whole name: GLOB, whose * crosses dots, or re: and a regular expression. The first match
wins: --rule in order, then the recipe (see bale compress --help), then -p or a budget; what nothing names stays
lossless.
"""

from __future__ import annotations

from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bale.cli import options
from bale.cli.folders import beside_totals
from bale.cli.given import shown, to_path
from bale.cli.render import (
    Printer,
    by_method,
    error_document,
    figure,
    file_bytes,
    many,
    percent,
    plain,
    print_error,
    prose,
    show_notes,
    size,
    sized_cells,
    sized_table,
    table,
    terminal_width,
    with_files,
)
from bale.errors import CheckFailed
from bale.io.names import own_name

if TYPE_CHECKING:
    from bale.api import Planned

NAME = "plan"


def command(
    source: Annotated[
        Path, typer.Argument(parser=to_path, metavar="SOURCE", help="A checkpoint, or a folder of weights.")
    ],
    pipeline: options.Pipeline = None,
    max_size: options.MaxSize = None,
    bits: options.Bits = None,
    max_error: options.MaxError = None,
    mean_error: options.MeanError = None,
    min_snr: options.MinSnr = None,
    weight: options.Weight = None,
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
    explain: Annotated[
        list[str] | None,
        typer.Option(
            "--explain", metavar="NAME", help="Explain the choice for a tensor, and what others would make of it."
        ),
    ] = None,
    exit_code: Annotated[bool, typer.Option("--exit-code", help="Exit with 5 if there are warnings.")] = False,
    fail_if: options.FailIf = None,
    threads: options.Threads = None,
    force: options.Force = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> int:
    """Plan one source."""
    from bale import api
    from bale.report.gates.gate import GatesFailed

    failure = None
    printer = Printer(json, quiet)
    budget = api.budget(
        max_size=max_size,
        bits=bits,
        max_error=max_error,
        mean_error=mean_error,
        min_snr=min_snr,
        weight=weight,
    )
    with printer.progress(own_name(source), file_bytes(source)) as progress:
        try:
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
                budget=budget,
                save=save,
                explain=explain or (),
                fail_if=fail_if or (),
                threads=threads,
                force=force,
                progress=progress,
            )
        except GatesFailed as failed:
            made, failure = failed.result, failed
    document = made.to_json() | ({} if failure is None else error_document(failure))
    width = terminal_width()
    head = ("tensor", "dtype", "shape", "pipeline", "bytes", "predicted", "b/w", "error", "SNR", "rule")
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
    lines += [line for text in _around(made, document) for line in prose(plain(text), width)]
    lines += [line for each in document["explained"] for line in _explanation(each, width)]
    if save is not None and failure is None:
        inputs = (("base", base), ("stats", stats))
        given = "".join(f" --{name} {quote(str(each))}" for name, each in inputs if each is not None)
        given += "".join(f" --rename {quote(each)}" for each in rename or ())
        lines += prose(plain(f"saved: bale compress {quote(str(source))} -r {quote(str(save))}{given}"), width)
    printer.result(document, [*lines, *show_notes(printer, named, width)])
    if failure is not None:
        print_error(failure)
        return failure.code
    if exit_code and made.warnings:
        problem = CheckFailed(
            f"the plan has {many(len(made.warnings), 'warning')}", "look at them, or leave --exit-code out"
        )
        print_error(problem)
        return problem.code
    return 0


def _around(made: Planned, document: dict[str, Any]) -> list[str]:
    """What the plan would take, what other budgets would bring, and warnings."""
    totals = document["totals"]
    lines = []
    for name, row in by_method(totals["coverage"], "predicted_bytes").items():
        sizes = f"{size(row['original_bytes'])} -> about {size(row['predicted_bytes'])}"
        lines.append(f"  {name}: {many(row['tensors'], 'tensor')}, {sizes}")
    seconds = max(1, round(totals["seconds"] / made.threads))
    memory, beside = size(totals["memory_bytes"]), size(totals["temporary_bytes"])
    lines.append(f"to be made in about {seconds} s, {memory} of memory at most, and {beside} beside the target")
    for met in made.budgets:
        if met.gain or met.loss:
            gained = f"10 % more bytes would gain {met.gain:.1f} dB, 10 % fewer lose {met.loss:.1f} dB"
            lines.append(f"{met.budget.origin}: {gained}")
    return lines + [f"warning: {text}" for text in document["warnings"]]


def _explanation(row: dict[str, Any], width: int | None) -> list[str]:
    """The choice for a tensor and others, in lines."""
    lines = prose(plain(f"{row['name']}: {row['pipeline']}, by {row['rule']}"), width)
    for note in row["notes"]:
        lines += prose(plain(f"  {note}"), width)
    cells = []
    for each in row["alternatives"]:
        error = "" if each["relative_error"] == 0 else figure(each["relative_error"], ".2g")
        snr = "" if each["snr_db"] is None else f"{each['snr_db']:.1f} dB"
        taken = size(each["predicted_bytes"]) if each["predicted_bytes"] is not None else each["reason"]
        cells.append([each["pipeline"], taken, figure(each["bits_per_weight"], ".2f"), error, snr])
    return [*lines, *table(("instead", "predicted", "b/w", "error", "SNR"), cells, left=1, width=width)]


def _cells(row: dict[str, Any]) -> list[str]:
    error = "" if row["relative_error"] == 0 else figure(row["relative_error"], ".2g")
    snr = "" if row["snr_db"] is None else f"{row['snr_db']:.1f}"
    return [*sized_cells(row, "predicted_bytes"), error, snr, row["rule"]]
