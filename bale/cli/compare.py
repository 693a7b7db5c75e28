"""Compare two checkpoints or archives, tensor by tensor.

Errors take A for the original. They are errors of weights, which do not show how well a model works. The worst tensors
come first, and equal ones are one line. Places where both have the same infinity, or both NaN, are equal.

Tensors are paired by name; then without wrappers (module, _orig_mod, ...) and prefixes; and what is left by content. Of
a tensor with another number of rows, such as a vocabulary that grew, the rows that both have are measured.

Example: bale compare model.safetensors model-4.bale --max-error 0.1 --max-row-error 0.5
"""

from __future__ import annotations

from collections.abc import Sequence
from math import isinf
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bale.cli import options, ranking
from bale.cli.given import to_path
from bale.cli.render import (
    Printer,
    error_document,
    figure,
    file_bytes,
    many,
    plain,
    print_error,
    prose,
    show_notes,
    table,
    terminal_width,
)
from bale.errors import CheckFailed, UsageError
from bale.io.names import own_name

if TYPE_CHECKING:
    from bale.engine.compare.differences import Difference

NAME = "compare"


def command(
    a: Annotated[
        Path, typer.Argument(parser=to_path, metavar="A", help="A checkpoint, an archive, or a folder of either.")
    ],
    b: Annotated[Path, typer.Argument(parser=to_path, metavar="B", help="The same, for comparison.")],
    max_error: Annotated[
        float | None,
        typer.Option(
            "--max-error", metavar="E", help="Fail (exit 5) when a tensor's relative error is larger; 0: any bit."
        ),
    ] = None,
    max_row_error: Annotated[
        float | None,
        typer.Option(
            "--max-row-error",
            metavar="E",
            help="Fail (exit 5) when the relative error of a row of any tensor is larger; a vector is one row.",
        ),
    ] = None,
    rename: Annotated[
        list[str] | None,
        typer.Option(
            "--rename",
            metavar="re:PATTERN=NAME",
            help=r"The name in A of tensors of B whose whole name matches, or OLD*=NEW*.",
        ),
    ] = None,
    fail_if: options.FailIf = None,
    sort: ranking.SortOption = None,
    show_all: ranking.AllOption = False,
    top: ranking.TopOption = None,
    threads: options.Threads = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> int:
    """Compare A and B."""
    from bale import api
    from bale.report.gates.gate import GatesFailed

    for option, limit in (("--max-error", max_error), ("--max-row-error", max_row_error)):
        if limit is not None and not 0 <= limit < float("inf"):
            raise UsageError(f"{option} {limit} is not a relative error", "give a number from 0, like 0.01")
    printer, choice = Printer(json, quiet), ranking.Choice(sort, show_all, top)
    with printer.progress(f"{own_name(a)} and {own_name(b)}", file_bytes(a)) as progress:
        gates = None
        try:
            rows = api.compare(a, b, rename=rename or (), fail_if=fail_if or (), threads=threads, progress=progress)
        except GatesFailed as failed:
            rows, gates = failed.result, failed
    worst = [row for row in ranking.ranked(rows, _KEYS, ranking.Sort.error) if row.status != "equal"]
    worse = [row for row in worst if max_error is not None and row.exceeds(max_error)]
    lost = sorted(rows, key=lambda row: -row.row_error)
    lost = [row for row in lost if max_row_error is not None and row.exceeds_in_row(max_row_error)]
    found = rows.to_json()
    equal = found["summary"]["equal"]
    renamed = [row for row in rows if row.name_in_b is not None]
    document = {
        "a": str(a),
        "b": str(b),
        **found,
        "summary": {
            **found["summary"],
            "max_error": max_error,
            "exceeded": len(worse),
            "max_row_error": max_row_error,
            "exceeded_rows": len(lost),
        },
    }
    beyond = [
        *([_beyond(worse, f"--max-error {max_error:g}", _found(worse[0]))] if worse else []),
        *([_beyond(lost, f"--max-row-error {max_row_error:g}", _found_in_row(lost[0]))] if lost else []),
    ]
    failures = [*([CheckFailed("; ".join(beyond))] if beyond else []), *([] if gates is None else [gates])]
    if failures:
        document |= error_document(failures[-1])
        document["error"]["message"] = "; ".join(each.message for each in failures)
    width = terminal_width()
    shown, more = choice.first([row for row in rows if show_all or row.status != "equal"], _KEYS, width)
    lines = [*(_table(shown, width) if shown else []), *more]
    if renamed:
        example = f"{'such as ' if len(renamed) > 1 else ''}{renamed[0].name}, which is {renamed[0].name_in_b}"
        lines += prose(plain(f"{many(len(renamed), 'tensor')} under another name in B: {example}"), width)
    lines += prose(f"{equal} of {many(len(rows), 'tensor')} equal, bit for bit", width)
    printer.result(document, [*lines, *show_notes(printer, {**document, "tensors": ()}, width)])
    for failure in failures:
        print_error(failure)
    return failures[0].code if failures else 0


_KEYS = ranking.Keys[Any](lambda row: row.error, lambda row: row.name, lambda row: row.nbytes)


def _table(rows: Sequence[Difference], width: int | None) -> list[str]:
    head = ("tensor", "status", "dtype", "relative error", "worst row", "SNR dB", "max abs error", "cosine")
    cells = [
        (
            row.name,
            row.status,
            _dtype(row),
            figure(row.relative_error),
            figure(row.worst_row_error),
            figure(row.snr_db, ".1f"),
            figure(row.max_abs_error),
            figure(row.cosine, ".6f"),
        )
        for row in rows
    ]
    if width is None and any(row.remark for row in rows):
        return table((*head, "notes"), [(*each, row.remark) for each, row in zip(cells, rows, strict=True)], left=3)
    lines = table(head, cells, left=3, width=width, spare=("cosine", "max abs error", "SNR dB", "dtype"))
    remarks = [f"note: {plain(row.name)}: {row.remark}" for row in rows if row.remark]
    return [*lines, *(line for text in remarks for line in prose(text, width))]


def _dtype(row: Difference) -> str:
    """The dtype, or that in A and that in B."""
    return " -> ".join(dict.fromkeys(spec.dtype for spec in row.specs if spec is not None))


def _beyond(rows: Sequence[Difference], limit: str, found: str) -> str:
    """One line on the tensors beyond a limit, the worst first."""
    which = ", the worst is" if len(rows) > 1 else ":"
    return f"{many(len(rows), 'tensor')} beyond {limit}{which} {rows[0].name} ({found})"


def _found(row: Difference) -> str:
    if row.remark or row.status != "differs":
        return row.remark or row.status
    if row.relative_error is None:
        return "it cannot be measured" if row.max_abs_error is None else "it is all zeros in A"
    return f"a relative error of {row.relative_error:.4g}"


def _found_in_row(row: Difference) -> str:
    if row.worst_row_error is None or isinf(row.error):
        return _found(row)
    return "a row is all zeros in A" if isinf(row.row_error) else f"a row with an error of {row.row_error:.4g}"
