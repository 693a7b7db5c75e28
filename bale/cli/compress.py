"""Compress checkpoints into archives, verified and with a JSON report.

Every bit comes back unless a pipeline says otherwise (see bale codecs). A folder becomes a folder.

Example: bale compress model.safetensors -p trellis:bits=4 --rule '*embed*=int8' -o model-4.bale

Pipelines are written codec[:key=value,...], with stages joined by +, like trellis:bits=3.5 or int:bits=6,group=64; A/B
codes with B what A leaves over, like int4/exact. Rules name tensors by a pattern on the whole name: GLOB, whose *
crosses dots, or re: and a regular expression, like 're:.*(query|key)[.]weight=int8'; of a folder also FILE:GLOB. A
recipe is a TOML file with a [[rule]] for each: name (the pattern) or kind, pipeline or a budget (bits, max_error,
min_snr, mean_error), and if wanted min_ndim, max_ndim, min_elements, dtype, optional, why; a [budget] is for what no
rule names (docs/recipes.md). -r small and others are recipes that come with bale (bale recipes). The first match wins:
--rule in order, then the recipe, then -p or a budget; what nothing names stays lossless.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bale.cli import options
from bale.cli.each import Done, each
from bale.cli.folders import beside_totals
from bale.cli.given import Given, choose, given, places, shown, to_path
from bale.cli.render import (
    Printer,
    by_method,
    figure,
    file_bytes,
    many,
    percent,
    plain,
    prose,
    show_notes,
    size,
    terminal_width,
)
from bale.errors import UsageError
from bale.io.names import own_name

if TYPE_CHECKING:
    from bale.report.model import Report

NAME = "compress"


def command(
    source: options.Sources,
    out: Annotated[
        Given | None,
        typer.Option(
            "--output",
            "-o",
            parser=given,
            metavar="OUT",
            help="The archive, or the folder that it goes into: one that is there, or a name that ends in /. "
            "[default: SOURCE.bale; of a lossy one STEM.lossy.SUFFIX.bale]",
        ),
    ] = None,
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
    report: Annotated[
        Path | None,
        typer.Option("--report", parser=to_path, metavar="FILE", help="The JSON report. [default: OUT.report.json]"),
    ] = None,
    allow_unmatched: options.AllowUnmatched = False,
    skip_existing: Annotated[
        bool,
        typer.Option(
            "--skip-existing", help="Pass over sources whose archive is there: of the same bytes and the same choices."
        ),
    ] = False,
    no_verify: Annotated[
        bool, typer.Option("--no-verify", help="Do not read back, decode and compare what was written.")
    ] = False,
    for_: Annotated[
        str | None,
        typer.Option(
            "--for",
            metavar="LIBRARY",
            help="transformers: a model's folder loads by from_pretrained where bale.transformers is imported.",
        ),
    ] = None,
    fail_if: options.FailIf = None,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the archive when a --fail-if is true; exit 5.")] = False,
    threads: options.Threads = None,
    force: options.Force = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> int:
    """Compress each source."""
    from bale import api
    from bale.api.inputs import gates_of, renames_of
    from bale.io.folders.by_products import is_by_product, is_compressed_folder
    from bale.report.gates.gate import GatesFailed
    from bale.report.gates.vocabularies import COMPRESS, COMPRESS_WITH_STATISTICS

    printer, width = Printer(json, quiet), terminal_width()
    if for_ not in (None, "transformers"):
        raise UsageError(f"--for {for_} is not known", "there is --for transformers")
    if report is not None and len(source) > 1:
        raise UsageError("--report names one file, and there are several sources", "leave it out: each gets its own")
    gates_of(fail_if or (), COMPRESS if stats is None else COMPRESS_WITH_STATISTICS, keep)  # errors are of no source
    chosen = choose(printer, source, is_by_product, base)
    place = places(chosen, out, lambda path, to: os.path.isdir(path) and is_compressed_folder(to.path))
    choices = api.choices(
        pipeline,
        rule or (),
        recipe,
        base,
        stats,
        allow_unmatched,
        api.budget(
            max_size=max_size,
            bits=bits,
            max_error=max_error,
            mean_error=mean_error,
            min_snr=min_snr,
            weight=weight,
        ),
    )
    renames_of(rename or (), base)  # whose errors are of no source either
    made: dict[str, str] = {}

    def work(item: Given) -> Done:
        failure = None
        with printer.progress(own_name(item.path), file_bytes(item.path)) as progress:
            try:
                done = api.compress(
                    item.path,
                    place[item].out,
                    into=place[item].into,
                    recipe=choices,
                    base=base,
                    rename=rename or (),
                    stats=stats,
                    include=include or (),
                    exclude=exclude or (),
                    allow_unmatched=allow_unmatched,
                    report=report,
                    threads=threads,
                    force=force,
                    verify=not no_verify,
                    skip_existing=skip_existing,
                    fail_if=fail_if or (),
                    keep=keep,
                    made=made,
                    for_transformers=for_ is not None,
                    progress=progress,
                )
            except GatesFailed as failed:
                if not keep:
                    raise
                done, failure = failed.result, failed
        if done.path is not None:
            made[os.path.realpath(done.path)] = shown(item.path)
        totals, of = done.totals, shown(item.path) if chosen.several else ""
        before, after = totals["original_bytes"], totals["stored_bytes"]
        if done.skipped:
            sizes = f"there already, {size(before)} -> {size(after)}"
            text = f"{plain(shown(item.path))} -> {plain(str(done.path))}: {sizes}"
            show_notes(printer, {"notes": [note.text for note in done.notes], "tensors": ()}, None, of)
            return Done(done.to_json() if json else None, prose(text, width), before, after, True, failure)
        notes = show_notes(printer, {"notes": [note.text for note in done.all_notes], "tensors": ()}, width, of)
        if for_ is not None:
            printer.note("config.json names bale: from_pretrained loads the folder where bale.transformers is imported")
        summary = [line for text in lines(done, item.path) for line in prose(text, width)]
        return Done(done.to_json() if json else None, [*summary, *notes], before, after, failure=failure)

    return each(printer, chosen, work)


def lines(done: Report, source: Path) -> list[str]:
    """The summary of a report, for people."""
    totals = done.totals
    before, after = totals["original_bytes"], totals["stored_bytes"]
    state = "verified" if done.verified else "not verified"
    shares = f"{percent(after, before)}, {figure(totals['ratio'], '.2f')}x"
    if done.is_weights:
        shares += f", {figure(totals['bits_per_weight'], '.2f')} bits a weight"
    what = f"{plain(shown(source))} -> {plain(str(done.path))}"
    text = [f"{what}: {size(before)} -> {size(after)} ({shares}), {state}"]
    copied = None if done.folder is None else done.folder.copied.to_json()
    text += [f"  {plain(line)}" for line in beside_totals(totals, copied)]
    for name, row in by_method(totals["coverage"], "stored_bytes").items():
        text.append(
            f"  {name}: {many(row['tensors'], 'tensor')}, {size(row['original_bytes'])} -> {size(row['stored_bytes'])} "
            f"({percent(row['stored_bytes'], row['original_bytes'])})"
        )
    if done.exact:
        return [*text, "  every bit comes back"]
    lossy = totals["lossy"]
    snr = "" if lossy["snr_db"] is None else f", SNR {lossy['snr_db']:.1f} dB"
    worst = f"{figure(lossy['worst_relative_error'], '.3g')} at worst ({plain(lossy['worst_tensor'])})"
    text.append(
        f"  error of the {many(lossy['tensors'], 'lossy tensor')}: {figure(lossy['relative_error'], '.3g')} relative"
        f"{snr}; {worst}. It does not tell how well the model works"
    )
    outputs = totals["output_error"]
    if outputs is not None:
        mean, worst = (figure(outputs[key], ".3g") for key in ("mean", "worst"))
        where = f"{many(outputs['tensors'], 'tensor')}, {worst} at worst ({plain(outputs['worst_tensor'])})"
        text.append(f"  error of the outputs, by the statistics: {mean} relative on average of {where}")
    return text
