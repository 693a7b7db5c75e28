"""Check archives: every stored byte, then every decoded tensor, and the source if it is given.

With --against the tensors that are lossy are listed, the worst first, unless --sort says otherwise.

Example: bale verify model.safetensors.bale --against model.safetensors
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bale.cli import options, ranking
from bale.cli.each import Done, each
from bale.cli.given import Given, choose, to_path
from bale.cli.render import Printer, figure, many, plain, prose, size, table, terminal_width
from bale.errors import UsageError
from bale.io.names import own_name

if TYPE_CHECKING:
    from bale.api import Checked

NAME = "verify"


def command(
    archive: options.Archives,
    against: Annotated[
        Path | None,
        typer.Option("--against", parser=to_path, metavar="SOURCE", help="Compare with the source as well."),
    ] = None,
    base: options.KnownBase = None,
    fail_if: options.FailIf = None,
    threads: options.Threads = None,
    sort: ranking.SortOption = None,
    show_all: Annotated[bool, typer.Option("--all", help="With --against, show every tensor that is lossy.")] = False,
    top: ranking.TopOption = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> int:
    """Verify each archive."""
    from bale import api
    from bale.api.inputs import gates_of, readable
    from bale.engine.reading.listing import source_bytes
    from bale.engine.reports import stale
    from bale.io.folders.by_products import is_no_archive
    from bale.report.gates.gate import GatesFailed
    from bale.report.gates.vocabularies import VERIFY

    printer, width, choice = Printer(json, quiet), terminal_width(), ranking.Choice(sort, show_all, top)
    if against is not None and len(archive) > 1:
        raise UsageError("--against is the source of one archive, and there are several", "verify them one at a time")
    gates_of(fail_if or (), VERIFY)  # whose errors are of no archive

    chosen = choose(printer, archive, is_no_archive)
    for path in (base, against):
        readable(path)

    def work(item: Given) -> Done:
        path, failure = item.path, None
        with printer.progress(own_name(path), source_bytes(path)) as progress:
            try:
                done = api.verify(path, against, base=base, threads=threads, fail_if=fail_if or (), progress=progress)
            except GatesFailed as failed:
                done, failure = failed.result, failed
        if note := stale(done.report):
            printer.note(f"{path}: {note}")
        document = {
            "path": str(path),
            "ok": failure is None,
            "bytes": done.size,
            "files": done.files,
            "tensors": done.tensors,
            "lossy_tensors": [row.to_json() for row in done.lossy],
            "worst_tensor": max(done.lossy, key=lambda row: row.error).name if done.lossy else None,
            "exact": done.exact,
            "against": None if against is None else str(against),
            "report": done.report,
        }
        count = many(done.tensors, "tensor")
        kind = f"{count} bit for bit" if done.exact else f"{len(done.lossy)} of {count} lossy"
        compared = "" if against is None else f", as {plain(str(against))} has them"
        lines = [] if against is None or not done.lossy else _errors(done, choice, width)
        lines += prose(f"{plain(item.text)}: sound, {kind}{compared}, {size(done.size)}", width)
        return Done(document, lines, after=done.size, failure=failure)

    return each(printer, chosen, work, "sound")


_KEYS = ranking.Keys[Any](lambda row: row.error, lambda row: row.name, lambda row: row.nbytes)


def _errors(done: Checked, choice: ranking.Choice, width: int | None) -> list[str]:
    """The errors of lossy tensors, the worst first if nothing else was chosen."""
    rows, more = choice.first(done.lossy, _KEYS, width)
    cells = [(row.name, figure(row.error), figure(row.worst_row_error), figure(row.snr_db, ".1f")) for row in rows]
    lossless = done.tensors - len(done.lossy)
    return [
        *table(("tensor", "relative error", "worst row", "SNR dB"), cells, width=width, spare=("SNR dB",)),
        *more,
        *([f"{many(lossless, 'tensor')} equal, bit for bit"] if lossless else []),
    ]
